"""A real HTTP server that answers as a test says: it plays AWS, and the endpoints that a task gets things from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from cell_worker.contract.addresses import host_and_port
from tests.support.tcp_server import serving

Answer = Callable[[bytes], AsyncIterator[bytes] | bytes]
"""Makes a whole answer of a whole request."""


@asynccontextmanager
async def server(answer: Answer, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """An HTTP server that reads a request, sends what `answer` makes of it, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(s[15:]) for s in head.split(b"\r\n") if s.lower().startswith(b"content-length:")), 0)
        found = answer(head + await reader.readexactly(length))
        if isinstance(found, bytes):
            writer.write(found)
        else:
            async for part in found:
                writer.write(part)

    async with serving(serve, host) as port:
        yield f"http://{host_and_port(host, port)}"


def http(status: int, body: Any, *headers: str) -> bytes:
    """Make a whole answer with this body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Something", f"Content-Length: {len(content)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content
