"""A real HTTP server that answers as a test says: it plays AWS, and the endpoints that a task gets things from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from cell_worker.contract.addresses import host_and_port

Answer = Callable[[bytes], AsyncIterator[bytes] | bytes]
"""Makes a whole answer of a whole request."""


@asynccontextmanager
async def server(answer: Answer, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """An HTTP server that reads a request, sends what `answer` makes of it, and closes."""
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(s[15:]) for s in head.split(b"\r\n") if s.lower().startswith(b"content-length:")), 0)
        found = answer(head + await reader.readexactly(length))
        if isinstance(found, bytes):
            writer.write(found)
        else:
            async for part in found:
                writer.write(part)
        await writer.drain()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    listener = await asyncio.start_server(connected, host, 0)
    try:
        yield f"http://{host_and_port(host, listener.sockets[0].getsockname()[1])}"
    finally:
        listener.close()
        tasks = [task for task in serving if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def http(status: int, body: Any, *headers: str) -> bytes:
    """Make a whole answer with this body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Something", f"Content-Length: {len(content)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content
