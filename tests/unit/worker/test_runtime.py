"""The runtime's promises, with a store in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell_worker.api import Cell, Event, RejectEvent, RetryEvent
from cell_worker.components import Component
from cell_worker.metrics import WorkerMetrics
from cell_worker.protocol import MAX_REASON_CHARS, MAX_RESULT_LINE_BYTES, EventBatch, EventResult, Outcome, WireEvent
from cell_worker.runtime import HandlerError, Identity, Runtime, load_handler, start_handler
from cell_worker.store import StoreError
from tests.aio import run
from tests.memory_store import MemoryStore

Handle = Callable[[Event, Cell], Awaitable[None]]


async def make(handler: Handle, *, concurrency: int = 4, timeout_s: float = 30) -> tuple[Runtime, MemoryStore]:
    """A runtime of cell-0000, generation 1."""
    store = MemoryStore()
    await store.open(1)
    identity = Identity("cell-0000", 1, "test", side_effects=False)
    runtime = Runtime(identity, handler, store, WorkerMetrics(), concurrency=concurrency, event_timeout_s=timeout_s)
    return runtime, store


def batch(*ids: str, deadline_s: float = 30) -> EventBatch:
    """A batch for it."""
    events = [WireEvent(event_id, "key", 1, msgspec.Raw(b'{"x": 1}')) for event_id in ids]
    return EventBatch("cell-0000", 1, 1, deadline_s, events)


async def results(runtime: Runtime, work: EventBatch) -> dict[int, EventResult]:
    """Every result by its index."""
    return {result.index: result async for result in runtime.process(work)}


async def emit(event: Event, cell: Cell) -> None:
    """A handler that leaves a line."""
    cell.emit({"id": event.event_id})


def test_ok_means_committed() -> None:
    """Id and lines, together."""

    async def story() -> None:
        runtime, store = await make(emit)
        found = await results(runtime, batch("a", "b"))
        assert {index: result.outcome for index, result in found.items()} == {0: Outcome.OK, 1: Outcome.OK}
        assert store.volume.processed == {"a", "b"}
        assert [line for _, line in store.volume.lines] == [b'{"id":"a"}\n', b'{"id":"b"}\n']

    run(story())


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (RejectEvent("corrupt"), Outcome.REJECTED, "corrupt"),
        (RetryEvent("S3 is away"), Outcome.RETRY, "S3 is away"),
        (ValueError("boom"), Outcome.FAILED, "ValueError: boom"),
        (TimeoutError("of its own"), Outcome.FAILED, "TimeoutError: of its own"),
        (StoreError("of its own"), Outcome.RETRY, "of its own"),
    ],
)
def test_what_a_handler_raises_decides_the_outcome(error: Exception, outcome: Outcome, reason: str) -> None:
    """And nothing is committed, though it had emitted."""

    async def handler(event: Event, cell: Cell) -> None:
        cell.emit({"lost": True})
        raise error

    async def story() -> None:
        runtime, store = await make(handler)
        (result,) = (await results(runtime, batch("a"))).values()
        assert (result.outcome, result.reason) == (outcome, reason)
        assert store.volume.processed == set()
        assert store.volume.lines == []

    run(story())


def test_a_handler_over_its_time_is_cancelled_and_failed() -> None:
    """By the shorter of the batch's deadline and the worker's own."""

    async def handler(event: Event, cell: Cell) -> None:
        await asyncio.Event().wait()

    async def story() -> None:
        for timeout_s, deadline_s in ((0.01, 30), (30, 0.01)):
            runtime, _ = await make(handler, timeout_s=timeout_s)
            (result,) = (await results(runtime, batch("a", deadline_s=deadline_s))).values()
            assert result.outcome is Outcome.FAILED
            assert "took longer than 0.01 s" in result.reason

    run(story())


def test_a_store_that_fails_means_retry() -> None:
    """Infrastructure: nothing is lost and nothing counts."""

    async def story() -> None:
        runtime, store = await make(emit)
        store.broken = True
        (result,) = (await results(runtime, batch("a"))).values()
        assert (result.outcome, result.reason) == (Outcome.RETRY, "disk full")
        assert not runtime.fenced.is_set()

    run(story())


def test_a_fenced_store_fences_the_worker() -> None:
    """Retry for the event, and no batch is its own any more."""

    async def story() -> None:
        runtime, store = await make(emit)
        assert runtime.owns(batch("a"))
        store.volume.highest = 2
        (result,) = (await results(runtime, batch("a"))).values()
        assert result.outcome is Outcome.RETRY
        assert runtime.fenced.is_set()
        assert not runtime.owns(batch("a"))

    run(story())


def test_an_event_that_is_done_is_not_handled_again() -> None:
    """It is ok, as a duplicate."""
    calls: list[str] = []

    async def handler(event: Event, cell: Cell) -> None:
        calls.append(event.event_id)

    async def story() -> None:
        runtime, _ = await make(handler)
        for expected in (False, True):
            (result,) = (await results(runtime, batch("a"))).values()
            assert (result.outcome, result.duplicate) == (Outcome.OK, expected)

    run(story())
    assert calls == ["a"]


def test_one_event_in_two_requests_at_once_is_handled_once() -> None:
    """Both get the answer; the second as a duplicate."""
    calls: list[str] = []
    go = asyncio.Event()

    async def handler(event: Event, cell: Cell) -> None:
        calls.append(event.event_id)
        await go.wait()

    async def story() -> None:
        runtime, _ = await make(handler)
        asking = [asyncio.create_task(results(runtime, batch("a", "a"))) for _ in range(2)]
        while not calls:  # noqa: ASYNC110 - turns of the loop, no wait
            await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop
        go.set()
        answers = [result for found in await asyncio.gather(*asking) for result in found.values()]
        assert [result.outcome for result in answers] == [Outcome.OK] * 4
        assert sorted(result.duplicate for result in answers) == [False, True, True, True]

    run(story())
    assert calls == ["a"]


def test_results_come_as_events_finish() -> None:
    """One that is stuck holds back none of the others."""
    stuck = asyncio.Event()

    async def handler(event: Event, cell: Cell) -> None:
        if event.event_id == "stuck":
            await stuck.wait()

    async def story() -> None:
        runtime, _ = await make(handler)
        coming = runtime.process(batch("stuck", "a", "b", "c"))
        first = [(await anext(coming)).index for _ in range(3)]
        assert sorted(first) == [1, 2, 3]
        stuck.set()
        assert (await anext(coming)).index == 0

    run(story())


def test_a_client_that_goes_away_ends_what_has_not_begun_and_nothing_else() -> None:
    """What has begun is committed; what has not is dropped and comes again from its queue."""
    begun: list[str] = []
    go = asyncio.Event()

    async def handler(event: Event, cell: Cell) -> None:
        begun.append(event.event_id)
        await go.wait()

    async def story() -> None:
        runtime, store = await make(handler, concurrency=2)
        asking = asyncio.create_task(results(runtime, batch("a", "b", "c", "d")))
        while len(begun) < 2:  # noqa: ASYNC110 - turns of the loop, no wait
            await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        go.set()
        await runtime.drain()
        assert begun == ["a", "b"]
        assert store.volume.processed == {"a", "b"}

    run(story())


def test_drain_waits_for_what_has_begun() -> None:
    """And says that it takes no more."""
    go = asyncio.Event()

    async def handler(event: Event, cell: Cell) -> None:
        await go.wait()

    async def story() -> None:
        runtime, store = await make(handler)
        asking = asyncio.create_task(results(runtime, batch("a")))
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop
        draining = asyncio.create_task(runtime.drain())
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop
        assert runtime.draining
        assert not draining.done()
        go.set()
        await draining
        await asking
        assert store.volume.processed == {"a"}

    run(story())


def test_a_record_that_the_sink_could_never_take_fails_the_event() -> None:
    """In the outbox it would block everything after it."""

    async def handler(event: Event, cell: Cell) -> None:
        cell.emit({"text": "x" * 1_100_000})

    async def story() -> None:
        runtime, store = await make(handler)
        (result,) = (await results(runtime, batch("a"))).values()
        assert result.outcome is Outcome.FAILED
        assert "bytes, more than" in result.reason
        assert store.volume.processed == set()

    run(story())


@given(st.text(max_size=5000), st.sampled_from(["\x00", "\U0001f4a5", '"', "\\", "é"]))
@settings(max_examples=30, deadline=None)
def test_a_result_line_is_never_longer_than_the_contract_says(reason: str, filler: str) -> None:
    """Whatever the handler says: JSON makes some characters six bytes long."""

    async def handler(event: Event, cell: Cell) -> None:
        raise RejectEvent(reason + filler * 5000)

    async def story() -> None:
        runtime, _ = await make(handler)
        (result,) = (await results(runtime, batch("a"))).values()
        assert len(result.reason) <= MAX_REASON_CHARS
        assert len(msgspec.json.encode(result)) < MAX_RESULT_LINE_BYTES

    run(story())


@given(st.integers(1, 5), st.lists(st.integers(0, 8), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_never_more_handlers_at_once_than_declared_and_each_event_once(places: int, picks: list[int]) -> None:
    """Whatever events, repeated in one batch and over two."""
    now, most, calls = 0, 0, Counter[str]()

    async def handler(event: Event, cell: Cell) -> None:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        calls[event.event_id] += 1
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop
        now -= 1

    async def story() -> None:
        runtime, _ = await make(handler, concurrency=places)
        work = batch(*(f"e{pick}" for pick in picks))
        for found in await asyncio.gather(results(runtime, work), results(runtime, work)):
            assert {index: result.outcome for index, result in found.items()} == dict.fromkeys(
                range(len(picks)), Outcome.OK
            )

    run(story())
    assert most <= places
    assert set(calls.values()) == {1}


def test_components_are_checked_and_a_failing_one_is_shown() -> None:
    """With the error's text; one that hangs doesn't hang the page."""

    class Part:
        def __init__(self, name: str, error: Exception | None = None) -> None:
            self.name = name
            self.error = error

        async def check(self) -> str:
            if self.error:
                raise self.error
            return "fine"

        async def restart(self) -> None:
            return

    async def story() -> None:
        runtime, _ = await make(emit)
        runtime.components = {"a": Part("a"), "b": Part("b", OSError("no route"))}
        shown = [(part.name, part.healthy, part.detail) for part in await runtime.health()]
        assert shown == [("a", True, "fine"), ("b", False, "OSError: no route")]

    run(story())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no.such.module:handle", "No module named"),
        ("tests.trivial:nothing", "has no attribute 'nothing'"),
        ("tests.trivial:annotations", "neither a coroutine function nor a class"),
    ],
)
def test_a_handler_that_cannot_be_used_is_explained(name: str, words: str) -> None:
    """With the variable's name and value."""
    with pytest.raises(HandlerError, match=words) as caught:
        load_handler(name)
    assert f"CELL_HANDLER={name}" in str(caught.value)


class CannotStart:
    """A handler whose start fails."""

    async def start(self, cell: Cell) -> Sequence[Component]:
        raise ValueError("no such folder: rules")

    async def stop(self) -> None:
        raise NotImplementedError

    async def __call__(self, event: Event, cell: Cell) -> None:
        raise NotImplementedError


def test_a_handler_that_cannot_start_is_explained() -> None:
    """By what it raised, in one sentence and without a traceback: these are the worker's last words."""
    with pytest.raises(HandlerError, match=r"^the handler can't start: ValueError: no such folder: rules$"):
        run(start_handler(CannotStart(), Identity("cell-0000", 1, "live", side_effects=False).cell()))
