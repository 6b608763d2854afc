"""Assembles a router or a controller from its settings and runs it. Adapters are picked only in this package."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import uuid
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

import structlog
from aiohttp import ClientSession
from fastapi import FastAPI
from fastapi.routing import APIRoute

from cell_worker.contract.addresses import bare_host, host_and_port
from cell_worker.contract.http_guard import OWN_FILES, AsgiApp, GuardedApp
from cell_worker.contract.http_server import PLACES, HttpServer, listen_on
from cell_worker.contract.open_pages import OpenPages
from cell_worker.contract.place import Place, place_of
from cell_worker.contract.process import keep_what_is_there, watch_descriptors
from cell_worker.contract.texts import own_version
from router.adapters.aws.s3_payloads import S3PayloadStore, open_payload_client
from router.adapters.cells.calls import CellCalls
from router.adapters.cells.client import HttpCellClient
from router.adapters.cells.control import HttpCellControl
from router.adapters.clock import SystemClock
from router.adapters.http_session import http_session
from router.adapters.keyring import Keyring
from router.adapters.lean_http.session import LeanSession
from router.adapters.logs import LogObserver, Observers
from router.adapters.metrics.controller import ControllerMetrics
from router.adapters.metrics.router import RouterMetrics
from router.adapters.saved_routing import SavedRouting
from router.adapters.secret_source import SecretWatch
from router.api.admin.app import AdminApi
from router.api.admin.surface import PREFIX
from router.api.app import create_app
from router.api.dashboard import LIVE_PATH, add_dashboard
from router.api.feed import FleetFeed
from router.api.published import Published
from router.api.stress import StressObserver, add_stress
from router.api.troubles import Troubles
from router.api.views import cell_views, fleet_view, lane_views, scrape_target, scrape_targets
from router.bootstrap.admin import Parted, open_admin
from router.bootstrap.archive import archivist_of
from router.bootstrap.cells import cell_makers
from router.bootstrap.queues import aws_of, names_of, open_dead_letters, queues_of
from router.bootstrap.registry import keyring_of, registry_of
from router.bootstrap.tracing import tracer_of
from router.bootstrap.workers import ends_of, leave
from router.core.addresses import host_of
from router.core.environments import LIVE
from router.core.errors import ConfigError, RegistryUnavailableError
from router.core.fleet.overview import About
from router.core.lanes.retry import RetryPolicy
from router.core.messages.parser import Extraction, Parser
from router.core.models import Reason
from router.core.views import FleetView, ScrapeTarget
from router.ports import CellRegistry, CellResources, Observer
from router.services.canary import canary_through
from router.services.control_plane.controller import Controller, ControllerConfig
from router.services.control_plane.upkeep import LedCells, Upkeep
from router.services.data_plane.consumer import ConsumerConfig
from router.services.data_plane.dispatcher import DispatcherConfig
from router.services.data_plane.event_router import DataPlaneConfig, Queues, assemble
from router.services.data_plane.payloads import PayloadConfig, Payloads
from router.services.data_plane.quarantine import QuarantineConfig
from router.services.supervisor import run_until
from router.services.unforeseen import Unforeseen
from router.settings import Settings

NEW_OBJECTS: Final = 5000
"""How many make the garbage collector begin. Of a router's, nearly none is in a cycle: it needs it seldom."""
_CLOCK = SystemClock()


async def run_router(settings: Settings) -> None:
    """Run a router until a signal stops it."""
    async with AsyncExitStack() as stack:
        stop, listener = _stop_on_signal(), _listen(stack, settings)
        metrics = RouterMetrics()
        troubles = Troubles()
        stress = StressObserver() if settings.environment != LIVE else None  # any producer can set a mark
        observer = Observers(metrics, LogObserver(), troubles, *([stress] if stress else []))
        keyring, secrets = _secrets_of(settings)
        registry = registry_of(stack, settings, keyring, observer.observe)
        source, queue = await queues_of(stack, settings, observer.observe)
        calls = await _calls(stack, settings, keyring, observer)
        client = HttpCellClient(calls, settings.cells.event_timeout_s)
        names = names_of(settings)
        queues = Queues(
            source=source,
            dead_letters=queue(names.dead_letter_queue),
            quarantine=queue(names.quarantine_queue),
            hold_of=lambda cell_id: queue(names.hold_queue(cell_id)),
            aside=queue(names.aside_queue) if names.aside_queue else None,
        )
        parser = Parser(Extraction(settings.source.partition_key, settings.source.event_id))
        payloads = await _payloads(stack, settings)
        config = _data_plane_config(settings, await place_of(os.environ))
        memory = SavedRouting(settings.cells.data_dir / f"routing-{settings.environment}.json")
        tracer = tracer_of(stack, settings, config.quarantine.who, metrics.registry)
        archive = await archivist_of(stack, settings, config.quarantine.who, observer)
        reads = parser, payloads, keyring, _CLOCK, observer, tracer, archive
        router = assemble(config, queues, registry, memory, client, *reads)
        dispatcher = router.dispatcher

        lanes = Published(lambda: lane_views(dispatcher), _CLOCK)
        metrics.watch_lanes(lambda: lanes.newest)
        metrics.watch_loop(router.lag.worst_of_late_s)

        def missing() -> Sequence[Reason]:
            denied = troubles.why_denied(source.name)  # nothing can be received: another router may be better off
            return denied if dispatcher.routed.is_set() else ["no slot map read yet", *troubles.reasons()]

        async def cells() -> Sequence[Any]:
            return lanes.newest

        app = create_app("router", metrics.registry, missing, troubles.reasons, cells, _audit(registry))
        if stress is not None:
            add_stress(app, stress.tallies)
        about = About("router", config.quarantine.who, settings.environment, own_version(), settings.api.sign_in)
        instances = HttpCellControl(calls)
        feed = FleetFeed(about, registry, instances, troubles.reasons, _CLOCK, Unforeseen(observer, _CLOCK))
        admin = await open_admin(stack, settings, registry, feed, partial(open_dead_letters, settings), observer)
        await _run(settings, stop, listener, app, feed, admin, router.run(stop), lanes.run(), secrets, observer)


async def run_controller(settings: Settings) -> None:
    """Run a controller until a signal stops it."""
    async with AsyncExitStack() as stack:
        stop, listener = _stop_on_signal(), _listen(stack, settings)
        metrics = ControllerMetrics()
        troubles = Troubles()
        observer = Observers(metrics, LogObserver(), troubles)
        keyring, secrets = _secrets_of(settings)
        registry = registry_of(stack, settings, keyring, observer.observe)
        makers = await cell_makers(stack, settings, keyring, _CLOCK, observer)
        resources, provisioner = makers.resources, makers.provisioner
        config, own = _controller_config(settings, await place_of(os.environ))
        calls = await _calls(stack, settings, keyring, observer)
        client = HttpCellClient(calls, settings.cells.event_timeout_s)
        canary = canary_through(client, Unforeseen(observer, _CLOCK))
        instances = HttpCellControl(calls)
        controller = Controller(config, registry, provisioner, resources, canary, instances, _CLOCK, observer)

        fleet = Published(lambda: fleet_view(controller.view), _CLOCK)

        def led() -> FleetView | None:
            """The newest snapshot, unless this controller has lost the lead since: then it may be out of date."""
            return fleet.newest if controller.view is not None else None

        metrics.watch_loop(controller.lag.worst_of_late_s)
        metrics.watch_fleet(led, lambda: keyring.ids[0])

        def missing() -> Sequence[Reason]:
            return [] if controller.reached else ["the registry was never read", *troubles.reasons()]

        async def cells() -> Sequence[Any]:
            if (found := led()) is not None:
                return found.cells
            return cell_views(await registry.snapshot(), await registry.conditions())  # another controller leads

        async def targets() -> Sequence[Any]:
            return scrape_targets(await registry.snapshot(), *own)

        app = create_app("controller", metrics.registry, missing, troubles.reasons, cells, _audit(registry), targets)
        upkeep = _upkeep(config.owner, registry, resources, controller, observer)

        async def work() -> None:
            await run_until(stop, {"controller": controller.run(), "upkeep": upkeep.run()}, observer)
            await leave(provisioner, was_last=controller.was_last)

        about = About("controller", config.owner, settings.environment, own_version(), settings.api.sign_in)
        feed = FleetFeed(about, registry, instances, troubles.reasons, _CLOCK, Unforeseen(observer, _CLOCK))
        admin = await open_admin(stack, settings, registry, feed, None, observer)
        await _run(settings, stop, listener, app, feed, admin, work(), fleet.run(), secrets, observer)


def _upkeep(
    who: str, registry: CellRegistry, resources: CellResources, controller: Controller, observer: Observer
) -> Upkeep:
    def found(cells: Collection[str]) -> None:
        controller.hold_queues = cells

    return Upkeep(who, registry, resources, lambda: _led_by(controller), found, _CLOCK, observer)


async def _run(
    settings: Settings,
    stop: asyncio.Event,
    listener: socket.socket,
    app: FastAPI,
    feed: FleetFeed,
    admin: AdminApi,
    work: Coroutine[Any, Any, None],
    publishing: Coroutine[Any, Any, None],
    secrets: SecretWatch,
    observer: Observer,
) -> None:
    """Serve the API beside the work, and publish what it shows; end when the work has ended after a stop."""
    ended = asyncio.Event()

    async def until_drained() -> None:
        await work
        ended.set()
        await asyncio.Event().wait()

    keep_what_is_there(NEW_OBJECTS)
    structlog.get_logger("cellrouter").info("started", role=app.title, port=listener.getsockname()[1])
    add_dashboard(app, feed)
    api = serve_api(app, feed, listener, settings, admin)
    tasks = {"work": until_drained(), "api": api, "views": publishing, "feed": feed.run(), "secrets": secrets.run()}
    await run_until(ended, tasks | {"descriptors": watch_descriptors(_CLOCK.sleep)}, observer)
    structlog.get_logger("cellrouter").info("stopped", by_signal=stop.is_set())


def _listen(stack: AsyncExitStack, settings: Settings) -> socket.socket:
    """Take the port of the API before anything else, so that a process that can't have it does nothing."""
    host, port = settings.api.host, settings.api.port
    try:
        return stack.enter_context(listen_on(host, port))
    except OSError as error:
        raise ConfigError(f"api.host, api.port: can't listen on {host_and_port(host, port)}: {error}") from error


def guarded_api(app: AsgiApp, settings: Settings) -> GuardedApp:
    """Put what guards browsers and hosts before an API; its dashboard loads its own files alone."""
    hosts = {settings.api.host, *re.split(r",\s*", settings.api.allowed_hosts)}
    return GuardedApp(app, hosts, "api.allowed_hosts", {"/": OWN_FILES})


async def serve_api(
    app: FastAPI, feed: FleetFeed, listener: socket.socket, settings: Settings, admin: AdminApi | None = None
) -> None:
    """Serve an API until cancelled; then end the streams, and wait a moment for requests in progress."""
    paths = [route.path for route in app.routes if isinstance(route, APIRoute)]
    guarded, now, sleep = guarded_api(app, settings), _CLOCK.monotonic, _CLOCK.sleep
    pages = OpenPages(guarded, paths, now, sleep, streams=[LIVE_PATH])
    served = pages if admin is None else Parted(PREFIX, guarded_api(admin, settings), pages)
    server = HttpServer(served, places=PLACES, goodbye_s=2)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        feed.close()
        server.should_exit = True  # requests in progress still get their answers
        await serving
        raise


def _stop_on_signal() -> asyncio.Event:
    """Return an event that the first SIGTERM, SIGINT or SIGHUP sets; the second signal ends the process at once."""
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


def _led_by(controller: Controller) -> LedCells | None:
    """Return the epoch and the cells that this controller looks after; None while another one leads."""
    view = controller.view
    if controller.epoch is None or view is None:
        return None
    cells, live = view.snapshot.cells.values(), {lease.cell_id for lease in view.snapshot.leases if lease.live}
    return LedCells(
        controller.epoch,
        [record.cell_id for record in cells if not record.retired],
        [record.cell_id for record in cells if record.retired and record.cell_id not in live],
    )


def _secrets_of(settings: Settings) -> tuple[Keyring, SecretWatch]:
    """Make the keyring, and the task that keeps it as its file says; warn of what is amiss with the secrets."""
    for warning in settings.secrets.warnings():
        structlog.get_logger("secrets").warning("the secrets should be better", why=warning)
    keyring = keyring_of(settings)
    return keyring, SecretWatch(settings.secrets, keyring, _CLOCK)


async def _calls(stack: AsyncExitStack, settings: Settings, keyring: Keyring, observer: Observer) -> CellCalls:
    # Idle connections are kept for less than uvicorn's 5 s: no request meets one that the cell just closes.
    limit, keep_s = 0, 3.0
    session: ClientSession | LeanSession
    if settings.lean_http:
        session = LeanSession(limit=limit, keepalive_timeout=keep_s)
    else:
        session = http_session(limit=limit, keepalive_timeout=keep_s)
    stack.push_async_callback(session.close)
    return CellCalls(session, keyring, _CLOCK, observer.observe, ends=ends_of(stack, settings, _CLOCK))


async def _payloads(stack: AsyncExitStack, settings: Settings) -> Payloads:
    client = await open_payload_client(stack, aws_of(settings)) if settings.source.payload_bucket else None
    return Payloads(PayloadConfig(settings.source.payload_bucket), S3PayloadStore(client))


def _audit(registry: CellRegistry) -> Callable[[int], Awaitable[Sequence[Any]]]:
    async def audit(limit: int) -> Sequence[Any]:
        try:
            return await registry.audit(limit)
        except RegistryUnavailableError:
            return []

    return audit


def _data_plane_config(settings: Settings, place: Place) -> DataPlaneConfig:
    retry, source = settings.retry, settings.source
    return DataPlaneConfig(
        source_name=source.queue,
        consumer=ConsumerConfig(source.pollers, source.wait_s, source.max_messages, source.max_bytes),
        dispatcher=DispatcherConfig(
            retry=RetryPolicy(retry.max_attempts, retry.base_delay_s, retry.max_delay_s),
            max_events=source.max_messages,
            max_bytes=source.max_bytes,
            max_kills=retry.max_kills,
        ),
        quarantine=QuarantineConfig(_identity(place), retry.quarantine_s),
        visibility_s=source.visibility_s,
        lease_ttl_s=settings.cells.lease_ttl_s,
        drain_timeout_s=settings.cells.drain_timeout_s,
        address=_reached_at(settings, place),
        zone=place.zone,
    )


def _controller_config(settings: Settings, place: Place) -> tuple[ControllerConfig, list[ScrapeTarget]]:
    """Return the controller's configuration, and what Prometheus shall know of the controller itself."""
    cells, address = settings.cells, _reached_at(settings, place)
    config = ControllerConfig(
        owner=_identity(place),
        cells=cells.count,
        launch_timeout_s=cells.launch_timeout_s,
        lease_ttl_s=cells.lease_ttl_s,
        warm_up_s=cells.warm_up_s,
    )
    return config, [scrape_target("controller", config.owner, address, place.zone)] if address else []


def _identity(place: Place) -> str:
    return f"{place.task or socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


def _reached_at(settings: Settings, place: Place) -> str:
    """Return the ip:port of this process' API for Prometheus; empty where only this machine can reach it or no one."""
    host, port = settings.api.host, settings.api.port
    if bare_host(host) in ("0.0.0.0", "::"):  # noqa: S104 - what these mean is the point
        host = place.address or _own_address()
    address = host_and_port(host, port)
    return address if host_of(address) is not None else ""


def _own_address() -> str:
    """Return the address that this machine's name leads to; empty where it leads nowhere."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return ""
    addresses = [ip_address(str(address[0]).partition("%")[0]) for *_, address in found]
    return next((str(each) for each in addresses if not (each.is_loopback or each.is_link_local)), "")
