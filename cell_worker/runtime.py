"""Processes batches: hands each event to the handler, commits it to the store, and returns its result.

Guarantees:

- An event is answered `ok` only after its id and its lines are committed. A committed event is not handled again.
- At most `concurrency` handlers run at once, and never two for the same event.
- A client that goes away ends no event that has begun.
- Once the worker drains or is fenced, no further event begins.
- What a handler raises is the result of its own event and of no other.

A new instance is in standby: it answers canaries and touches nothing that an older instance may still work with. It
takes the store before it begins its first event, or as soon as the registry admits it to the cell's traffic.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import structlog

from cell_worker import clock
from cell_worker.api import Cell, Component, Event, RejectEvent, RetryEvent
from cell_worker.components.sink import MAX_LINE_BYTES
from cell_worker.fence import Fence
from cell_worker.metrics import WorkerMetrics
from cell_worker.protocol import MAX_REASON_CHARS, ComponentHealth, EventBatch, EventResult, Outcome, Reason, WireEvent
from cell_worker.store.store import FencedError, Store, StoreError

CHECK_TIMEOUT_S: Final = 5.0
"""A component that takes longer to check is unhealthy."""
ENDING: Final = "the worker is ending"
GIVEN_UP: Final = "given up: the worker is ending, or its client went away"


class HandlerError(Exception):
    """The handler that CELL_HANDLER names can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which instance of which cell this is."""

    cell_id: str
    generation: int
    environment: str
    side_effects: bool
    resources: str = ""

    def cell(self) -> Cell:
        """Make the cell that a handler is given."""
        log = structlog.get_logger("handler").bind(cell=self.cell_id)
        return Cell(self.cell_id, self.generation, self.environment, self.side_effects, log, resources=self.resources)


@dataclass(slots=True, eq=False)
class _Work:
    """One event or canary being worked on, and how many requests wait for its result."""

    task: asyncio.Task[EventResult]
    epoch: int  # of the batch that began it
    waiters: int = 0
    started: bool = False  # the handler has begun: a client that goes away cancels it no more. Never set for a canary

    def result(self) -> EventResult:
        """The result of the task, which must be done."""
        return EventResult(0, Outcome.RETRY, GIVEN_UP) if self.task.cancelled() else self.task.result()


_Done = tuple[int, bool, _Work]
"""An event's index in its batch, whether another request or an earlier event had begun its work, and that work."""


class Runtime:
    """Processes the batches of one instance. While `draining` or `fenced` is set, whole batches are refused."""

    def __init__(
        self,
        identity: Identity,
        handler: Callable[[Event, Cell], Awaitable[Mapping[str, Any] | None]],
        store: Store,
        metrics: WorkerMetrics,
        *,
        concurrency: int,
        event_timeout_s: float,
        fence: Fence | None = None,
    ) -> None:
        self.fence = fence or Fence()
        self.identity = identity
        self._cell = identity.cell()
        self.components: dict[str, Component] = {}
        self.draining = False
        self.fenced = asyncio.Event()
        self.taken = asyncio.Event()
        self._taking = asyncio.Lock()
        self._handler = handler
        self._handler_canary: Callable[[Cell], Awaitable[None]] | None = getattr(handler, "canary", None)
        self._store = store
        self._metrics = metrics
        self._places = asyncio.Semaphore(concurrency)
        self._timeout_s = event_timeout_s
        self._work: dict[object, _Work] = {}  # by event id; a canary, which no other request may join, by itself
        self._idle = asyncio.Event()
        self._idle.set()
        self._log = structlog.get_logger("worker")

    def owns(self, batch: EventBatch) -> bool:
        """Whether a batch is for this cell and generation, and the instance is not fenced."""
        mine = (self.identity.cell_id, self.identity.generation)
        return (batch.cell_id, batch.generation) == mine and not self.fenced.is_set()

    def process(self, batch: EventBatch, gone: asyncio.Future[Any] | None = None) -> AsyncIterator[EventResult]:
        """Begin a batch and yield its results in the order in which they come. Stops early when `gone` is done."""
        done: asyncio.Queue[_Done | None] = asyncio.Queue()
        works = [self._join(index, event, batch, done) for index, event in enumerate(batch.events)]
        if gone is not None:
            gone.add_done_callback(lambda _: done.put_nowait(None))
        return self._results(works, done)

    async def _results(self, works: Sequence[_Work], done: asyncio.Queue[_Done | None]) -> AsyncIterator[EventResult]:
        try:
            for _ in works:
                if (found := await done.get()) is None:
                    return
                index, joined, work = found
                result = work.result()
                duplicate = result.duplicate or (joined and result.outcome is Outcome.OK)
                yield msgspec.structs.replace(result, index=index, duplicate=duplicate)
        finally:
            for work in works:
                self._leave(work)

    async def take(self) -> None:
        """End the standby: from now on no older instance can commit. Raises StoreError or FencedError."""
        async with self._taking:
            if not self.taken.is_set():
                await self._store.take()
                self.taken.set()
                self._log.info("has the cell's store from now on", generation=self.identity.generation)

    async def drain(self) -> None:
        """Refuse new batches, begin no further event, and wait until every event that has begun is done."""
        self.draining = True
        for work in self._work.values():
            if not work.started:
                work.task.cancel()
        await self._idle.wait()

    def give_up(self) -> int:
        """Cancel the events that are still being worked on, with the outcome `retry`. Returns their number."""
        for work in self._work.values():
            work.task.cancel()
        return len(self._work)

    async def health(self) -> list[ComponentHealth]:
        """Check every component now and return their states."""
        return list(await asyncio.gather(*(_health(component) for component in self.components.values())))

    def _join(self, index: int, event: WireEvent, batch: EventBatch, done: asyncio.Queue[_Done | None]) -> _Work:
        """Begin the event, unless another request has begun it already, and put it in `done` when it is done."""
        begun = None if event.canary else self._work.get(event.event_id)
        work = begun or self._begin(event, batch)
        work.waiters += 1
        work.task.add_done_callback(lambda _: done.put_nowait((index, begun is not None, work)))
        return work

    def _leave(self, work: _Work) -> None:
        work.waiters -= 1
        if not work.waiters and not work.started:
            work.task.cancel()

    def _begin(self, event: WireEvent, batch: EventBatch) -> _Work:
        timeout_s = min(batch.deadline_s, self._timeout_s)
        process = self._process_canary(timeout_s) if event.canary else self._process_event(event, timeout_s)
        work = _Work(asyncio.create_task(process), batch.epoch)
        key = work if event.canary else event.event_id
        self._work[key] = work
        self.fence.begin(batch.epoch)
        self._idle.clear()
        work.task.add_done_callback(lambda _: self._end(key))
        return work

    def _end(self, key: object) -> None:
        self.fence.end(self._work.pop(key).epoch)
        if not self._work:
            self._idle.set()

    async def _process_event(self, wire: WireEvent, timeout_s: float) -> EventResult:
        waiting_since = clock.monotonic() if self._places.locked() else None
        async with self._places:
            if self.draining or self.fenced.is_set():
                return EventResult(0, Outcome.RETRY, ENDING)
            self._work[wire.event_id].started = True
            begun = clock.monotonic()
            with self._metrics.in_flight.track_inprogress():
                result = await self._outcome(wire, timeout_s)
            duration = clock.monotonic() - begun
        self._metrics.observe(result, duration)
        waited = 0.0 if waiting_since is None else begun - waiting_since
        return msgspec.structs.replace(result, duration_s=duration, waited_s=waited)

    async def _outcome(self, wire: WireEvent, timeout_s: float) -> EventResult:
        event = Event(wire.event_id, wire.partition_key, wire.attempt, bytes(wire.body))
        try:
            return EventResult(0, Outcome.OK, duplicate=not await self._process_once(event, timeout_s))
        except RejectEvent as error:
            return EventResult(0, Outcome.REJECTED, _why(error))
        except (RetryEvent, StoreError) as error:
            if isinstance(error, FencedError):
                self.fenced.set()
            elif isinstance(error, StoreError):
                self._log.error("the store fails", error=_why(error))
            return EventResult(0, Outcome.RETRY, _why(error))
        except BaseException as error:  # a handler may raise anything, also CancelledError or SystemExit
            if _ends_the_task(error):
                raise
            self._log.warning("the handler failed", event_id=event.event_id, attempt=event.attempt, exc_info=error)
            return EventResult(0, Outcome.FAILED, _why(error, f"{type(error).__name__}: "))

    async def _process_canary(self, timeout_s: float) -> EventResult:
        """Check the store and call the handler's canary. It takes no place: it shows how well the instance is."""
        if self.draining or self.fenced.is_set():
            return EventResult(0, Outcome.RETRY, ENDING)
        begun = clock.monotonic()
        try:
            async with _in_time(timeout_s, "the canary"):
                await self._store.check()
                if self._handler_canary is not None:
                    await self._handler_canary(replace(self._cell, side_effects=False, emitted=[]))
        except BaseException as error:  # as a handler, its canary may raise anything
            if _ends_the_task(error):
                raise
            if isinstance(error, FencedError):
                self.fenced.set()
            expected = isinstance(error, (RetryEvent, RejectEvent, StoreError))
            return EventResult(0, Outcome.RETRY, _why(error, "" if expected else f"{type(error).__name__}: "))
        return EventResult(0, Outcome.OK, duration_s=clock.monotonic() - begun)

    async def _process_once(self, event: Event, timeout_s: float) -> bool:
        """Handle the event and commit it. False when it was done before."""
        if not self.taken.is_set():
            await self.take()
        if await self._store.seen(event.event_id):
            return False
        lines, detail = await self._handle(event, timeout_s)
        new = await self._store.commit(event.event_id, lines)
        if detail:
            self._log.info("done", event_id=event.event_id, attempt=event.attempt, detail=detail)
        return new

    async def _handle(self, event: Event, timeout_s: float) -> tuple[list[bytes], Mapping[str, Any] | None]:
        """Run the handler within its time. Returns the lines that it emitted, and what it returned for the log."""
        cell = replace(self._cell, emitted=[])
        async with _in_time(timeout_s, "the handler"):
            detail = await self._handler(event, cell)
        return _lines(cell.emitted), detail


def load_handler(name: str) -> Any:
    """Import the handler `package.module:name`; of a class, make an object. Raises HandlerError."""
    module_name, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
        handler = found() if inspect.isclass(found) else found
    except Exception as error:
        raise HandlerError(f"CELL_HANDLER={name}: {_why(error, f'{type(error).__name__}: ')}") from error
    if not (inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)):
        raise HandlerError(f"CELL_HANDLER={name}: neither a coroutine function nor a class with an async __call__")
    if not inspect.iscoroutinefunction(getattr(handler, "canary", start_handler)):
        raise HandlerError(f"CELL_HANDLER={name}: its canary is no coroutine method")
    return handler


async def start_handler(handler: Any, cell: Cell) -> Sequence[Component]:
    """Start a handler that has `start` and `stop`. Returns its components; raises HandlerError, whatever it raises."""
    try:
        return await handler.start(cell) if _starts_and_stops(handler) else ()
    except Exception as error:
        raise HandlerError(f"the handler can't start: {type(error).__name__}: {error}") from error


async def stop_handler(handler: Any) -> None:
    """Stop a handler that `start_handler` has started."""
    if _starts_and_stops(handler):
        await handler.stop()


def _starts_and_stops(handler: Any) -> bool:
    return all(hasattr(handler, name) for name in ("start", "stop"))


def _lines(emitted: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Encode records as lines. Raises ValueError for one too long for the sink: it would block all lines after it."""
    lines = [msgspec.json.encode(record) + b"\n" for record in emitted]
    if longest := max((len(line) for line in lines if len(line) > MAX_LINE_BYTES), default=0):
        raise ValueError(f"an emitted record has {longest} bytes, more than the {MAX_LINE_BYTES} that the sink takes")
    return lines


def _why(error: BaseException, prefix: str = "") -> Reason:
    """The text of an exception, fit for a result line, even when its `__str__` raises. Its type if it has no text."""
    try:
        text = f"{prefix}{error}"
    except Exception:  # noqa: BLE001 - a handler's exceptions are the handler's code
        text = f"{prefix}(its text can't be shown)"
    text = text[:MAX_REASON_CHARS].encode(errors="replace").decode()  # JSON has no lone surrogates
    return text or type(error).__name__


@asynccontextmanager
async def _in_time(seconds: float, what: str) -> AsyncIterator[None]:
    """Limit a block's time. Raises TimeoutError that says what took too long; the block's own TimeoutError passes."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TimeoutError(f"{what} took longer than {seconds:g} s") from error


def _ends_the_task(error: BaseException) -> bool:
    """Whether this exception must end the task, because the task is being cancelled or the process is ending."""
    task = asyncio.current_task()
    cancelled = task is not None and task.cancelling() > 0
    return cancelled or isinstance(error, (KeyboardInterrupt, GeneratorExit))


async def _health(component: Component) -> ComponentHealth:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return ComponentHealth(component.name, healthy=True, detail=await component.check())
    except Exception as error:  # noqa: BLE001 - whatever a check raises means unhealthy
        return ComponentHealth(component.name, healthy=False, detail=f"{type(error).__name__}: {error}")
