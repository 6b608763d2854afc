"""Where a worker listens, and what it says of itself in Redis: where others reach it, or why it could not start."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from ipaddress import ip_address

from cell_worker import clock
from cell_worker.contract import protocol
from cell_worker.contract.addresses import bare_host, host_and_port
from cell_worker.contract.http_server import listen_on
from cell_worker.contract.place import Place, place_of, region_in
from cell_worker.contract.redis_client import connect
from cell_worker.lease import Heartbeat
from cell_worker.settings import EVERYWHERE, WorkerSettings

_NO_PORT = 1
"""Stands for the port of an instance that nobody can call any more."""


class ListenError(Exception):
    """The worker can't listen on its address, or the address to advertise can't be resolved."""


def listen(settings: WorkerSettings) -> socket.socket:
    """Listen before the lease is written, so that the lease can tell the port. Raises ListenError."""
    try:
        return listen_on(settings.host, settings.port)
    except OSError as error:
        raise ListenError(f"can't listen on {host_and_port(settings.host, settings.port)}: {error}") from error


async def resolved(host: str) -> str:
    """Return the IP address of a host, since routers only send to addresses of their networks. Raises ListenError.

    Of `CELL_HOST` that means every address, it is the one that belongs to this machine's name.
    """
    found = await _addresses(host)
    if found and found[0] in EVERYWHERE:
        found = [each for each in await _addresses(socket.gethostname()) if not _is_local(each)]
        if not found:
            raise ListenError(
                "CELL_ADVERTISE is required: CELL_HOST is no address, and neither the task's metadata nor the name of "
                "this machine gives one"
            )
    return next((each for each in found if ":" not in each), f"[{found[0]}]")


async def record_of(
    settings: WorkerSettings, generation: int, port: int, place: Place, *, rehearses: bool = False
) -> protocol.InstanceRecord:
    """Make the record of an instance that is reached at this port. Raises ListenError for a name that is none."""
    return protocol.InstanceRecord(
        environment=settings.environment,
        cell_id=settings.id,
        generation=generation,
        instance_id=uuid.uuid4().hex,
        address=f"{await resolved(settings.advertise or place.address or settings.host)}:{port}",
        concurrency=settings.concurrency,
        started_at_ms=clock.time_ms(),
        zone=settings.zone or place.zone,
        region=settings.region or region_in(os.environ),
        rehearses=rehearses,
    )


async def leave_word(settings: WorkerSettings, why: protocol.Reason) -> None:
    """Say in a lease that has ended why this instance could not start, for a controller that can't read its log.

    Only the controller that has numbered it knows of it. A Redis that can't be reached is no error.
    """
    if settings.generation is None:
        return
    try:
        record = await record_of(settings, settings.generation, _NO_PORT, await place_of(os.environ))
    except ListenError:
        return
    redis = connect(settings.redis_url, settings.login())
    try:
        await Heartbeat(redis, record, settings.keys().lease, settings.lease_ttl_s, why_unwell=lambda: why).give_up()
    finally:
        await redis.aclose()


def _is_local(address: str) -> bool:
    return ip_address(address).is_loopback or ip_address(address).is_link_local


async def _addresses(host: str) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(bare_host(host), None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(f"CELL_ADVERTISE={host} has no address: {error}") from error
    return [str(address[0]).partition("%")[0] for *_, address in found]
