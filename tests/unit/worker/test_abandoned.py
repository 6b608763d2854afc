"""A handler that goes on after its time has its answer, gives its place back, and commits nothing."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from cell_worker.api import Cell, Event
from cell_worker.containment import abandoned
from cell_worker.containment.abandoned import FEWEST_ALLOWED, HandlerThreads
from cell_worker.contract.protocol import Outcome
from tests.support.aio import until
from tests.support.runtime_world import batch, in_loop, make, one_result, results, turns


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abandoned, "GRACE_S", 0.02)


class Stubborn:
    """A handler that swallows its cancellation for events named `bad…`, until it is released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.ended = asyncio.Event()
        self.begun: list[str] = []

    async def __call__(self, event: Event, cell: Cell) -> None:
        self.begun.append(event.event_id)
        cell.emit({"id": event.event_id})
        while event.event_id.startswith("bad") and not self.released.is_set():
            with suppress(asyncio.CancelledError):
                await self.released.wait()
        self.ended.set()

    async def canary(self, cell: Cell) -> None:
        """Go on as an event does."""
        while not self.released.is_set():
            with suppress(asyncio.CancelledError):
                await self.released.wait()


@in_loop
async def test_its_place_is_free_and_its_late_end_commits_nothing() -> None:
    """The one that waited for the place is done, while the handler still runs. Then that ends, for nothing."""
    runtime, store = await make(handler := Stubborn(), concurrency=1, timeout_s=0.02)
    found = await results(runtime, batch("bad", "good"))
    assert found[0].outcome is Outcome.FAILED
    assert found[0].reason == "the handler took longer than 0.02 s, and goes on after its cancellation"
    assert found[1].outcome is Outcome.OK
    assert runtime.abandoned.count() == 1
    await runtime.drain()  # it doesn't wait for what is abandoned
    handler.released.set()
    await handler.ended.wait()
    await turns()
    assert store.volume.processed == {"good"}
    assert [line for _, line in store.volume.lines] == [b'{"id":"good"}\n']
    assert runtime.abandoned.count() == 0


@in_loop
async def test_an_event_is_never_handled_twice_at_once() -> None:
    """Its next attempt fails while the first still runs, and is handled as usual once that has ended."""
    runtime, store = await make(handler := Stubborn(), timeout_s=0.02)
    assert (await one_result(runtime, batch("bad"))).outcome is Outcome.FAILED
    again = await one_result(runtime, batch("bad"))
    assert again.outcome is Outcome.FAILED
    assert "an earlier attempt still runs here" in (again.reason or "")
    assert handler.begun == ["bad"]
    handler.released.set()
    await handler.ended.wait()
    await turns()
    assert (await one_result(runtime, batch("bad"))).outcome is Outcome.OK
    assert store.volume.processed == {"bad"}


@in_loop
async def test_a_call_in_a_thread_counts_until_it_ends() -> None:
    """The handler itself ends at its time, but its thread doesn't."""
    release = threading.Event()

    async def handler(event: Event, cell: Cell) -> None:
        await asyncio.to_thread(release.wait)

    with HandlerThreads(4) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        runtime, _ = await make(handler, timeout_s=0.02)
        assert (await one_result(runtime)).reason == "TimeoutError: the handler took longer than 0.02 s"
        assert runtime.abandoned.count() == 1
        assert "an earlier attempt" in ((await one_result(runtime)).reason or "")
        release.set()

        async def ended() -> bool:
            return runtime.abandoned.count() == 0

        await until(ended, "the thread has ended")
        assert (await one_result(runtime)).outcome is Outcome.OK


@in_loop
async def test_as_many_as_places_are_too_many() -> None:
    """Then the worker should end. A worker with few places bears some more."""
    runtime, _ = await make(handler := Stubborn(), concurrency=1, timeout_s=0.01)
    for number in range(FEWEST_ALLOWED):
        assert not runtime.abandoned.too_many.is_set()
        await one_result(runtime, batch(f"bad{number}"))
    assert runtime.abandoned.too_many.is_set()
    assert "4 handlers go on after their time" in (runtime.abandoned.why_too_many() or "")
    handler.released.set()
    await turns()


@in_loop
async def test_a_canary_that_goes_on_is_abandoned_too() -> None:
    """Its answer says why, and the drain doesn't wait for it."""
    runtime, _ = await make(handler := Stubborn(), timeout_s=0.01)
    found = await one_result(runtime, batch("canary"))
    assert found.outcome is Outcome.RETRY
    assert found.reason == "the canary took longer than 0.01 s, and goes on after its cancellation"
    await runtime.drain()
    handler.released.set()


@in_loop
async def test_what_returns_within_its_grace_is_committed() -> None:
    """A handler may finish what it has begun when it is cancelled."""

    async def handler(event: Event, cell: Cell) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    runtime, store = await make(handler, timeout_s=0.01)
    assert (await one_result(runtime)).outcome is Outcome.OK
    assert store.volume.processed == {"a"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()], ids=repr)
@in_loop
async def test_what_would_end_a_process_fails_the_event(error: BaseException) -> None:
    """The worker handles signals itself, so a handler has raised it."""

    async def handler(event: Event, cell: Cell) -> None:
        raise error

    runtime, _ = await make(handler)
    result = await one_result(runtime)
    assert (result.outcome, result.reason) == (Outcome.FAILED, f"{type(error).__name__}: ")
