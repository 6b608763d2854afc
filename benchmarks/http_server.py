"""As much of HTTP/1.1 as the stubs need, on a raw asyncio protocol: stubs must cost less than what they measure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import msgspec


class Request(NamedTuple):
    """One request that has arrived as a whole."""

    path: str
    head: bytes  # the request line and the headers
    body: bytes


class Connection(asyncio.Protocol):
    """One client's connection. Its requests must come one after another, and bodies with a Content-Length."""

    def __init__(self, handle: Callable[[Request, Connection], None]) -> None:
        self._handle = handle
        self._buffer = b""
        self.transport = asyncio.Transport()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports don't derive from it

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            total = end + 4 + int(header(head, b"content-length") or 0)
            if len(self._buffer) < total:
                return
            body, self._buffer = self._buffer[end + 4 : total], self._buffer[total:]
            self._handle(Request(head.split(b" ", 2)[1].decode(), head, body), self)

    def answer(self, body: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json") -> None:
        """Send a whole response with this body."""
        self.transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (status, kind, len(body), body)
        )

    def answer_json(self, value: Any) -> None:
        """Send a whole response with a value as JSON."""
        self.answer(msgspec.json.encode(value))


def header(head: bytes, name: bytes) -> bytes:
    """Return the value of the header with this lower-case name, in lower case; empty when there is no such header."""
    lower = head.lower()
    start = lower.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    end = lower.find(b"\r\n", start)
    return lower[start : end if end >= 0 else None].strip()
