"""Where a worker listens, and the address at which others reach it."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

from cell_worker.settings import EVERYWHERE, WorkerSettings


class ListenError(Exception):
    """The worker can't listen on its address, or the address to advertise can't be resolved."""


def listen(settings: WorkerSettings) -> socket.socket:
    """Listen before the lease is written, so that the lease can tell the port. Raises ListenError."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=512)
    except OSError as error:
        raise ListenError(f"can't listen on {settings.host}:{settings.port}: {error}") from error


async def resolved(host: str) -> str:
    """Return the IP address of a host, since routers only send to addresses of their networks. Raises ListenError.

    Of `CELL_HOST` that means every address, it is the one that belongs to this machine's name.
    """
    found = await _addresses(host)
    if found and found[0] in EVERYWHERE:
        found = [each for each in await _addresses(socket.gethostname()) if not ip_address(each).is_loopback]
        if not found:
            raise ListenError(
                "CELL_ADVERTISE is required: CELL_HOST is no address, and neither the task's metadata nor the name of "
                "this machine gives one"
            )
    return next((each for each in found if ":" not in each), f"[{found[0]}]")


async def _addresses(host: str) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(f"CELL_ADVERTISE={host} has no address: {error}") from error
    return [str(address[0]).partition("%")[0] for *_, address in found]
