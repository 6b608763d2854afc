"""A cell knows an event by its partition key and its id, and sees when another body comes under the same name."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from cell_worker.api import Cell, Event
from cell_worker.contract.protocol import EventBatch, Outcome, WireEvent
from tests.support.handlers import Gate
from tests.support.memory_store import Volume
from tests.support.runtime_world import emit, in_loop, make, one_result, results, turns


def events(*keys: str, body: bytes = b'{"x": 1}', event_id: str = "1") -> EventBatch:
    """A batch with an event of the same id for each key."""
    wired = [WireEvent(event_id, key, 1, msgspec.Raw(body)) for key in keys]
    return EventBatch("cell-0000", 1, 1, 30, wired)


@in_loop
async def test_the_same_id_of_two_keys_is_two_events() -> None:
    """Both are handled, at once or one after the other, and neither is called a duplicate."""
    handled: list[str] = []

    async def handler(event: Event, cell: Cell) -> None:
        handled.append(event.identity)
        await turns(5)

    runtime, _ = await make(handler)
    together = await results(runtime, events("a", "b"))
    answers = [*together.values(), await one_result(runtime, events("c"))]
    assert [(answer.outcome, answer.duplicate) for answer in answers] == [(Outcome.OK, False)] * 3
    assert handled == ["1:a/1", "1:b/1", "1:c/1"]
    assert (await one_result(runtime, events("b"))).duplicate


@in_loop
async def test_the_hundred_ids_that_two_tenants_share_are_two_hundred_events() -> None:
    """Nothing is lost of tenants that count from 1 each."""
    runtime, store = await make(emit, concurrency=10)
    for number in range(100):
        await results(runtime, events("a", "b", event_id=str(number)))
    assert len(store.volume.done) == len(store.volume.lines) == 200


@in_loop
async def test_another_keys_run_that_goes_on_keeps_no_event_waiting() -> None:
    """What is abandoned is one key's event, and the other key's event with the same id begins."""

    async def handler(event: Event, cell: Cell) -> None:
        while event.partition_key == "stubborn":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if gate.is_set():
                    raise

    gate = asyncio.Event()
    runtime, _ = await make(handler, timeout_s=0.01)
    assert (await one_result(runtime, events("stubborn"))).outcome is Outcome.FAILED
    assert "earlier attempt" in str((await one_result(runtime, events("stubborn"))).reason)
    assert (await one_result(runtime, events("other"))).outcome is Outcome.OK
    gate.set()
    runtime.abandoned._runs.popitem()[1].task.cancel()
    await turns()


@pytest.mark.parametrize(("body", "other"), [(b'{"x": 1}', False), (b'{"x": 2}', True)])
@pytest.mark.parametrize("in_flight", [False, True])
@in_loop
async def test_a_duplicate_with_another_body_is_said_to_be_one(body: bytes, other: bool, in_flight: bool) -> None:
    """It is not handled, as any duplicate is not, but its router is told."""
    gate = Gate()
    runtime, _ = await make(gate)
    if not in_flight:
        gate.open.set()
    first = asyncio.create_task(one_result(runtime, events("a")))
    await turns()
    second = asyncio.create_task(one_result(runtime, events("a", body=body)))
    await turns()
    gate.open.set()
    assert not (await first).duplicate
    assert not (await first).other_body
    assert ((await second).duplicate, (await second).other_body) == (True, other)
    assert gate.begun == ["1"]


@in_loop
async def test_nothing_is_said_of_bodies_where_an_older_version_kept_no_digest() -> None:
    """Its events are done, by their ids alone."""
    volume = Volume()
    volume.by_id.add("1")
    runtime, _ = await make(emit, volume=volume)
    answer = await one_result(runtime, events("a"))
    assert (answer.outcome, answer.duplicate, answer.other_body) == (Outcome.OK, True, False)
    assert volume.lines == []
