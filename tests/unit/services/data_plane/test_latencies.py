"""How long an event took is told in its parts: in the queue, in the lane, at the cell, and all of it."""

from __future__ import annotations

from typing import TypeVar

import pytest
from prometheus_client import generate_latest

from router.adapters.metrics.router import RouterMetrics
from router.core.models import HoldCause, Outcome
from router.core.telemetry import BatchSent, EventAnswered, EventHeld, MessagesReceived
from tests.support.fake_clock import play
from tests.support.router_world import World

R = TypeVar("R")


def told_of(world: World, kind: type[R]) -> list[R]:
    """The records of a kind that the routers gave."""
    return [record for record in world.notes.records if isinstance(record, kind)]


def test_the_parts_of_an_events_time_add_up() -> None:
    """Ten events wait for 20 s before a router comes up; each is told of once."""
    world = World(cells=1)

    async def story() -> None:
        await world.send(10)
        await world.clock.sleep(20)
        async with world.routing():
            await world.settled()

    play(world.clock, story())
    received = [record for record in told_of(world, MessagesReceived) if record.count]
    waits = [wait for record in received for wait in record.waits_s]
    assert len(waits) == 10
    assert all(20 <= wait < 25 for wait in waits)
    assert max(record.oldest_s for record in received) == max(waits)
    in_lane = [wait for record in told_of(world, BatchSent) for wait in record.waits_s]
    assert len(in_lane) == 10
    ages = [record.age_s or 0.0 for record in told_of(world, EventAnswered)]
    service = [record.latency_s for record in told_of(world, EventAnswered)]
    assert sum(ages) >= sum(waits)
    # A message's times are whole milliseconds.
    assert abs(sum(ages) - sum(waits) - sum(in_lane) - sum(service)) < 10 * 0.002


def test_an_event_that_comes_again_waited_only_once_and_its_age_is_from_its_first_send() -> None:
    """It is held for a retry: the hold queue's message is younger than the event."""
    world = World(cells=1)
    cell = world.cells.cells[world.cell_ids[0]]
    cell.behaviour = lambda event: Outcome.OK if cell.deliveries[event.event_id] > 1 else Outcome.FAILED

    async def story() -> None:
        await world.send(1)
        async with world.routing():
            await world.settled()

    play(world.clock, story())
    failed, done = [record.age_s for record in told_of(world, EventAnswered)]
    assert failed is None  # it is not done
    (at,) = cell.done_at.values()
    assert done == pytest.approx(at - world.sent_at["e0"], abs=0.01)
    of_source = [record for record in told_of(world, MessagesReceived) if record.count and record.source == "source"]
    assert [len(record.waits_s) for record in of_source] == [1]


def test_what_lies_ahead_of_our_clock_has_waited_for_no_time() -> None:
    """SQS' clock is another one, here an hour ahead."""
    world = World(cells=1)
    ours = world.clock.time_ms

    async def story() -> None:
        world.clock.time_ms = lambda: ours() + 3_600_000  # type: ignore[method-assign]
        await world.send(1)
        world.clock.time_ms = ours  # type: ignore[method-assign]
        async with world.routing():
            await world.settled()

    play(world.clock, story())
    received = [record for record in told_of(world, MessagesReceived) if record.count]
    assert [(*record.waits_s, record.oldest_s) for record in received] == [(0.0, 0.0)]
    assert [record.age_s for record in told_of(world, EventAnswered)] == [0.0]


def test_all_of_it_is_scraped() -> None:
    """Each part is a histogram; a word with a space has none as the value of a label."""
    metrics = RouterMetrics()
    for record in (
        MessagesReceived("source", 2, 0, [0.2, 20.0], 20.0),
        BatchSent("cell-0000", 2, [0.002, 0.003]),
        EventAnswered("cell-0000", Outcome.OK, 0.01, duplicate=False, other_body=False, age_s=20.1),
        EventHeld("cell-0000", HoldCause.OVER_SHARE),
    ):
        metrics.handlers[type(record)](record)
    lines = generate_latest(metrics.registry).decode().splitlines()
    for line in (
        'cellrouter_queue_age_seconds{queue="source"} 20.0',
        'cellrouter_message_wait_seconds_count{queue="source"} 2.0',
        'cellrouter_event_lane_seconds_bucket{cell="cell-0000",le="0.0025"} 1.0',
        'cellrouter_event_end_to_end_seconds_bucket{cell="cell-0000",le="30.0"} 1.0',
        'cellrouter_events_held_total{cause="over_share",cell="cell-0000"} 1.0',
    ):
        assert line in lines
    assert any(line.startswith("cellrouter_build_info{") for line in lines)
