"""Puts the parts of a process together from its settings: the one place that picks adapters."""

from __future__ import annotations

import asyncio
import gc
import getpass
import os
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from ipaddress import ip_network
from typing import Any

import aiohttp
import structlog
import uvicorn
from fastapi import FastAPI

from router.adapters.aws import AwsConfig, open_client
from router.adapters.aws_resources import AwsCellResources, Names, ensure_intake
from router.adapters.cell_chaos import inject
from router.adapters.cell_client import HttpCellClient
from router.adapters.cell_control import HttpCellControl
from router.adapters.clock import SystemClock
from router.adapters.logs import LogObserver, Observers
from router.adapters.prometheus import PrometheusObserver
from router.adapters.redis_registry import RedisRegistry, connect
from router.adapters.s3_payloads import S3PayloadStore, open_payload_client
from router.adapters.saved_routing import SavedRouting
from router.adapters.sqs import SqsSource
from router.adapters.sqs_client import open_sqs_client
from router.api.app import Readiness, create_app
from router.api.views import CellView, cell_views, lane_views, scrape_targets
from router.bootstrap_workers import provisioner_of
from router.core.errors import RegistryUnavailableError
from router.core.faults import Fault
from router.core.messages import Extraction, Parser
from router.core.policy import Policy
from router.core.retry import RetryPolicy
from router.core.telemetry import LeaseRefused
from router.ports import AuditEntry, CellRegistry
from router.services import policy
from router.services.canary import canary_through
from router.services.consumer import ConsumerConfig
from router.services.controller import Controller, ControllerConfig
from router.services.dead_letters import DeadLetters
from router.services.dispatcher import DispatcherConfig
from router.services.event_router import DataPlaneConfig, Queues, assemble
from router.services.payloads import PayloadConfig, Payloads
from router.services.quarantine import WardConfig
from router.services.supervisor import run_until
from router.services.upkeep import Charge, Upkeep
from router.settings import Settings

_CLOCK = SystemClock()


def names_of(settings: Settings) -> Names:
    """How everything of this environment is called."""
    source = settings.source
    return Names(
        settings.aws.prefix, settings.environment, source.queue, source.dead_letter_queue, source.quarantine_queue
    )


async def run_router(settings: Settings) -> None:
    """The data plane, until a signal."""
    async with AsyncExitStack() as stack:
        stop = _stop_on_signal()
        metrics = PrometheusObserver()
        observer = Observers(metrics, LogObserver())
        registry = await _registry(stack, settings, observer.observe)
        source, queue = await _queues(stack, settings)
        client = _cell_client(await _cell_session(stack), settings)
        names = names_of(settings)
        queues = Queues(
            source=source,
            dead_letters=queue(names.dead_letter_queue),
            quarantine=queue(names.quarantine_queue),
            hold_of=lambda cell_id: queue(names.hold_queue(cell_id)),
        )
        parser = Parser(Extraction(settings.source.partition_key, settings.source.event_id))
        payloads = await _payloads(stack, settings)
        config = _data_plane_config(settings)
        memory = SavedRouting(settings.cells.data_dir / f"routing-{settings.environment}.json")
        router = assemble(config, queues, registry, memory, client, parser, payloads, _CLOCK, observer)
        dispatcher = router.dispatcher

        metrics.watch(lambda: lane_views(dispatcher))

        def missing() -> Readiness:
            return Readiness([] if dispatcher.routed.is_set() else ["no slot map read yet"])

        async def lanes() -> Sequence[Any]:
            return lane_views(dispatcher)

        app = create_app("router", metrics.registry, missing, lanes, _audit(registry))
        await _run(stop, settings, app, router.run(stop))


async def run_controller(settings: Settings) -> None:
    """The control plane, until a signal."""
    async with AsyncExitStack() as stack:
        stop = _stop_on_signal()
        metrics = PrometheusObserver()
        observer = Observers(metrics, LogObserver())
        registry = await _registry(stack, settings, observer.observe)
        aws = _aws(settings)
        resources = AwsCellResources(
            names_of(settings),
            *[await open_client(stack, aws, service) for service in ("sqs", "s3", "firehose")],
            region=settings.aws.region,
            firehose_role=settings.aws.firehose_role,
        )
        provisioner = provisioner_of(stack, settings, _CLOCK)
        config = ControllerConfig(
            owner=_identity(),
            cells=settings.cells.count,
            launch_timeout_s=settings.cells.launch_timeout_s,
            lease_ttl_s=settings.cells.lease_ttl_s,
            warm_up_s=settings.cells.warm_up_s,
        )
        session = await _cell_session(stack)
        canary = canary_through(_cell_client(session, settings))
        instances = HttpCellControl(session, settings.secret.get_secret_value())
        controller = Controller(config, registry, provisioner, resources, canary, instances, _CLOCK, observer)

        def missing() -> Readiness:
            return Readiness([] if controller.reachable else ["the registry can't be reached"])

        async def cells() -> Sequence[Any]:
            return cell_views(await registry.snapshot(), await registry.conditions())

        def sight() -> Sequence[CellView]:
            seen = controller.sight
            return cell_views(seen.snapshot, seen.conditions) if seen is not None else []

        def frozen_by() -> str | None:
            return controller.sight.frozen_by if controller.sight is not None else None

        async def targets() -> Sequence[Any]:
            return scrape_targets(await registry.snapshot())

        metrics.watch_cells(sight, frozen_by)
        app = create_app("controller", metrics.registry, missing, cells, _audit(registry), targets)
        upkeep = Upkeep(config.owner, registry, resources, lambda: _charge_of(controller), _CLOCK, observer)
        await _run(stop, settings, app, run_until(stop, {"controller": controller.run(), "upkeep": upkeep.run()}))


async def run_init(settings: Settings) -> None:
    """Make what events arrive on: queue, dead-letter queue, bucket and notification."""
    async with AsyncExitStack() as stack:
        aws = _aws(settings)
        sqs, s3 = [await open_client(stack, aws, service) for service in ("sqs", "s3")]
        await ensure_intake(names_of(settings), sqs, s3, settings.aws.region)


@asynccontextmanager
async def open_dead_letters(settings: Settings) -> AsyncIterator[DeadLetters]:
    """The dead-letter queue of this environment, and the way back from there."""
    names = names_of(settings)

    def is_ours(queue: str, cell_id: str) -> bool:
        return queue in (names.source_queue, names.quarantine_queue, names.hold_queue(cell_id))

    async with AsyncExitStack() as stack:
        source, queue = await _queues(stack, settings)
        yield DeadLetters(queue(names.dead_letter_queue), source.name, is_ours, queue, _CLOCK)


@asynccontextmanager
async def open_registry(settings: Settings) -> AsyncIterator[RedisRegistry]:
    """The registry of this environment, for people."""
    async with AsyncExitStack() as stack:
        yield await _registry(stack, settings)


async def inject_fault(settings: Settings, address: str, fault: Fault) -> None:
    """Have the instance at this address fail for a while. Raises ChaosRefusedError, CellUnavailableError."""
    async with aiohttp.ClientSession() as session:
        await inject(session, settings.secret.get_secret_value(), address, fault)


async def change_policy(
    settings: Settings, action: str, why: str, edit: Callable[[Policy, int], Policy], cell_id: str = ""
) -> Policy:
    """Have the policy of this environment changed by hand; `edit` gets it and the time in ms."""
    now_ms, who = _CLOCK.time_ms(), f"{getpass.getuser()}@{socket.gethostname()}"
    async with open_registry(settings) as registry:
        audit = AuditEntry(now_ms, who, action, cell_id, why)
        return await policy.change(registry, lambda policy: edit(policy, now_ms), audit)


async def _run(stop: asyncio.Event, settings: Settings, app: FastAPI, work: Awaitable[None]) -> None:
    """Serve the API beside the work; end when the work has ended after a stop."""
    ended = asyncio.Event()

    async def until_drained() -> None:
        await work
        ended.set()
        await asyncio.Event().wait()

    gc.collect()
    gc.freeze()  # what is there now stays: a collection that walks all of it stops every event for 100 ms
    structlog.get_logger("cellrouter").info("started", role=app.title, port=settings.api.port)
    await run_until(ended, {"work": until_drained(), "api": _serve(app, settings)})
    structlog.get_logger("cellrouter").info("stopped", by_signal=stop.is_set())


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        """Signals are ours: uvicorn would end the process before the lanes are drained."""
        return nullcontext()


async def _serve(app: FastAPI, settings: Settings) -> None:
    config = uvicorn.Config(
        app,
        host=settings.api.host,
        port=settings.api.port,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True  # requests under way get their answers
        await serving
        raise


def _stop_on_signal() -> asyncio.Event:
    """Set by the first SIGTERM, SIGINT or SIGHUP; the second ends the process at once."""
    stop = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        structlog.get_logger("cellrouter").info("stopping", signal=signal.Signals(number).name)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)
    return stop


def _charge_of(controller: Controller) -> Charge | None:
    """What it is answerable for; nothing while another leads."""
    if controller.epoch is None or controller.sight is None:
        return None
    cells = controller.sight.snapshot.cells.values()
    return Charge(controller.epoch, [record.cell_id for record in cells if not record.retired])


async def _registry(
    stack: AsyncExitStack, settings: Settings, tell: Callable[[LeaseRefused], None] = lambda _: None
) -> RedisRegistry:
    redis = connect(settings.redis.url)
    stack.push_async_callback(redis.aclose)
    networks = [ip_network(part.strip()) for part in settings.cells.networks.split(",")]
    return RedisRegistry(redis, settings.environment, settings.secret.get_secret_value(), _CLOCK, networks, tell)


async def _cell_session(stack: AsyncExitStack) -> aiohttp.ClientSession:
    return await stack.enter_async_context(
        # The pool of kept connections is shorter-lived than uvicorn's 5 s: no request meets a closing connection.
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3))
    )


def _cell_client(session: aiohttp.ClientSession, settings: Settings) -> HttpCellClient:
    return HttpCellClient(session, settings.secret.get_secret_value(), settings.cells.event_timeout_s)


async def _queues(stack: AsyncExitStack, settings: Settings) -> tuple[SqsSource, Callable[[str], SqsSource]]:
    """The source, and a way to every other queue."""
    aws = _aws(settings)
    # 0: as many as there are polls. One of every hold queue, of the quarantine queue and of every poller may be open
    # at once, and cells are added while the router runs.
    poll = await open_sqs_client(stack, aws, connections=0, read_timeout_s=settings.source.wait_s + 10, clock=_CLOCK)
    call = await open_sqs_client(stack, aws, connections=50, read_timeout_s=30, clock=_CLOCK)
    return SqsSource(settings.source.queue, poll, call), lambda name: SqsSource(name, poll, call)


async def _payloads(stack: AsyncExitStack, settings: Settings) -> Payloads:
    client = await open_payload_client(stack, _aws(settings)) if settings.source.payload_bucket else None
    return Payloads(PayloadConfig(settings.source.payload_bucket), S3PayloadStore(client))


def _audit(registry: CellRegistry) -> Callable[[int], Awaitable[Sequence[Any]]]:
    async def audit(limit: int) -> Sequence[Any]:
        try:
            return await registry.audit(limit)
        except RegistryUnavailableError:
            return []

    return audit


def _aws(settings: Settings) -> AwsConfig:
    return AwsConfig(settings.aws.region, settings.aws.endpoint_url)


def _data_plane_config(settings: Settings) -> DataPlaneConfig:
    retry, source = settings.retry, settings.source
    return DataPlaneConfig(
        consumer=ConsumerConfig(source.pollers, source.wait_s, source.max_messages, source.max_bytes),
        dispatcher=DispatcherConfig(
            source_name=source.queue,
            retry=RetryPolicy(retry.max_attempts, retry.base_delay_s, retry.max_delay_s),
            max_events=source.max_messages,
            max_bytes=source.max_bytes,
        ),
        ward=WardConfig(_identity(), retry.quarantine_s),
        visibility_s=source.visibility_s,
        lease_ttl_s=settings.cells.lease_ttl_s,
        drain_timeout_s=settings.cells.drain_timeout_s,
    )


def _identity() -> str:
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
