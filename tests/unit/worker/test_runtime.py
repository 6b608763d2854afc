"""What the runtime promises, tested with a store in memory."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell_worker.api import Cell, DeniedEvent, Event, RejectEvent, RetryEvent
from cell_worker.contract.protocol import MAX_REASON_CHARS, MAX_RESULT_LINE_BYTES, EventBatch, EventResult, Outcome
from cell_worker.handling import HandlerError, load_handler, start_handler
from cell_worker.runtime import ONE_SUSPECT, Identity
from cell_worker.store.store import StoreError
from tests.support.aio import run
from tests.support.handlers import CannotStart, Gate, Unspeakable
from tests.support.runtime_world import batch, emit, in_loop, make, one_result, results, turns


@in_loop
async def test_ok_means_committed() -> None:
    """The event's id and its lines are in the store."""
    runtime, store = await make(emit)
    found = await results(runtime, batch("a", "b"))
    assert {index: result.outcome for index, result in found.items()} == {0: Outcome.OK, 1: Outcome.OK}
    assert store.volume.processed == {"a", "b"}
    assert [line for _, line in store.volume.lines] == [b'{"id":"a"}\n', b'{"id":"b"}\n']


def repr_of_type(value: object) -> str:
    """Name a test case by the type of its value."""
    return type(value).__name__


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (RejectEvent("corrupt"), Outcome.REJECTED, "corrupt"),
        (RetryEvent("S3 is away"), Outcome.RETRY, "S3 is away"),
        (DeniedEvent("AccessDenied"), Outcome.RETRY, "AccessDenied"),
        (ValueError("boom"), Outcome.FAILED, "ValueError: boom"),
        (TimeoutError("of its own"), Outcome.FAILED, "TimeoutError: of its own"),
        (StoreError("of its own"), Outcome.RETRY, "of its own"),
        (asyncio.CancelledError("of its own"), Outcome.FAILED, "CancelledError: of its own"),
        (SystemExit(3), Outcome.FAILED, "SystemExit: 3"),
        (OSError("no file \udcff"), Outcome.FAILED, "OSError: no file ?"),
        (RejectEvent("\ud800"), Outcome.REJECTED, "?"),
        (RejectEvent(), Outcome.REJECTED, "RejectEvent"),
        (Unspeakable(), Outcome.FAILED, "Unspeakable: (its text can't be shown)"),
    ],
    ids=repr_of_type,
)
@in_loop
async def test_what_a_handler_raises_decides_the_outcome(error: BaseException, outcome: Outcome, reason: str) -> None:
    """It decides the outcome of its own event and of no other. What the event had emitted is not committed."""

    async def handler(event: Event, cell: Cell) -> None:
        if event.event_id == "bad":
            cell.emit({"lost": True})
            raise error

    runtime, store = await make(handler)
    found = await results(runtime, batch("a", "bad", "b"))
    assert [found[index].outcome for index in (0, 2)] == [Outcome.OK, Outcome.OK]
    assert (found[1].outcome, found[1].reason) == (outcome, reason)
    assert found[1].denied is isinstance(error, DeniedEvent)
    assert msgspec.json.decode(msgspec.json.encode(found[1]), type=EventResult) == found[1]
    assert store.volume.processed == {"a", "b"}
    assert store.volume.lines == []


@in_loop
async def test_a_handler_over_its_time_is_cancelled_and_failed() -> None:
    """The shorter one counts: the batch's deadline or the worker's own limit."""

    async def handler(event: Event, cell: Cell) -> None:
        await asyncio.Event().wait()

    for timeout_s, deadline_s in ((0.01, 30), (30, 0.01)):
        runtime, _ = await make(handler, timeout_s=timeout_s)
        result = await one_result(runtime, batch("a", deadline_s=deadline_s))
        assert result.outcome is Outcome.FAILED
        assert "took longer than 0.01 s" in (result.reason or "")


@in_loop
async def test_a_store_that_fails_means_retry() -> None:
    """Infrastructure is at fault, so no event is lost and no attempt counts."""
    runtime, store = await make(emit)
    store.broken = True
    result = await one_result(runtime)
    assert (result.outcome, result.reason) == (Outcome.RETRY, "disk full")
    assert not runtime.fenced.is_set()


@in_loop
async def test_a_fenced_store_fences_the_worker() -> None:
    """The event is answered with retry, and from then on the worker owns no batch."""
    runtime, store = await make(emit)
    assert runtime.owns(batch("a"))
    store.volume.highest = 2
    result = await one_result(runtime)
    assert result.outcome is Outcome.RETRY
    assert runtime.fenced.is_set()
    assert not runtime.owns(batch("a"))


@in_loop
async def test_an_event_that_is_done_is_not_handled_again() -> None:
    """Its second delivery is ok, as a duplicate."""
    calls: list[str] = []

    async def handler(event: Event, cell: Cell) -> None:
        calls.append(event.event_id)

    runtime, _ = await make(handler)
    for expected in (False, True):
        result = await one_result(runtime)
        assert (result.outcome, result.duplicate) == (Outcome.OK, expected)
    assert calls == ["a"]


@in_loop
async def test_one_event_in_two_requests_at_once_is_handled_once() -> None:
    """Both requests get the answer, all but the first as a duplicate."""
    gate = Gate()
    runtime, _ = await make(gate)
    asking = [asyncio.create_task(results(runtime, batch("a", "a"))) for _ in range(2)]
    await turns()
    gate.open.set()
    answers = [result for found in await asyncio.gather(*asking) for result in found.values()]
    assert [result.outcome for result in answers] == [Outcome.OK] * 4
    assert sorted(result.duplicate for result in answers) == [False, True, True, True]
    assert gate.begun == ["a"]


@in_loop
async def test_results_come_as_events_finish() -> None:
    """One event that is stuck delays no other result."""
    stuck = asyncio.Event()

    async def handler(event: Event, cell: Cell) -> None:
        if event.event_id == "stuck":
            await stuck.wait()

    runtime, _ = await make(handler)
    coming = runtime.process(batch("stuck", "a", "b", "c"))
    assert sorted(result.index for result in await anext(coming)) == [1, 2, 3]  # together, as they come at once
    stuck.set()
    assert [result.index for result in await anext(coming)] == [0]


@pytest.mark.parametrize("how", ["closes the stream", "is seen to be gone"])
@in_loop
async def test_a_client_that_goes_away_ends_what_has_not_begun_and_nothing_else(how: str) -> None:
    """An event that has begun is committed. One that has not is dropped, and its queue delivers it again."""
    gate, gone = Gate(), asyncio.get_running_loop().create_future()
    runtime, store = await make(gate, concurrency=2)
    coming = runtime.process(batch("a", "b", "c", "d"), gone)
    asking = asyncio.ensure_future(anext(coming, None))
    await turns()
    if how == "is seen to be gone":
        gone.set_result(None)
        assert await asking is None
    else:
        asking.cancel()
    await turns()
    again = asyncio.create_task(results(runtime, batch("c", "a")))  # c begins anew, a is joined
    gate.open.set()
    assert {result.outcome for result in (await again).values()} == {Outcome.OK}
    assert gate.begun == ["a", "b", "c"]
    assert store.volume.processed == {"a", "b", "c"}


@in_loop
async def test_what_another_client_waits_for_is_not_dropped() -> None:
    """An event that has not begun stays when only one of its two clients goes away."""
    runtime, _ = await make(gate := Gate(), concurrency=1)
    leaving, staying = (asyncio.create_task(results(runtime, batch("a", "b"))) for _ in range(2))
    await turns()
    leaving.cancel()
    gate.open.set()
    assert {result.outcome for result in (await staying).values()} == {Outcome.OK}


@in_loop
async def test_an_event_asked_for_again_in_the_moment_it_is_dropped_gets_an_answer() -> None:
    """The answer is retry: no client's batch ends because another client went away."""
    gate = Gate()
    runtime, _ = await make(gate, concurrency=1)
    coming = runtime.process(batch("a", "b"))
    asking = asyncio.ensure_future(anext(coming))
    await turns()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking  # what waited for its turn is cancelled now, but not yet gone
    assert (await one_result(runtime, batch("b"))).outcome is Outcome.RETRY
    gate.open.set()


@in_loop
async def test_drain_waits_for_what_has_begun_and_begins_nothing_more() -> None:
    """Waiting events and new ones are answered with retry immediately: another instance will process them."""
    gate = Gate()
    runtime, store = await make(gate, concurrency=1)
    coming = runtime.process(batch("a", "b"))
    asking = asyncio.ensure_future(anext(coming))
    await turns()
    draining = asyncio.create_task(runtime.drain())
    assert ([result.index for result in await asking], runtime.draining) == ([1], True)
    assert not draining.done()
    gate.open.set()
    await draining
    assert [result.outcome for result in await anext(coming)] == [Outcome.OK]
    assert (await one_result(runtime, batch("late"))).outcome is Outcome.RETRY
    assert store.volume.processed == {"a"}


@in_loop
async def test_a_fenced_worker_begins_nothing_more() -> None:
    """An event that it had accepted but not begun is answered with retry, since its successor will process it."""
    gate = Gate()
    runtime, _ = await make(gate, concurrency=1)
    asking = asyncio.create_task(results(runtime, batch("a", "b")))
    await turns()
    runtime.fenced.set()
    gate.open.set()
    assert (await asking)[1].outcome is Outcome.RETRY
    assert gate.begun == ["a"]


@in_loop
async def test_what_drain_waits_for_in_vain_is_given_up() -> None:
    """The event is cancelled and answered with retry, and nothing of it is committed."""
    runtime, store = await make(Gate())
    asking = asyncio.create_task(one_result(runtime))
    await turns()
    runtime.give_up()
    assert (await asking).outcome is Outcome.RETRY
    await runtime.drain()
    assert store.volume.processed == set()


@in_loop
async def test_what_a_handler_returns_is_for_the_log_alone() -> None:
    """No key of the returned mapping, whatever its name, can fail the event."""

    async def handler(event: Event, cell: Cell) -> dict[str, object]:
        return {"event": 1, "event_id": 2, "level": 3, "self": 4}

    runtime, _ = await make(handler)
    assert (await one_result(runtime)).outcome is Outcome.OK


@in_loop
async def test_a_record_that_the_sink_could_never_take_fails_the_event() -> None:
    """In the outbox, the record would block everything after it."""

    async def handler(event: Event, cell: Cell) -> None:
        cell.emit({"text": "x" * 1_100_000})

    runtime, store = await make(handler)
    result = await one_result(runtime)
    assert result.outcome is Outcome.FAILED
    assert "bytes, more than" in (result.reason or "")
    assert store.volume.processed == set()


@given(st.text(max_size=5000), st.sampled_from(["\x00", "\U0001f4a5", '"', "\\", "é"]))
@settings(max_examples=30, deadline=None)
@in_loop
async def test_a_result_line_is_never_longer_than_the_contract_says(reason: str, filler: str) -> None:
    """Whatever the handler says: JSON needs six bytes for some characters."""

    async def handler(event: Event, cell: Cell) -> None:
        raise RejectEvent(reason + filler * 5000)

    runtime, _ = await make(handler)
    result = await one_result(runtime)
    assert len(result.reason or "") <= MAX_REASON_CHARS
    assert len(msgspec.json.encode(result)) < MAX_RESULT_LINE_BYTES


@given(st.integers(1, 5), st.lists(st.integers(0, 8), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
@in_loop
async def test_never_more_handlers_at_once_than_declared_and_each_event_once(places: int, picks: list[int]) -> None:
    """This holds for any events, repeated within a batch and in two batches."""
    now, most, calls = 0, 0, Counter[str]()

    async def handler(event: Event, cell: Cell) -> None:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        calls[event.event_id] += 1
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop
        now -= 1

    runtime, _ = await make(handler, concurrency=places)
    work = batch(*(f"e{pick}" for pick in picks))
    for found in await asyncio.gather(results(runtime, work), results(runtime, work)):
        assert {index: result.outcome for index, result in found.items()} == dict.fromkeys(
            range(len(picks)), Outcome.OK
        )
    assert most <= places
    assert set(calls.values()) == {1}


@in_loop
async def test_components_are_checked_and_a_failing_one_is_shown() -> None:
    """The page shows the text of the error."""

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

    runtime, _ = await make(emit)
    runtime.components = {"a": Part("a"), "b": Part("b", OSError("no route"))}
    shown = [(part.name, part.healthy, part.detail) for part in await runtime.health()]
    assert shown == [("a", True, "fine"), ("b", False, "OSError: no route")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no.such.module:handle", "No module named"),
        ("tests.support.handlers:NeedsMore", "missing 1 required positional argument"),
        ("tests.support.handlers:NotCallable", "neither a coroutine function nor a class"),
        ("tests.support.trivial:nothing", "has no attribute 'nothing'"),
        ("tests.support.trivial:annotations", "neither a coroutine function nor a class"),
    ],
)
def test_a_handler_that_cannot_be_used_is_explained(name: str, words: str) -> None:
    """The error names the variable, its value, and what is wrong."""
    with pytest.raises(HandlerError, match=words) as caught:
        load_handler(name)
    assert f"CELL_HANDLER={name}" in str(caught.value)


def test_a_handler_that_cannot_start_is_explained() -> None:
    """The error says in one sentence what the handler raised: it is the worker's last log line."""
    with pytest.raises(HandlerError, match=r"^the handler can't start: ValueError: no such folder: rules$"):
        run(start_handler(CannotStart(), Identity("cell-0000", 1, "live", side_effects=False).cell()))


@in_loop
async def test_a_cell_tries_one_suspect_at_a_time() -> None:
    """A second one, of another router, was not begun and may come later; all else goes on beside the first."""
    gate = Gate()
    runtime, _ = await make(gate)
    first, second = (asyncio.create_task(one_result(runtime, suspect(name))) for name in ("a", "b"))
    assert await second == EventResult(0, Outcome.RETRY, ONE_SUSPECT, begun=False)
    again, beside = (asyncio.create_task(one_result(runtime, work)) for work in (suspect("a"), batch("c")))
    await turns()
    assert gate.begun == ["a", "c"]
    gate.open.set()
    assert {(await each).outcome for each in (first, again, beside)} == {Outcome.OK}
    assert (await one_result(runtime, suspect("b"))).outcome is Outcome.OK


def suspect(name: str) -> EventBatch:
    """Make a batch of one event that an instance may have died of."""
    (event,) = (work := batch(name)).events
    return msgspec.structs.replace(work, events=[msgspec.structs.replace(event, suspect=True)])
