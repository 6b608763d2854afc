"""How much waits in a FIFO source is told before SQS' look-ahead is used up."""

from __future__ import annotations

import pytest

from router.core.errors import SourceDeniedError
from router.core.policy import Policy, Quarantine
from router.core.telemetry import BadInput, FifoWaiting
from router.services.data_plane.fifo.look_ahead import ASK_EVERY_S
from tests.support.fake_clock import play
from tests.support.router_world import World


@pytest.mark.parametrize("fifo", [False, True])
def test_a_group_that_stands_still_is_seen_to_grow(fifo: bool) -> None:
    """Its key is in quarantine; all others are done. A standard queue has no look-ahead and is not asked."""
    world = World(cells=2, fifo=fifo)
    world.registry.decided = Policy(version=1, quarantined={"tenant-0": Quarantine("a person's order", 0, 0)})

    async def story() -> list[int]:
        async with world.routing():
            for _ in range(3):
                await world.send(100, key=lambda i: f"tenant-{i % 2}")
                await world.clock.sleep(ASK_EVERY_S)
            await world.clock.sleep(ASK_EVERY_S)
            found = [record for record in world.notes.records if isinstance(record, FifoWaiting)]
            assert {record.queue: record.messages for record in found}.get("source-aside.fifo", 0) == 0
            return [record.messages for record in found if record.queue == world.source.name]

    told = play(world.clock, story())
    assert len(world.cells.effects()) == 150
    if fifo:
        assert told[0] < 110
        assert 130 <= told[-1] <= 150  # some are here for a moment, to be looked at
    else:
        assert told == []


def test_a_router_without_the_right_says_once_what_it_needs() -> None:
    """And goes on, ready."""
    world = World(cells=1, fifo=True)

    async def refuse() -> int:
        raise SourceDeniedError("AccessDenied")

    async def story() -> None:
        world.source.waiting = refuse  # type: ignore[method-assign]
        async with world.routing():
            await world.send(10)
            await world.clock.sleep(5 * ASK_EVERY_S)
            await world.settled()

    play(world.clock, story())
    (told,) = [record for record in world.notes.records if isinstance(record, BadInput)]
    assert told.why == (
        "AccessDenied; a router needs sqs:GetQueueAttributes to tell when its look-ahead is nearly used up"
    )
