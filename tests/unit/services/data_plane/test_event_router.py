"""The data plane as a whole, in memory and on virtual time: nothing lost, nothing twice, nobody held up."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections import Counter
from collections.abc import Sequence

import pytest

from router.adapters.memory import MemorySource
from router.core.models import Draft, Event, Message, Outcome
from router.core.telemetry import EventHeld
from tests.support.fake_clock import FakeClock, play
from tests.support.router_world import World


def test_every_event_is_processed_once_and_deleted() -> None:
    """The plain case: 500 events over 4 cells, in batches, no detours while the cells keep up."""
    world = World()

    async def story() -> None:
        async with world.routing():
            for _ in range(10):
                await world.send(50)
                await world.clock.sleep(0.5)
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert world.notes.count(EventHeld) == 0
    assert max(world.cells.batches) > 1


def test_each_key_goes_to_the_cell_that_owns_it() -> None:
    """A key's events go to the owner of its slot, and to no other cell."""
    world = World()

    async def story() -> None:
        await world.send(200)
        async with world.routing():
            await world.settled()

    play(world.clock, story())
    for number in range(200):
        owner = world.owner(f"tenant-{number % 50}")
        assert [c for c, cell in world.cells.cells.items() if cell.done[f"e{number}"]] == [owner]


@pytest.mark.parametrize("results_before_death", [0, 1, 7])
def test_a_crashed_cells_events_wait_and_are_processed_by_its_next_generation(results_before_death: int) -> None:
    """Answered, in flight or waiting at the death, each event is processed once, and none by another cell."""
    world = World()
    victim = world.owner("tenant-1")

    async def story() -> None:
        async with world.routing():
            await world.send(100)
            world.cells.cells[victim].dies_after = results_before_death
            await world.clock.sleep(1)
            world.crash(victim)
            await world.send(200)
            await world.clock.sleep(5)
            world.replace(victim)
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert {c for c, cell in world.cells.cells.items() if cell.done["e1"]} == {victim}
    assert len(world.dead) == 0


def test_a_dead_cell_holds_up_no_other() -> None:
    """While one of four is dead, the others' events are all processed, though its backlog is ten times the buffers."""
    world = World(max_messages=100)
    victim = world.owner("tenant-1")

    async def story() -> None:
        world.crash(victim)
        await world.send(2000)
        async with world.routing():
            others = {f"e{i}" for i in range(2000) if world.owner(f"tenant-{i % 50}") != victim}
            while others - world.cells.effects().keys():
                await world.clock.sleep(0.1)
            await world.clock.sleep(1)
            assert world.cells.effects() == Counter(dict.fromkeys(others, 1))
            assert len(world.holds[victim]) == 2000 - len(others)
            world.replace(victim)
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))


def test_a_slow_cell_holds_up_no_other() -> None:
    """Its events wait in its hold queue while the others' go on at full speed; later all are done."""
    world = World(max_messages=100)
    slow = world.owner("tenant-1")
    world.cells.cells[slow].seconds = 5

    async def story() -> None:
        await world.send(2000)
        others = {f"e{i}" for i in range(2000) if world.owner(f"tenant-{i % 50}") != slow}
        begun = world.clock.now
        async with world.routing():
            while others - world.cells.effects().keys():
                await world.clock.sleep(0.1)
            # Alone, each of the other three would need about 5 s for its 500 events of 10 ms.
            assert world.clock.now - begun < 15
            world.cells.cells[slow].seconds = 0.01
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))


def test_a_backlog_that_all_cells_share_waits_in_the_source() -> None:
    """Copying the backlog into hold queues would help no cell."""
    world = World(cells=1, max_messages=100)

    async def story() -> None:
        await world.send(2000)
        async with world.routing():
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert world.notes.count(EventHeld) == 0


def test_an_hour_without_cells_dead_letters_nothing() -> None:
    """Failures of the infrastructure never count as attempts."""
    world = World()

    async def story() -> None:
        for cell in world.cell_ids:
            world.crash(cell)
        await world.send(100)
        async with world.routing():
            await world.clock.sleep(3600)
            for cell in world.cell_ids:
                world.replace(cell)
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert len(world.dead) == 0


def test_a_poison_event_is_dead_lettered_at_max_attempts_and_nothing_else() -> None:
    """The dead letter says all that a person needs to know."""
    world = World(max_attempts=3)
    tries: Counter[str] = Counter()

    def behaviour(event: Event) -> Outcome:
        tries[event.event_id] += 1
        return Outcome.FAILED if event.event_id == "e7" else Outcome.OK

    for cell in world.cells.cells.values():
        cell.behaviour = behaviour

    async def story() -> None:
        await world.send(50)
        async with world.routing():
            await world.settled()
        (letter,) = await world.dead_letters()
        assert (letter.reason, letter.error, letter.event_id) == ("max_attempts", "said failed", "e7")
        assert (letter.attempts, letter.cell_id, letter.generation) == (3, world.owner("tenant-7"), 1)
        assert letter.source == "source"

    play(world.clock, story())
    assert tries["e7"] == 3
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent - {"e7"}, 1))


def test_an_event_too_large_to_be_held_waits_in_its_own_queue_and_its_failures_count() -> None:
    """A body of all but 1 MiB has no room for attributes: it is tried max_attempts times all the same, then dead."""
    world = World(cells=1, max_attempts=3)
    tries: Counter[str] = Counter()

    def behaviour(event: Event) -> Outcome:
        tries[event.event_id] += 1
        return Outcome.FAILED if event.event_id == "bad" else Outcome.RETRY if tries["good"] < 5 else Outcome.OK

    world.cells.cells["cell-0000"].behaviour = behaviour

    async def story() -> None:
        for name in ("bad", "good"):
            start = f'{{"event_id": "{name}", "tenant": "t", "x": "'
            await world.send_raw(start + "x" * (1024 * 1024 - len(start) - 2) + '"}', group="t")
        async with world.routing():
            await world.settled()
        (letter,) = await world.dead_letters()
        assert (letter.event_id, letter.reason, letter.attempts) == ("bad", "max_attempts", 3)

    play(world.clock, story())
    assert tries == {"bad": 3, "good": 5}


def test_rejected_and_malformed_go_to_the_dead_letter_queue_at_once() -> None:
    """The dead letters have their reasons and the original bodies."""
    world = World()
    for cell in world.cells.cells.values():
        cell.behaviour = lambda event: Outcome.REJECTED if event.event_id == "e3" else Outcome.OK

    async def story() -> None:
        await world.send(5)
        await world.source.send([Draft("no json"), Draft('{"x": 1}')])
        async with world.routing():
            await world.settled()
        letters = {letter.body: letter for letter in await world.dead_letters()}
        assert letters["no json"].reason == "malformed"
        assert "no partition key" in letters['{"x": 1}'].error
        assert {letter.reason for letter in letters.values()} == {"malformed", "rejected"}
        assert len(letters) == 3

    play(world.clock, story())


def test_an_event_that_takes_longer_than_the_visibility_is_not_delivered_twice() -> None:
    """A message stays hidden as long as the router has it."""
    world = World(cells=1)
    world.cells.cells["cell-0000"].seconds = 200

    async def story() -> None:
        await world.send(2)
        async with world.routing():
            await world.settled(3000)

    play(world.clock, story())
    assert world.cells.cells["cell-0000"].deliveries == Counter({"e0": 1, "e1": 1})


def test_an_outage_of_the_queues_loses_nothing() -> None:
    """Receives, deletes and sends all fail for a minute, with events in flight; afterwards the rest is done."""
    world = World()
    queues = [world.source, world.dead, *world.holds.values()]

    async def story() -> None:
        async with world.routing():
            await world.send(200)
            await world.clock.sleep(0.05)
            for queue in queues:
                queue.down = True
            await world.clock.sleep(60)
            for queue in queues:
                queue.down = False
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))


def test_a_drain_finishes_what_is_in_flight_and_frees_the_rest_at_once() -> None:
    """What was answered is deleted, what was not sent is visible again: another router gets it without waiting."""
    world = World(cells=2)
    for cell in world.cells.cells.values():
        cell.seconds = 0.5

    async def story() -> None:
        await world.send(300)
        async with world.routing():
            await world.clock.sleep(2)
        answered = sum(world.cells.effects().values())
        assert 0 < answered < 300
        assert len(world.source) + sum(len(hold) for hold in world.holds.values()) == 300 - answered
        for cell in world.cells.cells.values():
            cell.seconds = 0.01
        stopped_at = world.clock.now
        async with world.routing():
            await world.settled()
        assert world.clock.now - stopped_at < 30

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert all(count == 1 for cell in world.cells.cells.values() for count in cell.deliveries.values())


def test_a_router_that_dies_at_any_moment_loses_nothing() -> None:
    """Cancelled without a drain, again and again; the last one finishes the work."""
    world = World(cells=2)

    async def story() -> None:
        await world.send(300)
        for lifetime in (0.01, 0.02, 0.05, 0.1, 0.2, 0.4):
            running = asyncio.create_task(world.router().run(asyncio.Event()))
            await world.clock.sleep(lifetime)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        async with world.routing():
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))


def test_a_cell_that_refuses_gets_its_events_later() -> None:
    """After 409 or 503 the cell has taken nothing, and the events wait."""
    world = World(cells=1)
    world.cells.cells["cell-0000"].refuses = True

    async def story() -> None:
        await world.send(30)
        async with world.routing():
            await world.clock.sleep(10)
            world.cells.cells["cell-0000"].refuses = False
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert len(world.dead) == 0


class Endless(MemorySource):
    """A backlog of a million messages, made as they are asked for."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__("source", clock)
        self.left = 1_000_000
        self.deleted = 0

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        """The next ones."""
        await self._clock.sleep(0.001)
        self.left -= max_messages
        names = [f"e{self.left + i}" for i in range(max_messages)]
        padding = "x" * 1000
        return [
            Message(name, "r", f'{{"event_id":"{name}","tenant":"t{hash(name) % 50}","x":"{padding}"}}', 0, 1)
            for name in names
        ]

    async def delete(self, messages: Sequence[Message]) -> list[Message]:
        """Count them."""
        self.deleted += len(messages)
        return []


def test_a_backlog_of_a_million_leaves_memory_flat() -> None:
    """What the router holds after 8000 events is what it held after 2000, of a million (P9)."""
    world = World(cells=2, max_messages=400)
    source = world.source = Endless(world.clock)
    world.cells.keep = False
    world.notes.keep = False
    sizes: list[int] = []

    async def story() -> None:
        async with world.routing() as router:
            for events in (2_000, 8_000):
                while source.deleted < events:
                    await world.clock.sleep(0.1)
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
                assert len(router.inbox) <= 400

    tracemalloc.start()
    try:
        play(world.clock, story())
    finally:
        tracemalloc.stop()
    assert sizes[1] < 1.25 * sizes[0], sizes  # 30 bytes kept of each event would be more


def test_memory_is_bounded_whatever_the_backlog() -> None:
    """Never more messages here than permits, with slow cells and a hundred times as many waiting."""
    world = World(cells=2, max_messages=60)
    for cell in world.cells.cells.values():
        cell.seconds = 0.2
    most = 0

    async def story() -> None:
        nonlocal most
        await world.send(3000)
        async with world.routing() as router:
            for _ in range(300):
                await world.clock.sleep(0.1)
                most = max(most, len(router.inbox))

    play(world.clock, story())
    assert 0 < most <= 60
