"""Batches → the handler → the store → results, each as soon as it is there.

Guarantees: an event is answered `ok` only after its id and its lines are committed; an event that is done is not
handled again; at most `concurrency` handlers run at once, and never two for the same event. A client that goes away
ends nothing that has begun.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from cell_worker import clock
from cell_worker.api import Cell, Event, RejectEvent, RetryEvent
from cell_worker.components import Component
from cell_worker.metrics import WorkerMetrics
from cell_worker.protocol import MAX_REASON_CHARS, ComponentHealth, EventBatch, EventResult, Outcome, WireEvent
from cell_worker.sink import MAX_LINE_BYTES
from cell_worker.store import FencedError, Store, StoreError

CHECK_TIMEOUT_S = 5.0


class HandlerError(Exception):
    """CELL_HANDLER can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose events these are."""

    cell_id: str
    generation: int
    environment: str
    side_effects: bool

    def cell(self) -> Cell:
        """What one event sees."""
        log = structlog.get_logger("handler").bind(cell=self.cell_id)
        return Cell(self.cell_id, self.generation, self.environment, self.side_effects, log)


@dataclass(slots=True, eq=False)
class _Work:
    """One event being worked on, and how many requests wait for it."""

    task: asyncio.Task[EventResult]
    waiters: int = 0
    started: bool = False


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
    ) -> None:
        self.identity = identity
        self.components: dict[str, Component] = {}
        self.draining = False
        self.fenced = asyncio.Event()
        self._handler = handler
        self._store = store
        self._metrics = metrics
        self._places = asyncio.Semaphore(concurrency)
        self._timeout_s = event_timeout_s
        self._work: dict[str, _Work] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._log = structlog.get_logger("worker")

    def owns(self, batch: EventBatch) -> bool:
        """Whether a batch is meant for this instance."""
        mine = (self.identity.cell_id, self.identity.generation)
        return (batch.cell_id, batch.generation) == mine and not self.fenced.is_set()

    async def process(self, batch: EventBatch) -> AsyncIterator[EventResult]:
        """Yield the results in the order in which they come."""
        waits = [
            asyncio.create_task(self._await(index, event, batch.deadline_s)) for index, event in enumerate(batch.events)
        ]
        try:
            for next_one in asyncio.as_completed(waits):
                yield await next_one
        finally:
            for wait in waits:
                wait.cancel()

    async def drain(self) -> None:
        """Take no more, and wait until what has begun is done."""
        self.draining = True
        await self._idle.wait()

    async def health(self) -> list[ComponentHealth]:
        """Every component's state, checked now."""
        return list(await asyncio.gather(*(_health(component) for component in self.components.values())))

    async def _await(self, index: int, event: WireEvent, deadline_s: float) -> EventResult:
        """Wait for the event's work, begun here or by another request."""
        work = self._work.get(event.event_id)
        joined = work is not None
        if work is None:
            work = self._begin(event, min(deadline_s, self._timeout_s))
        work.waiters += 1
        try:
            result = await asyncio.shield(work.task)
        finally:
            work.waiters -= 1
            if not work.waiters and not work.started:
                work.task.cancel()
        duplicate = result.duplicate or (joined and result.outcome is Outcome.OK)
        return msgspec.structs.replace(result, index=index, duplicate=duplicate)

    def _begin(self, event: WireEvent, timeout_s: float) -> _Work:
        work = _Work(asyncio.create_task(self._one(event, timeout_s)))
        self._work[event.event_id] = work
        self._idle.clear()
        work.task.add_done_callback(lambda _: self._end(event.event_id))
        return work

    def _end(self, event_id: str) -> None:
        del self._work[event_id]
        if not self._work:
            self._idle.set()

    async def _one(self, wire: WireEvent, timeout_s: float) -> EventResult:
        async with self._places:
            self._work[wire.event_id].started = True
            begun = clock.monotonic()
            with self._metrics.in_flight.track_inprogress():
                result = await self._outcome(wire, timeout_s)
            duration = clock.monotonic() - begun
        self._metrics.duration.observe(duration)
        self._metrics.events.labels(result.outcome.value).inc()
        self._metrics.duplicates.inc(result.duplicate)
        return msgspec.structs.replace(result, duration_s=duration, reason=result.reason[:MAX_REASON_CHARS])

    async def _outcome(self, wire: WireEvent, timeout_s: float) -> EventResult:
        event = Event(wire.event_id, wire.partition_key, wire.attempt, bytes(wire.body))
        try:
            return EventResult(0, Outcome.OK, duplicate=not await self._process_once(event, timeout_s))
        except RejectEvent as error:
            return EventResult(0, Outcome.REJECTED, str(error))
        except (RetryEvent, StoreError) as error:
            if isinstance(error, FencedError):
                self.fenced.set()
            elif isinstance(error, StoreError):
                self._log.error("the store fails", error=str(error))
            return EventResult(0, Outcome.RETRY, str(error))
        except Exception as error:  # noqa: BLE001 - a handler may raise anything; all of it is `failed`
            self._log.warning("the handler failed", event_id=event.event_id, attempt=event.attempt, exc_info=error)
            return EventResult(0, Outcome.FAILED, f"{type(error).__name__}: {error}")

    async def _process_once(self, event: Event, timeout_s: float) -> bool:
        """Handle and commit; False when it was done before."""
        if await self._store.seen(event.event_id):
            return False
        return await self._store.commit(event.event_id, await self._handle(event, timeout_s))

    async def _handle(self, event: Event, timeout_s: float) -> list[bytes]:
        """Run the handler within its time; returns the lines that it emitted."""
        cell = self.identity.cell()
        try:
            async with asyncio.timeout(timeout_s) as patience:
                detail = await self._handler(event, cell)
        except TimeoutError as error:
            if not patience.expired():
                raise
            raise TimeoutError(f"the handler took longer than {timeout_s:g} s") from error
        if detail:
            self._log.info("done", event_id=event.event_id, attempt=event.attempt, **detail)
        return _lines(cell.emitted)


def load_handler(name: str) -> Any:
    """`package.module:name` → the coroutine function, or a new instance of the class. Raises HandlerError."""
    module_name, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise HandlerError(f"CELL_HANDLER={name}: {error}") from error
    if inspect.isclass(found):
        return found()
    if inspect.iscoroutinefunction(found):
        return found
    raise HandlerError(f"CELL_HANDLER={name}: neither a coroutine function nor a class")


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


async def _health(component: Component) -> ComponentHealth:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return ComponentHealth(component.name, healthy=True, detail=await component.check())
    except Exception as error:  # noqa: BLE001 - whatever a check raises means unhealthy
        return ComponentHealth(component.name, healthy=False, detail=f"{type(error).__name__}: {error}")
