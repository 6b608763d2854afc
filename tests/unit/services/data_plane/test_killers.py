"""Events that end every instance which begins them: each costs its cell few instances, and then nothing any more."""

from __future__ import annotations

import random  # noqa: TID251 - seeded, for worlds at random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from router.core.models import DeadLetterReason
from router.core.policy import FifoHead, Policy
from tests.support.fake_cells import FakeCell
from tests.support.fake_clock import play
from tests.support.router_world import World

HOUR_S = 3600


def at_once(cell: FakeCell) -> None:
    """It ends the process as soon as it is begun."""


def later(cell: FakeCell) -> None:
    """It runs for a while first, beside others that are answered."""
    cell.kills_after_s = 3.0


def blocking(cell: FakeCell) -> None:
    """It blocks the event loop until the lease has ended, and all that is in flight with it."""
    cell.blocks = True


WAYS = [at_once, later, blocking]


@pytest.mark.parametrize("way", WAYS)
def test_a_killer_event_ends_as_a_dead_letter_and_its_neighbours_are_done(way: Callable[[FakeCell], None]) -> None:
    """In 70 min four instances die of it; the letter names them; each other event of the cell has its one effect.

    Its quarantines last for up to 22 and 45 minutes, with what is added by lot.
    """
    world = World(cells=1)
    cell = world.cells.cells["cell-0000"]
    way(cell)
    keys = world.keys_of("cell-0000", 6)
    cell.kills = {"e7"}

    async def story() -> None:
        await world.send(60, key=lambda i: keys[i % 6])
        async with world.replacing(), world.routing():
            await world.send_steadily(dict.fromkeys(keys, 0.05), 70 * 60)
            await world.settled()
            assert len(world.quarantine) == 0

    play(world.clock, story())
    assert cell.deaths == 4
    (letter,) = play(world.clock, world.dead_letters())
    assert (letter.event_id, letter.reason) == ("e7", DeadLetterReason.KILLED_CELL)
    assert "killed its cell 4 times: generations 1, 2, 3, 4 died" in letter.error
    assert (letter.cell_id, letter.generation) == ("cell-0000", 4)
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent - {"e7"}, 1))


@pytest.mark.parametrize("way", WAYS)
def test_a_tenant_whose_every_event_kills_costs_few_instances(way: Callable[[FakeCell], None]) -> None:
    """Six in an hour, whether the tenant sent twenty such events before or sends them all the time."""
    world = World(cells=1)
    cell = world.cells.cells["cell-0000"]
    way(cell)
    killer, *others = world.keys_of("cell-0000", 6)
    cell.kills = {killer}

    async def story() -> None:
        await world.send(20, key=lambda _: killer)
        async with world.replacing(), world.routing():
            await world.send_steadily({killer: 0.05} | dict.fromkeys(others, 0.05), HOUR_S)
            await world.settled()

    play(world.clock, story())
    assert 3 <= cell.deaths <= 6
    done = world.cells.effects()
    assert all(done[name] == 1 for name, key in world.keys.items() if key != killer)


async def killed_at_a_new_router(world: World, cell: FakeCell, deaths: int, then_s: float) -> None:
    """Run a router of its own until the cell has died so often, and for some seconds more."""
    async with world.routing(f"router-{deaths}"):
        while cell.deaths < deaths:
            await world.clock.sleep(0.5)
        await world.clock.sleep(then_s)


def test_history_goes_from_router_to_router_through_quarantine() -> None:
    """Each try is at another router, which was not there at the one before; the registry keeps nothing of the key."""
    world = World(cells=1, quarantine_s=60)
    cell = world.cells.cells["cell-0000"]
    (key, *_) = keys = world.keys_of("cell-0000", 4)
    cell.kills = {"e0"}

    async def story() -> None:
        await world.send(8, key=lambda i: keys[i % 4])
        async with world.replacing():
            for deaths in (2, 3, 4):
                await killed_at_a_new_router(world, cell, deaths, then_s=5)
                policy = await world.registry.policy()
                world.registry.decided = policy.with_quarantine(key, None, world.clock.time_ms())
            async with world.routing("last"):
                await world.settled()

    play(world.clock, story())
    assert cell.deaths == 4
    (letter,) = play(world.clock, world.dead_letters())
    assert letter.event_id == "e0"
    assert "generations 1, 2, 3, 4" in letter.error
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent - {"e0"}, 1))


def test_each_quarantine_is_twice_as_long_as_the_one_before() -> None:
    """From the configured length on, counted by the key, so that also another killer of the key waits longer."""
    world = World(cells=1, max_kills=5)
    (key, *_) = keys = world.keys_of("cell-0000", 4)
    world.cells.cells["cell-0000"].kills = {"e0"}
    lengths: list[int] = []

    async def story() -> None:
        await world.send(8, key=lambda i: keys[i % 4])
        async with world.replacing(), world.routing():
            while not len(world.dead):
                found = (await world.registry.policy()).quarantined.get(key)
                if found and (length := (found.until_ms - found.since_ms) // 1000) not in lengths:
                    lengths.append(length)
                await world.clock.sleep(1)

    play(world.clock, story())
    assert lengths == [900, 1800, 3600]


@pytest.mark.parametrize("seed", range(6))
def test_no_innocent_event_is_dead_lettered_for_a_killer(seed: int) -> None:
    """Three routers, keys and killers at random, events of 10 ms to 1 s beside each other: only killers are."""
    lot = random.Random(seed)
    world = World(cells=1, quarantine_s=60)
    cell = world.cells.cells["cell-0000"]
    lot.choice(WAYS)(cell)
    keys = world.keys_of("cell-0000", lot.randint(1, 8))
    cell.kills = {f"e{lot.randrange(60)}" for _ in range(lot.randint(1, 2))}
    takes = {f"e{i}": lot.choice([0.01, 0.1, 1.0]) for i in range(60)}
    cell.time_of_event = lambda event: takes[event.event_id]

    async def story() -> None:
        await world.send(60, key=lambda _: lot.choice(keys))
        async with world.replacing(), AsyncExitStack() as routers:
            for number in range(3):
                await routers.enter_async_context(world.routing(f"router-{number}"))
            for _ in range(60 * 4):
                await world.clock.sleep(60)
                if len(world.dead) == len(cell.kills) and not len(world.quarantine):
                    break
            await world.settled()

    play(world.clock, story())
    letters = play(world.clock, world.dead_letters())
    assert {letter.event_id for letter in letters} == cell.kills
    assert len(letters) == len(cell.kills)
    assert set(world.cells.effects()) == world.sent - cell.kills


@pytest.mark.parametrize("seed", range(6))
def test_routers_do_not_try_a_killer_and_a_long_event_of_its_key_at_once_for_ever(seed: int) -> None:
    """Four routers, each with a suspect of its own; the killer takes a while, and the innocent ones take longer."""
    world = World(cells=1, quarantine_s=300)
    cell = world.cells.cells["cell-0000"]
    later(cell)
    cell.kills, cell.seconds = {f"e{seed}"}, 5.0

    async def story() -> None:
        await world.send(8, key=lambda _: "one")
        async with world.replacing(), AsyncExitStack() as routers:
            for number in range(4):
                await routers.enter_async_context(world.routing(f"router-{number}"))
            while len(world.source) or len(world.holds["cell-0000"]) or len(world.quarantine):
                await world.clock.sleep(60)

    play(world.clock, story())
    assert [letter.event_id for letter in play(world.clock, world.dead_letters())] == [f"e{seed}"]
    assert set(world.cells.effects()) == world.sent - cell.kills


@pytest.mark.parametrize("way", WAYS)
def test_the_head_of_a_fifo_group_that_kills_stops_its_group_alone(way: Callable[[FakeCell], None]) -> None:
    """Four instances die of it, and no more in hours. Its group waits for a person, and the age of its head is told."""
    world = World(cells=1, fifo=True)
    cell = world.cells.cells["cell-0000"]
    way(cell)
    (key, *_) = keys = world.keys_of("cell-0000", 4)
    cell.kills = {"e4"}  # the second of its group

    async def story() -> None:
        await world.send(16, key=lambda i: keys[i % 4])
        async with world.replacing(), world.routing() as router:
            await world.clock.sleep(2 * HOUR_S)
            found = (await world.registry.policy()).in_quarantine(key, world.clock.time_ms())
            assert found is not None
            assert (found.until_ms, found.killed) == (0, (1, 2, 3, 4))
            assert router.dispatcher.blocked_s("cell-0000") >= 2 * HOUR_S - 60
            assert world.cells.effects() == Counter(f"e{i}" for i in range(16) if i % 4 or not i)
            cell.kills = set()
            policy = await world.registry.policy()
            world.registry.decided = policy.with_quarantine(key, None, world.clock.time_ms())
            await world.settled(1200)
            assert router.dispatcher.blocked_s("cell-0000") == 0.0

    play(world.clock, story())
    assert cell.deaths == 4
    assert [name for name in cell.order if int(name[1:]) % 4 == 0] == ["e0", "e4", "e8", "e12"]


@pytest.mark.parametrize("way", WAYS)
def test_the_head_of_a_fifo_group_that_kills_is_skipped_by_policy(
    way: Callable[[FakeCell], None],
) -> None:
    """It is dead-lettered after four instances, and the events behind it follow in their order."""
    world = World(cells=1, fifo=True)
    world.registry.decided = Policy(fifo_head=FifoHead.SKIP)
    cell = world.cells.cells["cell-0000"]
    way(cell)
    keys = world.keys_of("cell-0000", 4)
    cell.kills = {"e4"}

    async def story() -> None:
        await world.send(16, key=lambda i: keys[i % 4])
        async with world.replacing(), world.routing():
            await world.settled(2 * HOUR_S)

    play(world.clock, story())
    assert cell.deaths == 4
    (letter,) = play(world.clock, world.dead_letters())
    assert (letter.event_id, letter.reason) == ("e4", DeadLetterReason.KILLED_CELL)
    assert [name for name in cell.order if int(name[1:]) % 4 == 0] == ["e0", "e8", "e12"]


def test_a_fifo_head_is_known_by_the_routers_that_come_after() -> None:
    """Its message can't carry its history, so the registry does; each router after the first adds one death."""
    world = World(cells=1, fifo=True, quarantine_s=120)
    cell = world.cells.cells["cell-0000"]
    (key, *_) = keys = world.keys_of("cell-0000", 4)
    cell.kills = {"e0"}

    async def story() -> None:
        await world.send(8, key=lambda i: keys[i % 4])
        async with world.replacing():
            for deaths in (2, 3, 4):
                await killed_at_a_new_router(world, cell, deaths, then_s=80)
        found = (await world.registry.policy()).in_quarantine(key, world.clock.time_ms())
        assert found is not None
        assert found.until_ms == 0

    play(world.clock, story())
    assert cell.deaths == 4


def test_a_fifo_tenant_whose_every_event_kills_is_skipped_slowly() -> None:
    """Each next head costs instances of its own, after quarantines that the key's history makes long."""
    world = World(cells=1, fifo=True)
    world.registry.decided = Policy(fifo_head=FifoHead.SKIP)
    cell = world.cells.cells["cell-0000"]
    killer, *others = world.keys_of("cell-0000", 6)
    cell.kills = {killer}

    async def story() -> None:
        await world.send(6, key=lambda _: killer)
        async with world.replacing(), world.routing():
            await world.send_steadily(dict.fromkeys(others, 0.1), 300)
            await world.clock.sleep(2 * HOUR_S)

    play(world.clock, story())
    assert 4 <= cell.deaths <= 6
    assert all(world.cells.effects()[name] == 1 for name in world.keys)
