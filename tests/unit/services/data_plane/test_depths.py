"""How many messages a router's queues have is told, of a FIFO source before SQS' look-ahead is used up."""

from __future__ import annotations

import pytest

from router.core.errors import SourceDeniedError
from router.core.lanes.latency import MeanAge
from router.core.models import HOLD_QUEUES, Depth
from router.core.policy import Policy, Quarantine
from router.core.telemetry import BadInput, QueueDepth
from router.services.data_plane.depths import ASK_EVERY_S
from tests.support.fake_clock import play
from tests.support.router_world import World


@pytest.mark.parametrize("fifo", [False, True])
def test_what_waits_in_quarantine_is_seen_to_grow(fifo: bool) -> None:
    """A FIFO source keeps the events of a key in quarantine; other sources give them to the quarantine queue."""
    world = World(cells=2, fifo=fifo)
    world.registry.decided = Policy(version=1, quarantined={"tenant-0": Quarantine("a person's order", 0, 0)})

    async def story() -> None:
        async with world.routing():
            for _ in range(3):
                await world.send(100, key=lambda i: f"tenant-{i % 2}")
                await world.clock.sleep(ASK_EVERY_S)
            await world.clock.sleep(2 * ASK_EVERY_S)

    play(world.clock, story())
    assert len(world.cells.effects()) == 150
    told = [record for record in world.notes.records if isinstance(record, QueueDepth)]
    of_source = [record.depth for record in told if record.queue == world.source.name]
    if fifo:
        assert of_source[0].messages < 110
        assert of_source[-1].messages == 150
        assert 130 <= of_source[-1].waiting <= 150  # some are here for a moment, to be looked at
    else:
        assert of_source[-1] == Depth(0, 0, 0)
        assert {record.queue: record.depth.messages for record in told}["quarantine"] == 150


def test_every_queue_is_told_of_once_a_minute() -> None:
    """The source, the dead letters, the quarantine queue, and the hold queue of each cell that there is."""
    world = World(cells=3)

    async def story() -> None:
        async with world.routing():
            await world.clock.sleep(5 * ASK_EVERY_S)

    play(world.clock, story())
    told = [record.queue for record in world.notes.records if isinstance(record, QueueDepth)]
    assert len(set(told)) == 6
    assert {told.count(queue) for queue in set(told)} <= {4, 5, 6}


def test_a_router_without_the_right_says_once_what_it_needs() -> None:
    """And goes on, ready."""
    world = World(cells=1, fifo=True)

    async def refuse() -> Depth:
        raise SourceDeniedError("AccessDenied")

    async def story() -> None:
        world.source.depth = refuse  # type: ignore[method-assign]
        async with world.routing():
            await world.send(10)
            await world.clock.sleep(5 * ASK_EVERY_S)
            await world.settled()

    play(world.clock, story())
    (told,) = [record for record in world.notes.records if isinstance(record, BadInput)]
    assert told.why == "AccessDenied; a router needs sqs:GetQueueAttributes to tell how many messages a queue has"


def test_how_old_the_messages_of_the_source_are_is_told_of_the_last_minute() -> None:
    """In each router's report: a mean, since one receive may bring only what is new. Nothing waits: 0."""
    world = World(cells=1, max_messages=20)

    async def story() -> list[int]:
        found = []
        async with world.routing():
            await world.clock.sleep(2 * ASK_EVERY_S)
            found.append(world.registry.reports[-1].ages["source"])
            world.cells.cells["cell-0000"].seconds = 5.0
            await world.send(600)
            await world.clock.sleep(2 * ASK_EVERY_S)
            found.append(world.registry.reports[-1].ages["source"])
            world.cells.cells["cell-0000"].seconds = 0.01
            await world.clock.sleep(3 * ASK_EVERY_S)
            found.append(world.registry.reports[-1].ages["source"])
        return found

    calm, busy, after = play(world.clock, story())
    assert (calm, after) == (0, 0)
    assert 60 <= busy <= 120


def test_the_mean_age_weighs_each_receive_by_how_long_it_was_the_last() -> None:
    """And begins anew each time that it is asked for."""
    age = MeanAge()
    assert age.take(5.0) is None
    age.note(10.0, 10.0)
    age.note(0.0, 13.0)
    assert age.take(20.0) == 3.0
    assert age.take(30.0) == 0.0
    age.note(40.0, 30.0)
    assert age.take(30.0) == 40.0


def test_what_all_hold_queues_hold_is_reported_only_when_each_has_said_it() -> None:
    """Scaling goes by it: a sum that leaves a queue out would look like less load."""
    world = World(cells=2)
    hold = world.holds["cell-0001"]
    depth = hold.depth

    async def some() -> Depth:
        return Depth(waiting=7, hidden=1, delayed=30)  # what is delayed is put off on purpose

    async def refuse() -> Depth:
        raise SourceDeniedError("AccessDenied")

    async def reported() -> dict[str, int]:
        await world.clock.sleep(2 * ASK_EVERY_S)
        return dict(world.registry.reports[-1].queues)

    async def story() -> None:
        async with world.routing():
            for answer, held in ((depth, 0), (some, 7), (refuse, None)):
                hold.depth = answer  # type: ignore[method-assign]
                assert (await reported()).get(HOLD_QUEUES) == held

    play(world.clock, story())
