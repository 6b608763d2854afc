"""FIFO sources: order per group, whatever fails; groups don't wait for each other."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from router.core.models import Event, Outcome
from tests.support.fake_clock import play
from tests.support.router_world import World


def numbers(world: World, cell_id: str, key: str, groups: int) -> list[int]:
    """The order in which a key's events had their effect."""
    return [int(name[1:]) for name in world.cells.cells[cell_id].order if f"tenant-{int(name[1:]) % groups}" == key]


def assert_in_order(world: World, groups: int) -> None:
    """Check that no group has two events in the wrong order."""
    for number in range(groups):
        key = f"tenant-{number}"
        done = numbers(world, world.owner(key), key, groups)
        assert done == sorted(done), key


def test_each_group_is_processed_in_order_and_groups_in_parallel() -> None:
    """400 events over 20 groups: every group in order; far faster than one after the other."""
    world = World(fifo=True)
    for cell in world.cells.cells.values():
        cell.seconds = 0.1

    async def story() -> None:
        await world.send(400, key=lambda i: f"tenant-{i % 20}")
        begun = world.clock.now
        async with world.routing():
            await world.settled()
            assert world.clock.now - begun < 15  # one after the other: 40 s

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert_in_order(world, 20)
    assert all(len(hold) == 0 for hold in world.holds.values())


def test_a_failing_event_holds_up_its_group_alone_and_is_dead_lettered_at_max_attempts() -> None:
    """The events behind it in its group wait, and are processed after it is dead-lettered."""
    world = World(fifo=True, max_attempts=3)
    tries: Counter[str] = Counter()
    before: list[str] = []

    def behaviour(event: Event) -> Outcome:
        tries[event.event_id] += 1
        if event.event_id == "e25":  # of tenant-5, the second
            before[:] = [name for name in world.cells.effects() if int(name[1:]) % 20 == 5]
            return Outcome.FAILED
        return Outcome.OK

    for cell in world.cells.cells.values():
        cell.behaviour = behaviour

    async def story() -> None:
        await world.send(200, key=lambda i: f"tenant-{i % 20}")
        async with world.routing():
            await world.settled()
        (letter,) = await world.dead_letters()
        assert (letter.event_id, letter.reason, letter.attempts) == ("e25", "max_attempts", 3)

    play(world.clock, story())
    assert tries["e25"] == 3
    assert before == ["e5"]
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent - {"e25"}, 1))
    assert_in_order(world, 20)


@pytest.mark.parametrize("results_before_death", [0, 1, 7, 40])
def test_a_crash_breaks_no_order(results_before_death: int) -> None:
    """The dead cell's groups wait in the source; the others' go on."""
    world = World(fifo=True)
    victim = world.owner("tenant-1")
    world.cells.cells[victim].dies_after = results_before_death

    async def story() -> None:
        await world.send(400, key=lambda i: f"tenant-{i % 20}")
        async with world.routing():
            await world.clock.sleep(3)
            world.crash(victim)
            others = {f"e{i}" for i in range(400) if world.owner(f"tenant-{i % 20}") != victim}
            while others - world.cells.effects().keys():
                await world.clock.sleep(0.1)
            assert sum(world.cells.cells[victim].done.values()) <= results_before_death
            world.replace(victim)
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert_in_order(world, 20)
    assert len(world.dead) == 0


def test_a_drain_and_another_router_break_no_order() -> None:
    """What waits behind an event in flight is given back, and comes again after it."""
    world = World(fifo=True)
    for cell in world.cells.cells.values():
        cell.seconds = 0.2

    async def story() -> None:
        await world.send(300, key=lambda i: f"tenant-{i % 10}")
        for _ in range(4):
            async with world.routing():
                await world.clock.sleep(1.1)
        async with world.routing(), world.routing():
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert_in_order(world, 10)
    assert all(count == 1 for cell in world.cells.cells.values() for count in cell.deliveries.values())


def test_random_failures_break_no_order() -> None:
    """Every fifth try fails or is to be repeated; all are done in the end, each group in order."""
    world = World(fifo=True, max_attempts=50)

    def behaviour(_: Event) -> Outcome:
        chance = world.clock.jitter()
        return Outcome.FAILED if chance < 0.1 else Outcome.RETRY if chance < 0.2 else Outcome.OK

    for cell in world.cells.cells.values():
        cell.behaviour = behaviour

    async def story() -> None:
        await world.send(300, key=lambda i: f"tenant-{i % 10}")
        async with world.routing():
            await world.settled(6000)

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert_in_order(world, 10)


def test_a_malformed_message_of_a_group_goes_to_the_dead_letters_and_the_rest_goes_on() -> None:
    """The rest of the group is still processed in order."""
    world = World(fifo=True)

    async def story() -> None:
        await world.send(3, key=lambda _: "tenant-0")
        await world.send_raw("no json", group="tenant-0")
        await world.send(3, key=lambda _: "tenant-0")
        async with world.routing():
            await world.settled()
        assert [letter.reason for letter in await world.dead_letters()] == ["malformed"]

    play(world.clock, story())
    assert world.cells.cells[world.owner("tenant-0")].order == [f"e{i}" for i in range(6)]


def test_each_event_of_a_message_has_failures_of_its_own() -> None:
    """The failures of the first event are not counted against the second."""
    world = World(cells=1, fifo=True, max_attempts=3)
    tries: Counter[str] = Counter()

    def behaviour(event: Event) -> Outcome:
        name = json.loads(event.body)["s3"]["object"]["key"]
        tries[name] += 1
        return Outcome.FAILED if tries[name] <= {"a": 2, "b": 1}[name] else Outcome.OK

    world.cells.cells["cell-0000"].behaviour = behaviour
    records = [
        {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "b"}, "object": {"key": k}},
        }
        for k in ("a", "b")
    ]

    async def story() -> None:
        await world.send_raw(json.dumps({"Records": records}), group="g")
        async with world.routing():
            await world.settled()
        assert await world.dead_letters() == []

    play(world.clock, story())
    assert tries["b"] == 2
