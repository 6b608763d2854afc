"""Makes provisioners on this machine and a worker's environment from the settings, and injects faults into workers."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import structlog

from cell_worker.contract.http_server import watch_certificates
from cell_worker.contract.protocol import Fault
from cell_worker.contract.tls import TlsError, TlsFolders, of_caller
from router.adapters.cells.calls import CellCalls
from router.adapters.cells.chaos import inject
from router.adapters.cells.ends import PLAIN, CellEnds
from router.adapters.clock import SystemClock
from router.adapters.http_session import http_session
from router.adapters.keyring import Keyring
from router.adapters.provisioners.claims import why_not_claimed
from router.adapters.provisioners.docker_containers import DEFAULT_ENGINE_URL, DockerConfig
from router.adapters.provisioners.external import ExternalProvisioner
from router.adapters.provisioners.subprocess import SubprocessConfig, SubprocessProvisioner
from router.bootstrap.registry import keyring_of
from router.bootstrap.tracing import for_workers
from router.core.errors import ConfigError
from router.core.models import Target
from router.core.telemetry import BadInput
from router.ports import Clock, Provisioner
from router.settings import Settings

_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "no_proxy"})


def provisioner_of(
    stack: AsyncExitStack, settings: Settings, keyring: Keyring, clock: Clock, tell: Callable[[BadInput], None]
) -> Provisioner:
    """Make the provisioner that the settings name; it closes with the stack. Raises ConfigError."""
    match settings.cells.provisioner:
        case "external":
            return ExternalProvisioner()
        case "docker":
            return _docker_provisioner(stack, settings, keyring)
        case "subprocess":
            return _subprocess_provisioner(settings, keyring, clock, tell)
        case "ecs":
            raise AssertionError("tasks run what the cells' stacks say: bootstrap.cells makes both")


def ends_of(stack: AsyncExitStack, settings: Settings, clock: Clock) -> CellEnds:
    """Return how instances are reached; until the stack closes, new files of TLS are used. Raises ConfigError."""
    if settings.cells.tls_ca is None:
        return PLAIN
    try:
        tls = of_caller(settings.cells.tls_files())
    except TlsError as error:
        raise ConfigError(f"cells.tls_ca: {error}") from error
    stack.callback(asyncio.create_task(watch_certificates(tls, clock.sleep)).cancel)
    return CellEnds(settings.environment, tls)


async def leave(provisioner: Provisioner, *, was_last: bool) -> None:
    """End the cells that run as processes of this machine, when no controller is left to look after them.

    They go on for another controller to adopt when one is left, when that is not known, and, since nobody calls this,
    when a controller ends for a fault of its own. Containers outlive all controllers.
    """
    if not isinstance(provisioner, SubprocessProvisioner):
        return
    log = structlog.get_logger("cellrouter")
    if was_last:
        log.info("ends its cells, since no other controller is there to look after them")
        await provisioner.stop_all()
    else:
        log.info("leaves its cells running, for another controller on this machine to adopt")


async def inject_fault(settings: Settings, target: Target, fault: Fault) -> None:
    """Have an instance misbehave for a while.

    Raises ChaosRefusedError when it refuses, and CellUnavailableError when it can't be reached.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        ends = ends_of(stack, settings, clock)
        session = await stack.enter_async_context(http_session())
        await inject(CellCalls(session, keyring_of(settings), clock, ends=ends), target, fault)


def _docker_provisioner(stack: AsyncExitStack, settings: Settings, keyring: Keyring) -> Provisioner:
    try:
        from router.adapters.provisioners.docker import DockerProvisioner  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError("cells.provisioner: docker needs more packages: pip install 'cellrouter[docker]'") from error
    try:
        provisioner = DockerProvisioner(_docker_config(settings, keyring))
    except ValueError as error:
        raise ConfigError(f"DOCKER_HOST: {error}") from error
    stack.push_async_callback(provisioner.close)
    return provisioner


def _subprocess_provisioner(
    settings: Settings, keyring: Keyring, clock: Clock, tell: Callable[[BadInput], None]
) -> Provisioner:
    try:
        if (why := why_not_claimed(settings.cells.data_dir.absolute(), settings.environment)) is not None:
            raise ConfigError(f"cells.data_dir: {why}")
        return SubprocessProvisioner(_subprocess_config(settings, keyring), clock, tell)
    except OSError as error:
        raise ConfigError(f"cells.data_dir: it can't hold the cells' process ids and logs: {error}") from error


def _docker_config(settings: Settings, keyring: Keyring) -> DockerConfig:
    docker = settings.docker
    passed_on = {k: v for k, v in _for_workers().items() if k.startswith(("AWS_", "CELL_")) or k.lower() in _PROXIES}
    return DockerConfig(
        engine_url=os.environ.get("DOCKER_HOST") or DEFAULT_ENGINE_URL,
        image=docker.image,
        network=docker.network,
        prefix=docker.prefix,
        environment=settings.environment,
        variables=passed_on | worker_environment(settings),
        secret_of=keyring.cell_secret,
        labels=dict(pair.split("=", 1) for pair in docker.labels.split(",") if pair),
        memory_mb=docker.memory_mb,
        cpus=docker.cpus,
        pids=docker.pids,
        stop_grace_s=math.ceil(settings.cells.drain_timeout_s) + 5,
        tls=_tls_folders(settings),
    )


def _subprocess_config(settings: Settings, keyring: Keyring) -> SubprocessConfig:
    cells, data_dir = settings.cells, settings.cells.data_dir.absolute()
    return SubprocessConfig(
        run_dir=Path(data_dir / "run"),
        data_dir=data_dir / "cells",
        environment=_for_workers() | worker_environment(settings),
        secret_of=keyring.cell_secret,
        stop_grace_s=cells.drain_timeout_s + 5,
        tls=_tls_folders(settings),
    )


def _tls_folders(settings: Settings) -> TlsFolders | None:
    cells = settings.cells
    return TlsFolders(cells.tls_dir.absolute(), mutual=cells.tls_cert is not None) if cells.tls_dir else None


def _for_workers() -> dict[str, str]:
    """Return our own variables but those that no worker may see or be confused by: our settings, name and secrets."""
    ours = ("CELL_SECRET", "CELL_SECRET_FILE", "OTEL_SERVICE_NAME")
    return {k: v for k, v in os.environ.items() if not k.startswith("CELLROUTER_") and k not in ours}


def worker_environment(settings: Settings) -> dict[str, str]:
    """Return the variables of a worker that are the same for every cell; its secret is not among them."""
    cells, aws = settings.cells, settings.aws
    environment = {
        "CELL_ENVIRONMENT": settings.environment,
        "CELL_HANDLER": cells.handler,
        "CELL_STORE": cells.store,
        "CELL_REDIS_URL": cells.redis_url or settings.redis.url,
        "CELL_REDIS_PASSWORD_FROM": cells.redis_password_from if cells.redis_url else settings.redis.password_from,
        "CELL_CONCURRENCY": str(cells.concurrency),
        "CELL_SIDE_EFFECTS": str(cells.side_effects).lower(),
        "CELL_CHAOS": str(settings.chaos).lower(),
        "CELL_LEASE_TTL_S": str(cells.lease_ttl_s),
        "CELL_EVENT_TIMEOUT_S": str(cells.event_timeout_s),
        "CELL_DRAIN_TIMEOUT_S": str(cells.drain_timeout_s),
        "CELL_RESOURCE_PREFIX": aws.prefix,
        "CELL_LOG_FORMAT": settings.log.format,
        "AWS_REGION": aws.region,
        "AWS_DEFAULT_REGION": aws.region,
    }
    endpoints = _endpoints(aws.endpoint_url) if aws.endpoint_url else {}
    return environment | endpoints | for_workers(settings, os.environ)


def _endpoints(url: str) -> dict[str, str]:
    """Return the variables by which a worker's clients call this URL alone, as ours do, whatever others name."""
    ours = {name: url for name in os.environ if name.startswith("AWS_ENDPOINT_URL_")}
    return {**ours, "AWS_ENDPOINT_URL": url, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false"}
