"""Puts a worker together and runs it: `python -m cell_worker`.

How the process ends:

- with 0 after a SIGTERM, a SIGINT or a drain call, and when another instance has the cell. With CELL_NOTICE_S, one
  that has the cell goes on for so long after a first SIGTERM: its machine ends, and a successor has to come up;
- with 1 when it can't start, or when a background task dies;
- with 2 when its settings have faults;
- with 3 when too many handlers go on after their time: the next instance has its places and threads to itself;
- immediately at a second signal.

Whatever hangs (a client, the handler, its threads and children, Redis, Firehose), it ends within CELL_DRAIN_TIMEOUT_S
and a few seconds.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from cell_worker import clock
from cell_worker.api import Component
from cell_worker.app import CellApp, control_app
from cell_worker.calls import CallChecker
from cell_worker.chaos import Chaos
from cell_worker.components.background import Backgrounds
from cell_worker.components.hold_queue import HoldQueueComponent
from cell_worker.components.own import StoreComponent, WorkerComponent
from cell_worker.components.sink import FirehoseSink, NullSink
from cell_worker.containment.abandoned import HandlerThreads
from cell_worker.containment.children import guard_forks
from cell_worker.containment.loop_watch import LoopWatch
from cell_worker.contract import protocol
from cell_worker.contract.http_guard import GuardedApp
from cell_worker.contract.http_server import PLACES, HttpServer, watch_certificates
from cell_worker.contract.metrics.spans import register_spans
from cell_worker.contract.place import place_of
from cell_worker.contract.process import keep_what_is_there, watch_descriptors
from cell_worker.contract.redis_client import RedisFault, RedisHealth, connect
from cell_worker.contract.secret_file import why_exposed
from cell_worker.ending import end_what_is_left, on_signals
from cell_worker.handling import HandlerError, lines_of, load_handler, start_handler, stop_handler
from cell_worker.lease import Heartbeat, LeaseLostError, claim_generation
from cell_worker.listening import ListenError, leave_word, listen, record_of
from cell_worker.metrics import WorkerMetrics
from cell_worker.runtime import Identity, Runtime
from cell_worker.settings import WorkerSettings
from cell_worker.store.dynamodb import DynamoStore
from cell_worker.store.sqlite import SqliteStore
from cell_worker.store.store import FencedError, Store, StoreError
from cell_worker.tables.durables import LentDurables
from cell_worker.tables.dynamodb import DynamoTable
from cell_worker.vitals.signs import VitalSigns

TAKE_AGAIN_S: Final = 1.0
"""How long the worker waits before it tries again to take the store."""
PRUNE_EVERY_S: Final = 60.0
"""How long the worker waits before it prunes the store again."""
PRUNE_PAUSE_S: Final = 0.05
"""The pause between two steps of pruning. It still forgets 10 000 events a second, more than ever come."""
CLOSE_TIMEOUT_S: Final = 2.0
"""How long the worker waits, at its end, for each thing that it closes."""
PLACES_FOR_EACH_EVENT: Final = 8
"""How many connections the worker takes for each event that it works on at once: routers keep some for each."""
REDIS_PORT: Final = 6379
"""Where Redis listens when its URL names no port."""


class TaskDiedError(Exception):
    """A background task has ended, though it should run as long as the worker; the text says which and why."""


class TooManyAbandonedError(Exception):
    """Handlers that go on after their time take too much of the worker from the others; the text says what."""


class Worker:
    """One instance of a cell, from its start to its end."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._keys = settings.keys()
        self._stop = asyncio.Event()
        self._admitted = asyncio.Event()  # Redis has said that the cell's traffic is for this instance
        self._chaos = Chaos(allowed=settings.chaos)
        self._log = structlog.get_logger("worker").bind(cell=settings.id)
        self._tls = settings.tls()
        self._redis = connect(settings.redis_url, settings.login())
        self._metrics = WorkerMetrics()
        self._redis_health = RedisHealth(self._on_redis)
        self._watch = LoopWatch(settings.handler, self._metrics)
        self._vitals = VitalSigns(self._metrics)
        self._threads = HandlerThreads(settings.concurrency)
        self._traced: Callable[[Any], Any] = lambda handler: handler
        names = (settings.resource_prefix, settings.environment, settings.id)
        self._resources = protocol.resource_name(*names)
        self._store: Store = (
            DynamoStore(settings.store_table or self._resources, self._resources)
            if settings.store == "dynamodb"
            else SqliteStore(settings.data_dir / "store.db")
        )
        self._durables = LentDurables(self._store, self._own_table, lines_of, self._metrics.registry)
        self._backgrounds = Backgrounds(self._chaos.check)
        self._hold_queue = HoldQueueComponent(protocol.hold_queue_name(*names))
        self._sink: FirehoseSink | NullSink = (
            FirehoseSink(self._store, self._resources) if settings.sink == "firehose" else NullSink(self._store)
        )

    async def run(self) -> None:
        """Start, serve until the worker is stopped or fenced, drain, and close everything.

        Raises HandlerError, ListenError or StoreError when it can't start, TaskDiedError when a task has died, and
        TooManyAbandonedError. What was given up may still run then.
        """
        on_signals(self._stop, self._notice_s)
        try:
            await self._run()
        except (HandlerError, ListenError, StoreError) as error:
            await leave_word(self._settings, str(error))
            raise
        finally:
            await end_what_is_left(CLOSE_TIMEOUT_S)
        self._log.info("stopped")

    async def _run(self) -> None:
        if (file := self._settings.secret_file) is not None and (exposed := why_exposed(file)) is not None:
            self._log.warning("the file with the cell's secret is open to others", path=str(file), why=exposed)
        asyncio.get_running_loop().set_default_executor(self._threads)
        async with AsyncExitStack() as stack:
            self._trace(stack)  # before the handler is imported, which may ask for the global tracer provider
            handler = load_handler(self._settings.handler)
            for name, close in self._closers():
                stack.push_async_callback(self._close, name, close)
            starting, stopping = _task("start", self._start(handler, stack)), _task("stop", self._stop.wait())
            await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
            await _cancelled(stopping)
            if starting.done():
                await self._serve(*starting.result())
            else:
                await _cancelled(starting)

    def _own_table(self, name: str) -> DynamoTable:
        return DynamoTable(protocol.table_name(self._resources, name))

    def _trace(self, stack: AsyncExitStack) -> None:
        """Begin to trace, where the settings say so."""
        if not self._settings.tracing:
            return
        from cell_worker.tracing.spans import TracedHandler, worker_tracing  # noqa: PLC0415 - an extra

        try:
            tracing = worker_tracing(self._settings.id, self._settings.environment)
        except ValueError as error:
            why = f"CELL_TRACING: a variable of OpenTelemetry (OTEL_*) is not as it should be: {error}"
            raise HandlerError(why) from error
        stack.push_async_callback(self._close, "the traces", tracing.close)
        register_spans("cell", self._metrics.registry, tracing.counts)
        self._traced = partial(TracedHandler, tracing=tracing)

    def _notice_s(self) -> float:
        """How long to go on after a signal: until a successor is there, or this instance must begin to drain."""
        if not self._admitted.is_set() or not self._settings.notice_s:
            return 0.0
        self._log.warning("is told to end, and goes on until another instance has the cell, for CELL_NOTICE_S at most")
        return self._settings.notice_s

    def _closers(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """What the worker closes at its end, by name. It begins with the last."""
        return [
            ("Redis", self._redis.aclose),
            ("the store", self._store.close),
            ("the hold queue", self._hold_queue.close),
            ("the sink", self._sink.close),
            ("the cell's own tables", self._durables.close),
        ]

    async def _close(self, name: str, close: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await close()
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker ends
            self._log.warning("can't be closed in order", what=name, error=f"{type(error).__name__}: {error}")

    async def _start(self, handler: Any, stack: AsyncExitStack) -> tuple[Runtime, HttpServer, socket.socket, Heartbeat]:
        identity = await self._identity()
        self._log = self._log.bind(generation=identity.generation)
        await self._store.open(identity.generation)
        runtime = self._runtime(identity, handler)
        lent = replace(identity.cell(), metrics=self._metrics.registry, durables=self._durables)
        components = self._backgrounds.around(await start_handler(handler, lent))
        stack.push_async_callback(self._close, "the handler", partial(stop_handler, handler))
        worker = WorkerComponent(self._stop, partial(self._why_unwell, runtime))
        own: list[Component] = [worker, StoreComponent(self._store), self._sink, self._hold_queue]
        runtime.components = {each.name: self._chaos.around_component(each) for each in (*own, *components)}
        listener = stack.enter_context(listen(self._settings))
        guard_forks({listener.getsockname()[1], urlsplit(self._settings.redis_url).port or REDIS_PORT})
        heartbeat = await self._heartbeat(identity, runtime, listener)
        return runtime, self._server(runtime, heartbeat), listener, heartbeat

    async def _identity(self) -> Identity:
        settings = self._settings
        generation, highest = settings.generation, await self._store.highest_generation()
        if generation is None or generation < highest:
            # A registry that has lost its data hands out generations that the store has already seen. The store will
            # refuse this instance. Claiming with the store's highest as a hint puts the next generation above all.
            claimed = await claim_generation(
                self._redis, settings.environment, settings.id, highest, self._redis_health
            )
            generation = generation or claimed
        return Identity(settings.id, generation, settings.environment, settings.side_effects, self._resources)

    def _runtime(self, identity: Identity, handler: Any) -> Runtime:
        return Runtime(
            identity,
            self._traced(self._chaos.around_handler(handler)),
            self._store,
            self._metrics,
            concurrency=self._settings.concurrency,
            event_timeout_s=self._settings.event_timeout_s,
            threads=self._threads.size,
        )

    def _why_unwell(self, runtime: Runtime) -> protocol.Reason | None:
        """Return what people should know about this worker, though it takes events. None when there is nothing."""
        abandoned = runtime.abandoned.count()
        reasons = [
            f"injected: {injected}" if (injected := self._chaos.why_failing()) else None,
            self._watch.why_blocked(),
            f"{abandoned} handlers go on after their time" if abandoned else None,
        ]
        return "; ".join(filter(None, reasons)) or None

    async def _heartbeat(self, identity: Identity, runtime: Runtime, listener: socket.socket) -> Heartbeat:
        settings, port, place = self._settings, listener.getsockname()[1], await place_of(os.environ)
        record = await record_of(settings, identity.generation, port, place, rehearses=runtime.probes.rehearses)
        self._log.info("started", address=record.address, zone=record.zone, task=place.task)
        health, why_unwell, vitals = self._redis_health, partial(self._why_unwell, runtime), lambda: self._vitals.said
        key, ttl_s = self._keys.lease, settings.lease_ttl_s
        return Heartbeat(self._redis, record, key, ttl_s, runtime.fence, health, why_unwell, vitals)

    def _on_redis(self, fault: RedisFault | None, why: str) -> None:
        self._metrics.registry_up.set(fault is None)
        if fault is None:
            self._log.warning("Redis can be used again")
        else:
            self._log.error("Redis can't be used; the cell goes on", fault=fault, why=why)

    def _server(self, runtime: Runtime, heartbeat: Heartbeat) -> HttpServer:
        def why_not_ready() -> protocol.Reason | None:
            if runtime.draining:
                return "draining"
            return None if heartbeat.ready else "starting"

        control = control_app(
            runtime,
            self._store,
            self._metrics,
            chaos=self._chaos,
            why_not_ready=why_not_ready,
            drain=self._stop.set,
        )
        settings, mine = self._settings, runtime.identity
        guarded = GuardedApp(control, {settings.host, settings.advertise}, "CELL_ADVERTISE")
        calls = CallChecker(self._keys, protocol.instance_name(mine.cell_id, mine.generation))
        return HttpServer(
            CellApp(runtime, guarded, calls, self._metrics, self._chaos),
            places=PLACES + PLACES_FOR_EACH_EVENT * settings.concurrency,
            goodbye_s=1,  # after the drain, only clients that neither send nor read are left
            tls=self._tls,
        )

    async def _serve(self, runtime: Runtime, server: HttpServer, listener: socket.socket, heartbeat: Heartbeat) -> None:
        serving = _task("server", server.serve([listener]))
        background = [
            _task("lease", heartbeat.run()),
            _task("tenure", self._take(runtime, heartbeat)),
            _task("sink", self._deliver(runtime)),
            _task("prune", self._prune(runtime)),
            _task("background", self._backgrounds.run(runtime.taken)),
            _task("descriptors", watch_descriptors(clock.sleep)),
            _task("loop watch", self._watch.run()),
            _task("vital signs", self._vitals.run()),
        ]
        if self._tls is not None:
            background.append(_task("tls", watch_certificates(self._tls, clock.sleep)))
        asked = {"stop": self._stop, "fence": runtime.fenced, "abandoned": runtime.abandoned.too_many}
        ends = [_task(name, event.wait()) for name, event in asked.items()]
        keep_what_is_there()
        heartbeat.ready = True
        self._admitted = heartbeat.admitted
        done, _ = await asyncio.wait([serving, *background, *ends], return_when=asyncio.FIRST_COMPLETED)
        died = self._dead_task(done.difference(ends), runtime) or self._too_many_abandoned(runtime)
        await self._drain(runtime, heartbeat)
        await _cancelled(*background, *ends)
        await heartbeat.release()  # after the last heartbeat, which would write the lease again
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        if died is not None:
            raise died

    def _dead_task(self, done: set[asyncio.Task[Any]], runtime: Runtime) -> TaskDiedError | None:
        """Log why the worker ends. A lost lease or store ends it in order; the end of any other task is an error."""
        died: TaskDiedError | None = None
        for task in done:
            # A handler can cancel any task of its process.
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if isinstance(error, (LeaseLostError, FencedError)):
                self._log.warning("fenced", why=str(error))
                runtime.fenced.set()
            else:
                died = TaskDiedError(f"the task '{task.get_name()}' ended: {error!r}")
                died.__cause__ = error
                self._log.error("a task ended, which none should", task=task.get_name(), exc_info=error)
        if not done and not runtime.abandoned.too_many.is_set():
            self._log.info("stopping", why="fenced by the store" if runtime.fenced.is_set() else "asked to")
        return died

    def _too_many_abandoned(self, runtime: Runtime) -> TooManyAbandonedError | None:
        if not runtime.abandoned.too_many.is_set():
            return None
        why = runtime.abandoned.why_too_many() or "too many handlers went on after their time"
        self._log.error("this instance ends, so that the next one begins without what is stuck here", why=why)
        return TooManyAbandonedError(why)

    async def _drain(self, runtime: Runtime, heartbeat: Heartbeat) -> None:
        """Finish the events that have begun and empty the outbox, while time lasts. The next instance has the rest."""
        heartbeat.ready = False
        self._chaos.end_all()
        try:
            async with asyncio.timeout(self._settings.drain_timeout_s):
                await runtime.drain()
                with suppress(FencedError):  # the successor delivers the rest
                    await self._sink.flush()
        except Exception as error:  # noqa: BLE001 - whatever it is, ending matters more
            self._log.warning("drained in part", error=f"{type(error).__name__}: {error}")
            runtime.give_up()

    async def _take(self, runtime: Runtime, heartbeat: Heartbeat) -> None:
        """Take the store once the instance is admitted: lines that another one has left go out before any event."""
        await heartbeat.admitted.wait()
        while not runtime.taken.is_set():
            try:
                await runtime.take()
            except FencedError:
                raise
            except StoreError as error:
                self._log.warning("can't take the store", error=str(error))
                await clock.sleep(TAKE_AGAIN_S)
        await asyncio.Event().wait()  # a task that ends, ends the worker

    async def _deliver(self, runtime: Runtime) -> None:
        """Deliver lines, but not in standby: an older instance may be delivering the same ones."""
        await runtime.taken.wait()
        await self._sink.run()

    async def _prune(self, runtime: Runtime) -> None:
        """Forget events that can't come again, but not in standby."""
        await runtime.taken.wait()
        while True:
            try:
                while await self._store.prune():
                    await clock.sleep(PRUNE_PAUSE_S)
            except StoreError as error:
                self._log.warning("can't prune the store", error=str(error))
            await clock.sleep(PRUNE_EVERY_S)


def _task(name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(work, name=name)


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
