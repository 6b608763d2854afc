"""Canaries show how well an instance is; waiting times show how busy it is."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from cell_worker.api import Cell, Event, RejectEvent, RetryEvent
from cell_worker.contract.protocol import EventBatch, Outcome, WireEvent
from cell_worker.handling import HandlerError, load_handler
from tests.support.handlers import Gate
from tests.support.runtime_world import batch, in_loop, make, one_result, results, turns


class NotingCanary:
    """A handler whose canary notes the cell that it gets, and raises or hangs as it is told."""

    def __init__(self, error: BaseException | None = None, *, hangs: bool = False) -> None:
        self.error = error
        self.hangs = hangs
        self.cells: list[Cell] = []
        self.ended = 0

    async def __call__(self, event: Event, cell: Cell) -> None:
        await asyncio.Event().wait()

    async def canary(self, cell: Cell) -> None:
        """Note the cell, then hang or raise as told."""
        cell.emit({"never": "seen"})
        self.cells.append(cell)
        try:
            if self.hangs:
                await asyncio.Event().wait()
        finally:
            self.ended += 1
        if self.error is not None:
            raise self.error


@in_loop
async def test_a_saturated_worker_answers_a_canary() -> None:
    """A canary takes no place, waits for none, and counts as no event."""
    runtime, _ = await make(gate := Gate(), concurrency=1)
    busy = asyncio.create_task(results(runtime, batch("a", "b")))
    await turns()
    result = await one_result(runtime, batch("canary"))
    assert (result.outcome, result.waited_s) == (Outcome.OK, 0)
    assert runtime._metrics.events.labels("ok")._value.get() == 0
    gate.open.set()
    assert {result.outcome for result in (await busy).values()} == {Outcome.OK}


@in_loop
async def test_a_canary_goes_the_handlers_way_and_leaves_nothing() -> None:
    """It runs without side effects, and what it emits is dropped."""
    runtime, store = await make(handler := NotingCanary())
    assert (await one_result(runtime, batch("canary"))).outcome is Outcome.OK
    assert [cell.side_effects for cell in handler.cells] == [False]
    assert store.volume.lines == []
    assert store.volume.processed == set()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RetryEvent("S3 is away"), "S3 is away"),
        (RejectEvent("no such thing"), "no such thing"),
        (ValueError("broken"), "ValueError: broken"),
        (asyncio.CancelledError("of its own"), "CancelledError: of its own"),
        (SystemExit(3), "SystemExit: 3"),
    ],
    ids=lambda value: type(value).__name__,
)
@in_loop
async def test_whatever_a_handlers_canary_raises_means_retry(error: BaseException, reason: str) -> None:
    """The answer is retry, with the exception's text as the reason why the instance is not well."""
    runtime, _ = await make(NotingCanary(error))
    result = await one_result(runtime, batch("canary"))
    assert (result.outcome, result.reason) == (Outcome.RETRY, reason)


@in_loop
async def test_a_canary_has_its_time_and_no_more() -> None:
    """A canary that takes too long is cancelled and answered with retry."""
    runtime, _ = await make(NotingCanary(hangs=True), timeout_s=0.01)
    result = await one_result(runtime, batch("canary"))
    assert (result.outcome, result.reason) == (Outcome.RETRY, "TimeoutError: the canary took longer than 0.01 s")


@in_loop
async def test_a_store_that_takes_no_write_fails_the_canary() -> None:
    """The handler's canary is not called then, and a store of a higher generation fences the worker."""
    runtime, store = await make(handler := NotingCanary())
    store.broken = True
    assert (await one_result(runtime, batch("canary"))).reason == "disk full"
    store.broken = False
    store.volume.highest = 2
    assert (await one_result(runtime, batch("canary"))).outcome is Outcome.RETRY
    assert runtime.fenced.is_set()
    assert handler.cells == []


@in_loop
async def test_every_canary_is_one_of_its_own() -> None:
    """Two canaries at the same time are two runs. If they shared one, the second would seem too fast."""
    runtime, _ = await make(handler := NotingCanary())
    assert len(await results(runtime, batch("canary", "canary"))) == 2
    assert len(handler.cells) == 2


@in_loop
async def test_an_event_is_no_canary_whatever_its_name() -> None:
    """An event whose id is `canary` is processed, and neither gets the other's answer."""
    runtime, store = await make(gate := Gate())
    named = EventBatch("cell-0000", 1, 1, 30, [WireEvent("canary", "key", 1, msgspec.Raw(b"1"))])
    event = asyncio.create_task(one_result(runtime, named))
    await turns()
    assert (await one_result(runtime, batch("canary"))).outcome is Outcome.OK
    assert not event.done()
    gate.open.set()
    assert (await event).outcome is Outcome.OK
    assert store.volume.processed == {"canary"}


@in_loop
async def test_a_canary_that_nobody_waits_for_ends() -> None:
    """It ends when its router has given it up, and a drain does not wait for one."""
    runtime, _ = await make(handler := NotingCanary(hangs=True))
    asking = asyncio.create_task(one_result(runtime, batch("canary")))
    await turns()
    asking.cancel()
    await turns()
    assert handler.ended == 1
    asking = asyncio.create_task(one_result(runtime, batch("canary")))
    await turns()
    await runtime.drain()
    assert (await asking).outcome is Outcome.RETRY
    assert (await one_result(runtime, batch("canary"))).outcome is Outcome.RETRY


@in_loop
async def test_an_event_says_how_long_it_waited_for_a_place() -> None:
    """That time is not part of its duration, and it is 0 when a place was free."""
    runtime, _ = await make(gate := Gate(), concurrency=1)
    asking = asyncio.create_task(results(runtime, batch("a", "b")))
    await asyncio.sleep(0.05)  # noqa: TID251 - the wait that is measured
    gate.open.set()
    found = await asking
    assert found[0].waited_s == 0
    assert found[0].duration_s > 0.04
    assert found[1].waited_s > 0.04
    assert found[1].duration_s < found[1].waited_s


def test_a_canary_that_is_no_coroutine_is_explained() -> None:
    """The worker doesn't start, and the error names the handler."""
    with pytest.raises(
        HandlerError, match=r"CELL_HANDLER=tests\.support\.handlers:PlainCanary: its canary is no coroutine"
    ):
        load_handler("tests.support.handlers:PlainCanary")
