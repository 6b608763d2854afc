"""A rehearsal is a copy of an event that is done: its handler does it again, and nothing whatever comes of it."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest

from cell_worker.api import Cell, Event, RejectEvent, RetryEvent
from cell_worker.chaos import Chaos
from cell_worker.containment.abandoned import HandlerThreads
from cell_worker.contract.protocol import EventBatch, Fault, FaultKind, Outcome, WireEvent
from cell_worker.handling import HandlerError, load_handler
from cell_worker.vitals.probes import MAX_REHEARSALS
from tests.support.handlers import Gate
from tests.support.runtime_world import in_loop, make, one_result, results, turns


def copies(*ids: str) -> EventBatch:
    """A batch for cell-0000 with a copy to rehearse for each id."""
    events = [WireEvent(name, "key", 1, msgspec.Raw(b'{"x": 1}'), rehearse=True) for name in ids]
    return EventBatch("cell-0000", 1, 1, 30, events)


class Greedy:
    """A handler whose rehearsals try to leave something behind, then raise or wait as they are told."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.handled: list[str] = []
        self.rehearsed: list[tuple[Event, Cell]] = []
        self.open, self.may_end = asyncio.Event(), asyncio.Event()  # of rehearsals, and of events
        self.open.set()
        self.may_end.set()

    async def __call__(self, event: Event, cell: Cell) -> dict[str, object]:
        self.handled.append(event.event_id)
        await self.may_end.wait()
        cell.emit({"id": event.event_id})
        return {"detail": 1}

    async def rehearse(self, event: Event, cell: Cell) -> dict[str, object]:
        """Emit lines and return a detail, as an event does."""
        self.rehearsed.append((event, cell))
        cell.emit({"id": event.event_id})
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return {"detail": 1}


@in_loop
async def test_a_rehearsal_leaves_nothing_behind() -> None:
    """No line, no id, no count, no side effects; and an instance in standby stays there."""
    runtime, store = await make(handler := Greedy())
    result = await one_result(runtime, copies("a"))
    assert (result.outcome, result.duplicate) == (Outcome.OK, False)
    (event, cell), *none = handler.rehearsed
    assert (event.event_id, event.partition_key, event.json(), none) == ("a", "key", {"x": 1}, [])
    assert not cell.side_effects
    assert (store.volume.lines, store.volume.processed, handler.handled) == ([], set(), [])
    assert not runtime.taken.is_set()
    assert not store.taken
    assert runtime._metrics.events.labels("ok")._value.get() == 0


@in_loop
async def test_an_event_is_still_done_after_its_rehearsal_and_beside_it() -> None:
    """A rehearsal is no delivery of its event: neither joins the other, and neither is the other's duplicate."""
    runtime, store = await make(handler := Greedy())
    handler.open.clear()
    rehearsal = asyncio.create_task(one_result(runtime, copies("a")))
    await turns()
    done = await one_result(runtime)
    assert (done.outcome, done.duplicate, rehearsal.done()) == (Outcome.OK, False, False)
    handler.open.set()
    assert not (await rehearsal).duplicate
    assert len(store.volume.lines) == 1
    assert not (await one_result(runtime, copies("a"))).duplicate, "it is rehearsed though it is done"
    assert len(handler.rehearsed) == 2
    assert len(store.volume.lines) == 1


@in_loop
async def test_a_rehearsal_does_not_wait_for_its_event() -> None:
    """Else the instance that does the event would seem slow, or its copy would be done in no time."""
    handler = Greedy()
    handler.may_end.clear()
    runtime, store = await make(handler)
    event = asyncio.create_task(one_result(runtime))
    await turns()
    assert (await one_result(runtime, copies("a"))).outcome is Outcome.OK
    assert (len(handler.rehearsed), event.done()) == (1, False)
    handler.may_end.set()
    assert not (await event).duplicate
    assert len(store.volume.lines) == 1


@in_loop
async def test_a_broken_or_foreign_store_is_not_touched() -> None:
    """What a rehearsal measures is the handler; nothing of it depends on the store."""
    runtime, store = await make(Greedy())
    store.broken = True
    store.volume.highest = 2
    assert (await one_result(runtime, copies("a"))).outcome is Outcome.OK
    assert not runtime.fenced.is_set()


@in_loop
async def test_a_handler_that_does_not_declare_it_is_never_asked() -> None:
    """Least of all is the event handled in its place."""
    runtime, store = await make(gate := Gate())
    gate.open.set()
    result = await one_result(runtime, copies("a"))
    assert (result.outcome, result.begun) == (Outcome.RETRY, False)
    assert store.volume.processed == set()
    assert not runtime.probes.rehearses


@pytest.mark.parametrize(
    ("error", "begun", "reason"),
    [
        (RejectEvent("too large"), False, "too large"),
        (RetryEvent("S3 is away"), True, "S3 is away"),
        (ValueError("broken"), True, "ValueError: broken"),
        (SystemExit(3), True, "SystemExit: 3"),
    ],
    ids=lambda value: type(value).__name__,
)
@in_loop
async def test_what_a_rehearsal_raises_is_no_events_failure(error: BaseException, begun: bool, reason: str) -> None:
    """A handler may decline an event; all else says that the instance is not well."""
    runtime, _ = await make(Greedy(error))
    result = await one_result(runtime, copies("a"))
    assert (result.outcome, result.begun, result.reason) == (Outcome.RETRY, begun, reason)


@in_loop
async def test_few_are_rehearsed_at_once_and_none_takes_a_place() -> None:
    """A full worker rehearses, and so many rehearsals that they would be in its events' way are declined."""
    runtime, _ = await make(handler := Greedy(), concurrency=1)
    handler.open.clear()
    asking = asyncio.create_task(results(runtime, copies("a", "b", "c", "d", "e")))
    await turns()
    assert len(handler.rehearsed) == MAX_REHEARSALS
    assert (await one_result(runtime)).outcome is Outcome.OK, "its one place is free"
    handler.open.set()
    assert sum(not result.begun for result in (await asking).values()) == 5 - MAX_REHEARSALS


@in_loop
async def test_what_goes_on_in_threads_counts_until_it_ends() -> None:
    """A router that gives up its rehearsals and sends others doesn't fill the worker's threads."""
    stop = threading.Event()

    class Threaded(Greedy):
        async def rehearse(self, event: Event, cell: Cell) -> dict[str, object]:
            self.rehearsed.append((event, cell))
            await asyncio.to_thread(stop.wait)
            return {}

    threads = HandlerThreads(1)
    asyncio.get_running_loop().set_default_executor(threads)
    runtime, _ = await make(handler := Threaded(), concurrency=1)
    try:
        for name in "abcde":
            asking = asyncio.create_task(one_result(runtime, copies(name)))
            await turns()
            asking.cancel()
            await turns()
        assert len(handler.rehearsed) == MAX_REHEARSALS
        assert not runtime.abandoned.too_many.is_set()
    finally:
        stop.set()


@in_loop
async def test_a_drain_waits_for_no_rehearsal() -> None:
    """And none begins after it."""
    runtime, _ = await make(handler := Greedy())
    handler.open.clear()
    asking = asyncio.create_task(one_result(runtime, copies("a")))
    await turns()
    await runtime.drain()
    assert (await asking).outcome is Outcome.RETRY
    assert (await one_result(runtime, copies("b"))).outcome is Outcome.RETRY
    assert len(handler.rehearsed) == 1


@in_loop
async def test_injected_faults_act_on_rehearsals() -> None:
    """A drill slows them as it slows events, and a handler without them doesn't get any by being wrapped."""
    chaos = Chaos(allowed=True)
    runtime, _ = await make(chaos.around_handler(Greedy()))
    chaos.inject(Fault(FaultKind.ERRORS))
    assert (await one_result(runtime, copies("a"))).reason == "InjectedError: injected: the handler fails"
    chaos.end_all()
    runtime, _ = await make(chaos.around_handler(Gate()))
    assert not runtime.probes.rehearses


def test_a_rehearsal_that_is_no_coroutine_is_explained() -> None:
    """The worker doesn't start, and the error names the handler."""
    with pytest.raises(HandlerError, match=r":PlainRehearsal: its rehearse is no coroutine method"):
        load_handler("tests.support.handlers:PlainRehearsal")
