"""Processes batches: hands each event to the handler, commits it to the store, and returns its result.

Guarantees:

- An event is answered `ok` only after its name and its lines are committed. A committed event is not handled again. Its
  name is its partition key with its id: another key's event with the same id is another event.
- At most `concurrency` handlers run at once, never two for the same event, and never two suspects, whichever routers
  send them: of two, it would not be known which has killed the instance. A handler that goes on after its time
  and its cancellation is abandoned: its event has `failed`, its place is free, and nothing that it does is committed.
- A client that goes away ends no event that has begun.
- Once the worker drains or is fenced, no further event begins.
- What a handler raises is the result of its own event and of no other.

A new instance is in standby: it answers canaries and touches nothing that an older instance may still work with. It
takes the store before it begins its first event, or as soon as the registry admits it to the cell's traffic.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Any, Final

import msgspec
import structlog
from structlog.stdlib import BoundLogger

from cell_worker import clock
from cell_worker.api import Cell, Component, DeniedEvent, Event, RejectEvent, RetryEvent
from cell_worker.containment.abandoned import AbandonedRuns, Run, TimeLimit, current_run
from cell_worker.containment.children import leave_if_child
from cell_worker.contract.protocol import (
    ComponentHealth,
    EventBatch,
    EventName,
    EventResult,
    Outcome,
    Reason,
    WireEvent,
)
from cell_worker.fence import Fence
from cell_worker.handling import digest_of, event_of, lines_of, said_by
from cell_worker.metrics import WorkerMetrics
from cell_worker.store.store import FencedError, Store, StoreError
from cell_worker.vitals.probes import Probes

CHECK_TIMEOUT_S: Final = 5.0
"""A component that takes longer to check is unhealthy."""
ENDING: Final = "the worker is ending"
ONE_SUSPECT: Final = "another event that may kill this instance is being tried here: this one can come later"
DIGEST_BYTES: Final = 8
"""Of the digest that a store keeps of a body: enough to see that another body came under the same name."""
GIVEN_UP: Final = "given up: the worker is ending, or its client went away"


@dataclass(frozen=True, slots=True)
class Identity:
    """Which instance of which cell this is."""

    cell_id: str
    generation: int
    environment: str
    side_effects: bool
    resources: str = ""

    def cell(self, log: BoundLogger | None = None) -> Cell:
        """Make the cell that a handler is given; with the log of an earlier one, in a third of the time."""
        log = log or structlog.get_logger("handler").bind(cell=self.cell_id)
        return Cell(self.cell_id, self.generation, self.environment, self.side_effects, log, resources=self.resources)


@dataclass(slots=True, eq=False)
class _Work(Run):
    """One event or probe being worked on, and the requests that wait for its result."""

    key: object = None  # the event's name; the work itself for a probe, which no other request may join
    digest: bytes = b""  # of the event's body
    epoch: int = 0  # of the batch that began it
    timeout_s: float = 0.0
    waiting: list[Callable[[EventResult], None]] = field(default_factory=list)
    waiters: int = 0
    started: bool = False  # the handler has begun: a client that goes away cancels it no more. Never set for a probe
    has_place: bool = False
    suspect: bool = False  # an instance may have died of it
    waited_s: float = 0.0  # until it got a place


class AbandonedError(Exception):
    """A run went on after its event was answered, and may not commit."""


_Answered = tuple[int, "_Join", EventResult]
"""An event's index in its batch, whose work it waited for, and the result."""


class _Join(Enum):
    """Whose work an event waits for."""

    OWN = auto()
    SAME = auto()  # another request or an earlier event had begun it
    OTHER_BODY = auto()  # so it had, under the same name but with another body


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
        threads: int = 32,
    ) -> None:
        self.fence = fence or Fence()
        self.abandoned = AbandonedRuns(concurrency, threads)
        self.identity = identity
        self._cell = identity.cell()
        self.components: dict[str, Component] = {}
        self.draining = False
        self.fenced = asyncio.Event()
        self.taken = asyncio.Event()
        self._taking = asyncio.Lock()
        self._handler = handler
        self._store = store
        self._metrics = metrics
        self.probes = Probes(handler, store, self._cell, metrics.strain)
        self._places = asyncio.Semaphore(concurrency)
        self._at_work = 0  # events that have a place
        metrics.in_flight.set_function(lambda: self._at_work)
        self._timeout_s = event_timeout_s
        self._work: dict[object, _Work] = {}  # by event; a probe, which no other request may join, by itself
        self._idle = asyncio.Event()
        self._idle.set()
        self._log = structlog.get_logger("worker")

    def owns(self, batch: EventBatch) -> bool:
        """Whether a batch is for this cell and generation, and the instance is not fenced."""
        mine = (self.identity.cell_id, self.identity.generation)
        return (batch.cell_id, batch.generation) == mine and not self.fenced.is_set()

    def process(self, batch: EventBatch, gone: asyncio.Future[Any] | None = None) -> AsyncIterator[list[EventResult]]:
        """Begin a batch and yield its results in the order in which they come, those that come at once together.

        Many do, since the store commits in groups. Stops early when `gone` is done.
        """
        done: asyncio.Queue[_Answered | None] = asyncio.Queue()
        works = [self._join(index, event, batch, done) for index, event in enumerate(batch.events)]
        if gone is not None:
            gone.add_done_callback(lambda _: done.put_nowait(None))
        return self._results(works, done)

    async def _results(
        self, works: Sequence[_Work], done: asyncio.Queue[_Answered | None]
    ) -> AsyncIterator[list[EventResult]]:
        left = len(works)
        try:
            while left:
                found = [await done.get(), *(done.get_nowait() for _ in range(done.qsize()))]
                together = [_result_of(*each) for each in found if each is not None]
                if len(together) < len(found):
                    return  # who asked is gone
                left -= len(together)
                yield together
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

    def give_up(self) -> None:
        """Cancel the events that are still being worked on, with the outcome `retry`."""
        for work in self._work.values():
            work.task.cancel()

    async def health(self) -> list[ComponentHealth]:
        """Check every component now and return their states."""
        return list(await asyncio.gather(*(_health(component) for component in self.components.values())))

    def _join(self, index: int, event: WireEvent, batch: EventBatch, done: asyncio.Queue[_Answered | None]) -> _Work:
        """Begin the event, unless another request has begun it already, and put its result in `done` once there is."""
        digest = b"" if event.is_probe else hashlib.blake2b(event.body, digest_size=DIGEST_BYTES).digest()
        begun = None if event.is_probe else self._work.get(EventName(event.partition_key, event.event_id))
        work = begun or self._begin(event, batch, digest)
        join = _Join.OWN if begun is None else _Join.SAME if begun.digest == digest else _Join.OTHER_BODY
        work.waiters += 1
        work.waiting.append(lambda result: done.put_nowait((index, join, result)))
        return work

    def _leave(self, work: _Work) -> None:
        work.waiters -= 1
        if not work.waiters and not work.started:
            work.task.cancel()

    def _begin(self, event: WireEvent, batch: EventBatch, digest: bytes) -> _Work:
        work = _Work(digest=digest, epoch=batch.epoch, timeout_s=min(batch.deadline_s, self._timeout_s))
        work.key = work if event.is_probe else EventName(event.partition_key, event.event_id)
        process = self._process_probe if event.is_probe else self._process
        work.task = asyncio.create_task(process(event, work))
        work.task.add_done_callback(partial(self._ended, work))
        self._work[work.key] = work
        self.fence.begin(batch.epoch)
        self._idle.clear()
        return work

    def _ended(self, work: _Work, task: asyncio.Task[EventResult]) -> None:
        if task.cancelled():
            result = EventResult(0, Outcome.RETRY, GIVEN_UP)
        elif (error := task.exception()) is not None:
            result = EventResult(0, Outcome.FAILED, said_by(error, f"{type(error).__name__}: "))
        else:
            result = task.result()
        if not work.abandoned:
            self._answer(work, result)

    def _answer(self, work: _Work, result: EventResult) -> None:
        """Tell everybody who waits for it an event's result. From now on it may begin anew."""
        del self._work[work.key]
        self.fence.end(work.epoch)
        if not self._work:
            self._idle.set()
        for tell in work.waiting:
            tell(result)

    def _abandon(self, work: _Work, outcome: Outcome, why: Reason) -> None:
        """Answer for a run that goes on after its time and its grace. Its place is for others now."""
        work.abandoned = True
        duration = clock.monotonic() - work.began_at
        result = EventResult(0, outcome, why, duration_s=duration, waited_s=work.waited_s)
        if work.has_place:
            self._metrics.observe(result, duration)
        self._give_place_back(work)
        self._count_abandoned(work, why)
        self._answer(work, result)

    def _count_abandoned(self, work: _Work, why: Reason) -> None:
        self._metrics.abandoned.inc()
        key, event_id = work.key if isinstance(work.key, EventName) else ("", "a canary or a rehearsal")
        said = "a handler is abandoned: what it still does is not committed; it should heed its cancellation"
        self._log.warning(said, key=key, event_id=event_id, why=why)
        self.abandoned.add(work.key, work)

    def _give_place_back(self, work: _Work) -> None:
        if work.has_place:
            work.has_place = False
            self._places.release()
            self._at_work -= 1

    async def _process(self, wire: WireEvent, work: _Work) -> EventResult:
        current_run.set(work)
        if why := self.abandoned.why_not_again(work.key):
            return EventResult(0, Outcome.FAILED, why)
        if wire.suspect:
            if any(other.suspect for other in self._work.values()):
                return EventResult(0, Outcome.RETRY, ONE_SUSPECT, begun=False)
            work.suspect = True
        waiting_since = clock.monotonic() if self._places.locked() else None
        await self._places.acquire()
        work.has_place = True
        self._at_work += 1
        try:
            if self.draining or self.fenced.is_set():
                return EventResult(0, Outcome.RETRY, ENDING)
            work.started = True
            work.began_at = begun = clock.monotonic()
            work.waited_s = 0.0 if waiting_since is None else begun - waiting_since
            result = await self._outcome(wire, work)
            duration = clock.monotonic() - begun
        finally:
            self._give_place_back(work)
        if not work.abandoned:
            self._metrics.observe(result, duration)
        return msgspec.structs.replace(result, duration_s=duration, waited_s=work.waited_s)

    async def _outcome(self, wire: WireEvent, work: _Work) -> EventResult:
        event = event_of(wire)
        try:
            return await self._process_once(event, work)
        except RejectEvent as error:
            return EventResult(0, Outcome.REJECTED, said_by(error))
        except (RetryEvent, StoreError) as error:
            if isinstance(error, FencedError):
                self.fenced.set()
            elif isinstance(error, StoreError):
                self._log.error("the store fails", error=said_by(error))
            return EventResult(0, Outcome.RETRY, said_by(error), denied=isinstance(error, DeniedEvent))
        except BaseException as error:  # a handler may raise anything, also CancelledError, SystemExit, Ctrl-C's
            if _ends_the_task(error):
                raise
            if work.abandoned:
                self._log.info("an abandoned handler has ended", **_named(event), how=said_by(error))
                return EventResult(0, Outcome.FAILED)
            self._log.warning("the handler failed", **_named(event), attempt=event.attempt, exc_info=error)
            return EventResult(0, Outcome.FAILED, said_by(error, f"{type(error).__name__}: "))

    async def _process_probe(self, wire: WireEvent, work: _Work) -> EventResult:
        """Have the instance tried. It takes no place: it shows how well the instance is."""
        if self.draining or self.fenced.is_set():
            return EventResult(0, Outcome.RETRY, ENDING)
        current_run.set(work)
        work.began_at = clock.monotonic()
        what = "the rehearsal" if wire.rehearse else "the canary"
        try:
            with TimeLimit(work.timeout_s, what, partial(self._abandon, work, Outcome.RETRY)):
                await (self.probes.rehearse(event_of(wire), work) if wire.rehearse else self.probes.canary())
            leave_if_child()
        except BaseException as error:  # as a handler, its canary may raise anything
            leave_if_child()
            if _ends_the_task(error):
                raise
            if isinstance(error, FencedError):
                self.fenced.set()
            expected = isinstance(error, (RetryEvent, RejectEvent, StoreError))
            reason = said_by(error, "" if expected else f"{type(error).__name__}: ")
            return EventResult(0, Outcome.RETRY, reason, begun=not (wire.rehearse and isinstance(error, RejectEvent)))
        return EventResult(0, Outcome.OK, duration_s=clock.monotonic() - work.began_at)

    async def _process_once(self, event: Event, work: _Work) -> EventResult:
        """Handle the event and commit it, unless it was done before."""
        if not self.taken.is_set():
            await self.take()
        name = EventName(event.partition_key, event.event_id)
        if (done := await self._store.seen(name)) is not None:
            other = bool(done.digest) and done.digest != work.digest
            return EventResult(0, Outcome.OK, duplicate=True, other_body=other)
        lines, digest, detail = await self._handle(event, work)
        new = await self._metrics.strain.timed(self._store.commit(name, lines, work.digest))
        if detail:
            self._log.info("done", **_named(event), attempt=event.attempt, detail=detail)
        return EventResult(0, Outcome.OK, duplicate=not new, emitted=len(lines), emitted_digest=digest)

    async def _handle(self, event: Event, work: _Work) -> tuple[list[bytes], str, Mapping[str, Any] | None]:
        """Run the handler within its time. Returns the lines that it emitted, their digest, and what it returned."""
        cell = self.identity.cell(self._cell.log)
        limit = TimeLimit(work.timeout_s, "the handler", partial(self._abandon, work, Outcome.FAILED))
        try:
            with limit:
                detail = await self._handler(event, cell)
        except BaseException as error:
            leave_if_child()
            if limit.expired and not work.abandoned and work.busy_threads():
                self._count_abandoned(work, f"{said_by(error)}, and goes on in a thread")
            raise
        leave_if_child()
        if work.abandoned:
            raise AbandonedError("it returned, too late")
        return lines_of(cell.emitted), digest_of(cell.emitted), detail


def _result_of(index: int, join: _Join, result: EventResult) -> EventResult:
    if join is _Join.OWN or result.outcome is not Outcome.OK:
        return msgspec.structs.replace(result, index=index)
    other = result.other_body or join is _Join.OTHER_BODY
    return msgspec.structs.replace(result, index=index, duplicate=True, other_body=other)


def _named(event: Event) -> dict[str, str]:
    """How the log names an event."""
    return {"key": event.partition_key, "event_id": event.event_id}


def _ends_the_task(error: BaseException) -> bool:
    """Whether this exception must end the task, because the task is being cancelled or closed."""
    task = asyncio.current_task()
    return isinstance(error, GeneratorExit) or (task is not None and task.cancelling() > 0)


async def _health(component: Component) -> ComponentHealth:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return ComponentHealth(component.name, healthy=True, detail=await component.check())
    except Exception as error:  # noqa: BLE001 - whatever a check raises means unhealthy
        return ComponentHealth(component.name, healthy=False, detail=f"{type(error).__name__}: {error}")
