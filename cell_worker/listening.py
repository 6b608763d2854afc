"""Where a worker listens, and the address at which others reach it."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

from cell_worker.contract.addresses import bare_host, host_and_port
from cell_worker.contract.http_server import listen_on
from cell_worker.settings import EVERYWHERE, WorkerSettings


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


def _is_local(address: str) -> bool:
    return ip_address(address).is_loopback or ip_address(address).is_link_local


async def _addresses(host: str) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(bare_host(host), None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(f"CELL_ADVERTISE={host} has no address: {error}") from error
    return [str(address[0]).partition("%")[0] for *_, address in found]
