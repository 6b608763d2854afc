"""Batches → the handler → the store → results, each as soon as it is there.

Guarantees: an event is answered `ok` only after its id and its lines are committed; an event that is done is not
handled again; at most `concurrency` handlers run at once, and never two for the same event. A client that goes away
ends nothing that has begun. Nothing begins any more once the worker drains or is fenced. What one handler raises is the
result of its own event and of no other.

A new instance is in standby: it answers canaries and touches nothing that an older one may still be working with. It
takes the store before it begins its first event, or when the registry says that the cell's traffic is for it.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import structlog

from cell_worker import clock
from cell_worker.api import Cell, Component, Event, RejectEvent, RetryEvent
from cell_worker.components.sink import MAX_LINE_BYTES
from cell_worker.fence import Fence
from cell_worker.metrics import WorkerMetrics
from cell_worker.protocol import MAX_REASON_CHARS, ComponentHealth, EventBatch, EventResult, Outcome, WireEvent
from cell_worker.store.store import FencedError, Store, StoreError

CHECK_TIMEOUT_S = 5.0
ENDING = "the worker is ending"
GIVEN_UP = "given up: the worker is ending, or its client went away"


class HandlerError(Exception):
    """CELL_HANDLER can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose events these are."""

    cell_id: str
    generation: int
    environment: str
    side_effects: bool
    resources: str = ""

    def cell(self) -> Cell:
        """What one event sees."""
        log = structlog.get_logger("handler").bind(cell=self.cell_id)
        return Cell(self.cell_id, self.generation, self.environment, self.side_effects, log, resources=self.resources)


@dataclass(slots=True, eq=False)
class _Work:
    """One event being worked on, and how often requests wait for it."""

    task: asyncio.Task[EventResult]
    epoch: int  # of the batch that began it
    waiters: int = 0
    started: bool = False  # then nothing but its own end ends it; a canary never is

    def result(self) -> EventResult:
        """Of the task, which is done."""
        return EventResult(0, Outcome.RETRY, GIVEN_UP) if self.task.cancelled() else self.task.result()


class Runtime:
    """The worker's heart. `fenced` and `draining` refuse whole batches."""

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
        self._try_way: Callable[[Cell], Awaitable[None]] | None = getattr(handler, "canary", None)
        self._store = store
        self._metrics = metrics
        self._places = asyncio.Semaphore(concurrency)
        self._timeout_s = event_timeout_s
        self._work: dict[object, _Work] = {}  # by event id; a canary, which nobody else may wait for, by itself
        self._idle = asyncio.Event()
        self._idle.set()
        self._log = structlog.get_logger("worker")

    def owns(self, batch: EventBatch) -> bool:
        """Whether a batch is meant for this instance."""
        mine = (self.identity.cell_id, self.identity.generation)
        return (batch.cell_id, batch.generation) == mine and not self.fenced.is_set()

    def process(self, batch: EventBatch, gone: asyncio.Future[Any] | None = None) -> AsyncIterator[EventResult]:
        """Begin the batch; yield results in the order in which they come, until nobody wants more: `gone` is done."""
        coming: asyncio.Queue[tuple[int, bool, _Work] | None] = asyncio.Queue()
        works = [self._join(index, event, batch, coming) for index, event in enumerate(batch.events)]
        if gone is not None:
            gone.add_done_callback(lambda _: coming.put_nowait(None))
        return self._results(works, coming)

    async def _results(
        self, works: Sequence[_Work], coming: asyncio.Queue[tuple[int, bool, _Work] | None]
    ) -> AsyncIterator[EventResult]:
        try:
            for _ in works:
                if (come := await coming.get()) is None:
                    return
                index, joined, work = come
                result = work.result()
                duplicate = result.duplicate or (joined and result.outcome is Outcome.OK)
                yield msgspec.structs.replace(result, index=index, duplicate=duplicate)
        finally:
            for work in works:
                self._leave(work)

    async def take(self) -> None:
        """End the standby: no older instance commits any more. Raises StoreError, FencedError."""
        async with self._taking:
            if not self.taken.is_set():
                await self._store.take()
                self.taken.set()
                self._log.info("has the cell's store from now on", generation=self.identity.generation)

    async def drain(self) -> None:
        """Take no more, begin no more, and wait until what has begun is done."""
        self.draining = True
        for work in self._work.values():
            if not work.started:
                work.task.cancel()
        await self._idle.wait()

    def give_up(self) -> int:
        """Cancel what drain has waited for in vain, with the outcome `retry`; how many events that were."""
        for work in self._work.values():
            work.task.cancel()
        return len(self._work)

    async def health(self) -> list[ComponentHealth]:
        """Every component's state, checked now."""
        return list(await asyncio.gather(*(_health(component) for component in self.components.values())))

    def _join(
        self, index: int, event: WireEvent, batch: EventBatch, coming: asyncio.Queue[tuple[int, bool, _Work] | None]
    ) -> _Work:
        """Wait for the event's work, begun here or by another request: it will be in `coming`."""
        work = None if event.canary else self._work.get(event.event_id)
        come = (index, work is not None, work or self._begin(event, batch))
        come[2].waiters += 1
        come[2].task.add_done_callback(lambda _: coming.put_nowait(come))
        return come[2]

    def _leave(self, work: _Work) -> None:
        work.waiters -= 1
        if not work.waiters and not work.started:
            work.task.cancel()

    def _begin(self, event: WireEvent, batch: EventBatch) -> _Work:
        timeout_s = min(batch.deadline_s, self._timeout_s)
        doing = self._canary(timeout_s) if event.canary else self._one(event, timeout_s)
        work = _Work(asyncio.create_task(doing), batch.epoch)
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

    async def _one(self, wire: WireEvent, timeout_s: float) -> EventResult:
        waits_since = clock.monotonic() if self._places.locked() else None
        async with self._places:
            if self.draining or self.fenced.is_set():
                return EventResult(0, Outcome.RETRY, ENDING)
            self._work[wire.event_id].started = True
            begun = clock.monotonic()
            with self._metrics.in_flight.track_inprogress():
                result = await self._outcome(wire, timeout_s)
            duration = clock.monotonic() - begun
        self._metrics.observe(result, duration)
        waited = 0.0 if waits_since is None else begun - waits_since
        return msgspec.structs.replace(result, duration_s=duration, waited_s=waited)

    async def _outcome(self, wire: WireEvent, timeout_s: float) -> EventResult:
        event = Event(wire.event_id, wire.partition_key, wire.attempt, bytes(wire.body))
        try:
            return EventResult(0, Outcome.OK, duplicate=not await self._process_once(event, timeout_s))
        except RejectEvent as error:
            return EventResult(0, Outcome.REJECTED, _text(error))
        except (RetryEvent, StoreError) as error:
            if isinstance(error, FencedError):
                self.fenced.set()
            elif isinstance(error, StoreError):
                self._log.error("the store fails", error=_text(error))
            return EventResult(0, Outcome.RETRY, _text(error))
        except BaseException as error:  # a handler may raise anything, also CancelledError or SystemExit
            if _ends_the_task(error):
                raise
            self._log.warning("the handler failed", event_id=event.event_id, attempt=event.attempt, exc_info=error)
            return EventResult(0, Outcome.FAILED, _text(error, f"{type(error).__name__}: "))

    async def _canary(self, timeout_s: float) -> EventResult:
        """How the instance is, not how much it has to do: it waits for no place, and counts as no event."""
        if self.draining or self.fenced.is_set():
            return EventResult(0, Outcome.RETRY, ENDING)
        begun = clock.monotonic()
        try:
            async with _in_time(timeout_s, "the canary"):
                await self._store.check()
                if self._try_way is not None:
                    await self._try_way(replace(self._cell, side_effects=False, emitted=[]))
        except BaseException as error:  # as a handler, its canary may raise anything
            if _ends_the_task(error):
                raise
            if isinstance(error, FencedError):
                self.fenced.set()
            expected = isinstance(error, (RetryEvent, RejectEvent, StoreError))
            return EventResult(0, Outcome.RETRY, _text(error, "" if expected else f"{type(error).__name__}: "))
        return EventResult(0, Outcome.OK, duration_s=clock.monotonic() - begun)

    async def _process_once(self, event: Event, timeout_s: float) -> bool:
        """Handle and commit; False when it was done before."""
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
        """Run the handler within its time; the lines that it emitted, and what it returned."""
        cell = replace(self._cell, emitted=[])
        async with _in_time(timeout_s, "the handler"):
            detail = await self._handler(event, cell)
        return _lines(cell.emitted), detail


def load_handler(name: str) -> Any:
    """`package.module:name` → the coroutine function, or a new instance of the class. Raises HandlerError."""
    module_name, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
        handler = found() if inspect.isclass(found) else found
    except Exception as error:
        raise HandlerError(f"CELL_HANDLER={name}: {_text(error, f'{type(error).__name__}: ')}") from error
    if not (inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)):
        raise HandlerError(f"CELL_HANDLER={name}: neither a coroutine function nor a class with an async __call__")
    if not inspect.iscoroutinefunction(getattr(handler, "canary", start_handler)):
        raise HandlerError(f"CELL_HANDLER={name}: its canary is no coroutine method")
    return handler


async def start_handler(handler: Any, cell: Cell) -> Sequence[Component]:
    """Start a handler that has a life of its own; its components. Raises HandlerError, whatever it raised."""
    try:
        return await handler.start(cell) if _has_a_life(handler) else ()
    except Exception as error:
        raise HandlerError(f"the handler can't start: {type(error).__name__}: {error}") from error


async def stop_handler(handler: Any) -> None:
    """Stop what start_handler started."""
    if _has_a_life(handler):
        await handler.stop()


def _has_a_life(handler: Any) -> bool:
    return all(hasattr(handler, name) for name in ("start", "stop"))


def _lines(emitted: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Raises ValueError for a line that the sink could never take: it would block all after it."""
    lines = [msgspec.json.encode(record) + b"\n" for record in emitted]
    if longest := max((len(line) for line in lines if len(line) > MAX_LINE_BYTES), default=0):
        raise ValueError(f"an emitted record has {longest} bytes, more than the {MAX_LINE_BYTES} that the sink takes")
    return lines


def _text(error: BaseException, prefix: str = "") -> str:
    """What an exception says, such as every result line can carry, even if its `__str__` raises."""
    try:
        text = f"{prefix}{error}"
    except Exception:  # noqa: BLE001 - a handler's exceptions are the handler's code
        text = f"{prefix}(its text can't be shown)"
    return text[:MAX_REASON_CHARS].encode(errors="replace").decode()  # JSON has no lone surrogates


@asynccontextmanager
async def _in_time(seconds: float, what: str) -> AsyncIterator[None]:
    """Raises TimeoutError that says what took too long; one of the body's own passes as it is."""
    try:
        async with asyncio.timeout(seconds) as patience:
            yield
    except TimeoutError as error:
        if not patience.expired():
            raise
        raise TimeoutError(f"{what} took longer than {seconds:g} s") from error


def _ends_the_task(error: BaseException) -> bool:
    """Whether the task has to end with it: it is being cancelled, or the process is."""
    task = asyncio.current_task()
    cancelled = task is not None and task.cancelling() > 0
    return cancelled or isinstance(error, (KeyboardInterrupt, GeneratorExit))


async def _health(component: Component) -> ComponentHealth:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return ComponentHealth(component.name, healthy=True, detail=await component.check())
    except Exception as error:  # noqa: BLE001 - whatever a check raises means unhealthy
        return ComponentHealth(component.name, healthy=False, detail=f"{type(error).__name__}: {error}")
