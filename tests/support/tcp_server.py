"""A server of TCP whose connections a test serves itself, and which leaves none of them open."""

from __future__ import annotations

import asyncio
import ssl as tls
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Serves one connection, which is closed when this returns, or when its client breaks it off."""


@asynccontextmanager
async def serving(serve: Serve, host: str = "127.0.0.1", ssl: tls.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve at a port, which it yields, and end every connection with the context. Raises what `serve` has raised."""
    at_work: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at_work[asyncio.create_task(_served(serve, reader, writer))] = writer

    listener = await asyncio.start_server(connected, host, 0, ssl=ssl)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task, writer in at_work.items():
            task.cancel()
            writer.transport.abort()
        ends = await asyncio.gather(*at_work, return_exceptions=True)
        for writer in at_work.values():
            with suppress(OSError):
                await writer.wait_closed()
    for end in ends:
        if isinstance(end, Exception):
            raise end


async def _served(serve: Serve, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError, EOFError):
            await serve(reader, writer)
            await writer.drain()
    finally:
        writer.close()
