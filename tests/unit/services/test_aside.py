"""FIFO groups that stand still go aside in order, and back, before they fill what SQS looks through for the others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random  # noqa: TID251 - seeded

import pytest

from router.core.errors import RegistryUnavailableError
from router.core.models import Depth, Draft
from router.core.policy import Quarantine
from router.core.slot_map.slots import slot_of
from tests.support.control_world import ControlWorld, Process, actions
from tests.support.fake_clock import FakeClock, play
from tests.support.faulty_source import Faults, FaultySource
from tests.support.memory_registry import Contents
from tests.support.strict_sqs import ShortSightedSource, StrictSource

LOOK_AHEAD = 300
OTHERS = {f"tenant-{i}": 0.2 for i in range(1, 5)}
STANDS = "tenant-0"


def world_of(cells: int = 2) -> ControlWorld:
    """A world whose source looks through 300 messages."""
    world = ControlWorld(cells, fifo=True)
    world.source = ShortSightedSource("source.fifo", world.clock, LOOK_AHEAD)
    world.aside = StrictSource("source-aside.fifo", world.clock)
    world.look_ahead = LOOK_AHEAD
    return world


class WellFed(FaultySource):
    """A source that fails its routers alone."""

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        return await self.inner.send(drafts)


async def stand_still(world: ControlWorld, for_s: float = 0) -> None:
    """Put the key in quarantine for so long; 0: until it is released."""
    now_ms = world.clock.time_ms()
    quarantine = Quarantine("a person's order", now_ms, now_ms + round(for_s * 1000) if for_s else 0)
    await world.decide(lambda policy: policy.with_quarantine(STANDS, quarantine, world.clock.time_ms()))


async def release(world: ControlWorld) -> None:
    """Let the key go on, as soon as somebody leads."""
    while True:
        try:
            return await world.decide(lambda policy: policy.with_quarantine(STANDS, None, world.clock.time_ms()))
        except RegistryUnavailableError:
            await world.clock.sleep(1)


def is_back(world: ControlWorld) -> bool:
    """Whether the registry has a map, and no slot is aside in it."""
    slot_map = world.control.contents.slot_map
    return slot_map is not None and not slot_map.aside


def done_of(world: ControlWorld, key: str) -> int:
    """How many events of the key have had their effect."""
    return sum(world.keys[name] == key for name in world.cells.order)


def test_others_go_on_while_a_group_is_longer_than_the_look_ahead_and_all_is_done_in_order() -> None:
    """The group grows to 400 messages, a third more than the queue looks through."""
    world = world_of()
    assert world.aside is not None
    aside = world.aside

    async def story() -> None:
        async with world.running(routers=2):
            await stand_still(world)
            await world.send_steadily({STANDS: 0.5, **OTHERS}, 800)
            assert done_of(world, STANDS) == 0
            late = world.clock.now
            await world.send_steadily(OTHERS, 20)
            await world.until(lambda: len(world.source) == 0, "others go on")
            assert max(world.latencies(OTHERS, late, world.clock.now)) < 30
            assert len(aside) == 400
            await release(world)
            await world.until(lambda: len(aside) == 0, "the group goes on")
            await world.until(lambda: is_back(world), "its slot comes back", 1200)
            await world.send_steadily({STANDS: 0.5, **OTHERS}, 20)
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert world.inversions() == []
    assert len(world.dead) == 0
    assert [name for name in actions(world.control.contents.audit) if "move" in name] == ["begin move", "end move"] * 2
    assert slot_of(STANDS) not in world.map().aside


def test_the_groups_of_a_cell_that_is_away_go_aside_and_the_other_cells_groups_go_on() -> None:
    """Its instances end as soon as they start; when one stays, all is done in order."""
    world = world_of()
    assert world.aside is not None
    aside = world.aside

    async def story() -> None:
        async with world.running():
            victim = world.map().cell_of(STANDS)
            well = next(key for key in OTHERS if world.map().cell_of(key) != victim)
            generation = world.control.contents.cells[victim].generation
            world.machines.broken.add(victim)
            world.machines.end(victim, generation)
            await world.send_steadily({STANDS: 0.6, well: 0.2}, 700)
            assert len(aside) > LOOK_AHEAD
            late = world.clock.now
            await world.send_steadily({well: 0.2}, 20)
            await world.until(lambda: len(world.source) == 0, "the others go on")
            assert max(world.latencies([well], late, world.clock.now)) < 30
            world.machines.broken.discard(victim)
            await world.until(lambda: len(aside) == 0, "the cell is there again", 900)

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert world.inversions() == []


def test_without_an_aside_queue_all_groups_stop() -> None:
    """Nothing says so but the figure of what waits: receives come back empty."""
    world = world_of()
    world.aside = None

    async def story() -> None:
        async with world.running():
            await stand_still(world)
            await world.send_steadily({STANDS: 0.5, **OTHERS}, 700)
            done = len(world.cells.order)
            await world.send_steadily(OTHERS, 60)
            assert len(world.cells.order) == done
            assert len(world.source) > LOOK_AHEAD

    play(world.clock, story())


def test_a_router_that_is_cut_off_before_overtakes_nothing() -> None:
    """By its map the group goes to its cell, and it knows when the quarantine ends: the cell refuses what it sends.

    Here it is alone for a while, so whatever is received, it receives.
    """
    world = world_of(cells=1)
    assert world.aside is not None
    aside = world.aside
    world.cells.cells["cell-0000"].seconds = 0.2

    async def story() -> None:
        async with world.running(routers=2) as (_, data):
            cut, other = data
            await stand_still(world, 500)
            await world.send_steadily({STANDS: 0.5}, 30)
            cut.wire.cut = True
            await world.send_steadily({STANDS: 0.5}, 460)
            assert world.map().aside
            assert world.cells.order == []
            other.kill()
            await world.send_steadily({STANDS: 2}, 30)
            assert world.cells.order == []
            cut.kill()
            data.append(world.routing_process("router-2"))
            await world.until(lambda: not (len(world.source) or len(aside)), "all is done")

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert world.inversions() == []


def test_a_router_that_is_cut_off_meanwhile_puts_nothing_aside_any_more() -> None:
    """The slots came back without it: what it put aside would come after what others send directly."""
    world = world_of(cells=1)
    assert world.aside is not None
    aside = world.aside

    async def story() -> None:
        async with world.running(routers=2) as (_, data):
            cut, other = data
            await stand_still(world)
            await world.send_steadily({STANDS: 0.5}, 460)
            await world.until(lambda: len(aside) > 0, "the group goes aside")
            cut.wire.cut = True
            await release(world)
            await world.until(lambda: is_back(world), "its slot comes back", 1200)
            other.kill()
            done = len(world.cells.order)
            await world.send_steadily({STANDS: 2}, 30)
            assert (len(aside), len(world.source), len(world.cells.order)) == (0, 60, done)
            cut.kill()
            data.append(world.routing_process("router-2"))
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert world.inversions() == []


class Late(StrictSource):
    """A queue whose figures are a minute old, as those of SQS may be."""

    def __init__(self, name: str, clock: FakeClock) -> None:
        super().__init__(name, clock)
        self._depths = [(clock.now, 0)]

    async def depth(self) -> Depth:
        known = (depth for at, depth in reversed(self._depths) if at <= self._clock.monotonic() - 60)
        return Depth(next(known, 0), 0, 0)

    def note(self) -> None:
        self._depths.append((self._clock.monotonic(), len(self)))


def test_slots_come_back_only_when_nothing_is_aside_whatever_figures_a_minute_old_say() -> None:
    """Each event takes half a minute, so what went aside in the last minute is there for long."""
    world, slot = world_of(cells=1), slot_of(STANDS)
    late = world.aside = Late("source-aside.fifo", world.clock)

    async def story() -> None:
        async with world.running():
            await world.decide(lambda policy: replace(policy, aside=frozenset({slot})))
            await world.until(lambda: world.map().aside == {slot}, "the slot is aside")
            world.cells.cells["cell-0000"].seconds = 30
            await world.send_steadily({STANDS: 1}, 10)
            await world.decide(lambda policy: replace(policy, aside=frozenset()))
            for _ in range(80):
                late.note()
                await world.send_steadily({STANDS: 0.1}, 10)
            assert is_back(world)
            world.cells.cells["cell-0000"].seconds = 0.01
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert world.inversions() == []


@pytest.mark.parametrize("seed", range(3))
def test_whatever_dies_nothing_is_lost_or_done_twice_or_out_of_order(seed: int) -> None:
    """Routers and leaders die and are cut off, queues lose replies and take batches in part, Redis is emptied."""
    world, chance = world_of(cells=1), Random(seed)
    faults = Faults(refused=0.02, lost_reply=0.02, partial=0.05)
    assert world.aside is not None
    source, aside = world.source, world.aside
    world.source = WellFed(source, faults, chance)  # type: ignore[assignment] # a queue all the same
    world.aside = FaultySource(aside, faults, chance)  # type: ignore[assignment]

    async def hurt(control: list[Process], data: list[Process], number: int) -> None:
        await world.clock.sleep(5 + 40 * chance.random())
        match chance.choice(("router", "router", "cut", "leader", "empty")):
            case "router":
                data.pop(chance.randrange(len(data))).kill()
                data.append(world.routing_process(f"router-{number}"))
            case "cut":  # it goes on by what it knows
                cut = data.pop(0)
                cut.wire.cut = True
                await world.clock.sleep(60)
                cut.kill()
                data.append(world.routing_process(f"router-{number}"))
            case "leader":
                control.pop(0).kill()
                control.append(world.controller(f"controller-{number}"))
            case _:
                world.control.contents = Contents()

    async def story() -> None:
        async with world.running(controllers=2, routers=2) as (control, data):
            await stand_still(world)
            sending = asyncio.create_task(world.send_steadily({STANDS: 0.4, **dict.fromkeys(OTHERS, 0.1)}, 600))
            number = 10
            while not sending.done():
                await hurt(control, data, number := number + 1)
            assert len(aside) > 100
            await release(world)
            for _ in range(4):
                await hurt(control, data, number := number + 1)
            await world.until(lambda: is_back(world), "the slot comes back", 1200)
            await world.send_steadily({STANDS: 0.4}, 20)
            await world.until(lambda: not (len(source) or len(aside)), "all is done")

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert world.inversions() == []
    assert len(world.dead) == 0
