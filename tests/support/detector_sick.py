"""Troubles in which an instance is to blame: another in its place is well."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from tests.support.detector_troubles import Trouble, joins, passing, slower
from tests.support.detector_world import LEADER, WARM, ColdStart, Path, World


def slow(times: float, cells: int = 1) -> Trouble:
    """Return a trouble: so many instances take so many times as long for everything."""

    def trouble(world: World) -> Iterator[None]:
        for cell in world.cells[:cells]:
            cell.instance.everything = times
        yield

    return trouble


def creep(times: float, seconds: int) -> Trouble:
    """Return a trouble: one instance's latency rises from once to so many times, evenly within these seconds."""

    def trouble(world: World) -> Iterator[None]:
        for at in range(seconds + 1):
            world.cells[0].instance.everything = 1 + (times - 1) * at / seconds
            yield

    return trouble


def newcomer(times: float, cold: ColdStart = WARM) -> Trouble:
    """Return a trouble: a cell is added whose instance is so slow from its first event on, and starts cold as well."""

    def trouble(world: World) -> Iterator[None]:
        cell = joins(world)
        cell.instance.everything = times
        cell.starts(cold)
        yield

    return trouble


def under_load(seconds: int, demand: float) -> Trouble:
    """Return a trouble: one instance is three times as slow, while its load grows to `demand` times the usual."""

    def trouble(world: World) -> Iterator[None]:
        world.cells[0].instance.everything = 3
        for at in range(seconds + 1):
            world.cells[0].demand = 1 + (demand - 1) * at / seconds if seconds else demand
            yield

    return trouble


def storage(world: World) -> Iterator[None]:
    """Make one instance's calls to S3 ten times as slow, and nothing else of it."""
    world.cells[0].instance.storage = 10
    yield


def dear_events(world: World) -> Iterator[None]:
    """Make the dearest fifth of one cell's events ten times as slow."""
    world.cells[0].instance.dear = 10
    yield


def component(world: World) -> Iterator[None]:
    """Make the component of an instance ten times as slow that 40 % of the tenants need."""
    cell = world.cells[0]
    keys = [tenant.key for tenant in cell.tenants]
    cell.instance.component = 10
    cell.instance.keys = frozenset(world.draw.sample(keys, round(0.4 * len(keys))))
    yield


def flapping(world: World) -> Iterator[None]:
    """Make one instance four times as slow for 10 s of every 30 s."""
    for _ in range(6):
        for times, seconds in ((4, 10), (1, 20)):
            world.cells[0].instance.everything = times
            yield from passing(seconds)


def bad_thread(world: World) -> Iterator[None]:
    """Make 30 % of what one instance does ten times as slow: that which gets the bad thread or disk."""
    world.cells[0].instance.share, world.cells[0].instance.hit = 0.3, 10
    yield


def throttled(world: World) -> Iterator[None]:
    """Take most of its CPU from one instance: work takes twice as long, and a third of it waits 300 ms longer."""
    instance = world.cells[0].instance
    instance.cpu, instance.share, instance.hit_s = 2, 0.33, 0.3
    yield


def lossy_interface(world: World) -> Iterator[None]:
    """Let one instance lose a packet in every tenth exchange, from wherever: 200 ms to 1 s."""
    world.cells[0].instance.share, world.cells[0].instance.hit_s = 0.1, 0.6
    yield


def noisy_host(world: World) -> Iterator[None]:
    """Make two instances six times as slow with their CPU, since their host is busy."""
    for cell in world.cells[:2]:
        cell.instance.cpu = 6
    yield


def leak(world: World) -> Iterator[None]:
    """Let one instance collect garbage for longer and longer: up to half of what it does waits 1 s."""
    instance = world.cells[0].instance
    instance.hit_s = 1.0
    for at in range(91):
        instance.share = 0.5 * at / 90
        yield


def bad_replacement(world: World) -> Iterator[None]:
    """Replace one instance by another that is three times as slow from its first event on."""
    world.cells[0].replace()
    world.cells[0].instance.everything = 3
    yield


def in_a_slow_fleet(world: World) -> Iterator[None]:
    """Make one instance three times as slow, while all cells take 1.4 times as long as usual."""
    for cell in world.cells:
        slower(1.4)(cell)
    world.cells[0].instance.everything = 3
    yield


def before_a_new_leader(world: World) -> Iterator[None]:
    """Make one instance three times as slow; five seconds later another controller leads."""
    world.cells[0].instance.everything = 3
    yield from passing(5)
    world.leaders += 1
    yield


def beside_a_slow_path(world: World) -> Iterator[None]:
    """Make one instance three times as slow, while the leader's path to another takes 100 ms longer."""
    world.cells[0].instance.everything = 3
    world.cells[-1].paths[LEADER] = Path(0.1)
    yield


def stalling(world: World) -> Iterator[None]:
    """Let one instance stand still for 2 s of every 6 s, by disk or by memory: what it does then takes 2 s longer."""
    instance = world.cells[0].instance
    for at in count():
        instance.share, instance.hit_s = (1.0, 2.0) if at % 6 < 2 else (0.0, 0.0)
        yield
