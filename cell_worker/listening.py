"""Where a worker listens, and the address at which others reach it."""

from __future__ import annotations

import asyncio
import socket

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
    """The host's IP address, since routers only send to addresses of their networks. Raises ListenError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(f"CELL_ADVERTISE={host} has no address: {error}") from error
    addresses = [str(address[0]) for *_, address in found]
    if addresses[0] in EVERYWHERE:
        raise ListenError("CELL_ADVERTISE is required: the task's metadata names no address, and CELL_HOST is none")
    return next((a for a in addresses if ":" not in a), f"[{addresses[0]}]")
