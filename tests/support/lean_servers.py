"""Connections without a network, on which a test plays the lean HTTP client's server, and virtual time for both."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterable
from itertools import pairwise
from typing import Any, Final, TypeVar

import pytest
from yarl import URL

from router.adapters.lean_http import session
from router.adapters.lean_http.connecting import Place
from router.adapters.lean_http.connection import LeanConnection

T = TypeVar("T")

URL_HERE: Final = URL("http://127.0.0.1:1/a?b=c")
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HEAD_OF_CHUNKS: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport to nowhere: what was written on it, and whether its server is listened to."""

    def __init__(self, connection: LeanConnection) -> None:
        super().__init__()
        self.connection = connection
        self.written: list[bytes] = []
        self.unsent = 0
        self.ended = ""  # how: by "abort" or by "close"
        self.paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return bool(self.ended)

    def abort(self) -> None:
        self._end("abort")

    def close(self) -> None:
        self._end("close")

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def said(self, *parts: bytes) -> None:
        """Let the server say this, as long as the connection lasts."""
        for part in parts:
            if not self.ended:
                self.connection.data_received(part)

    def hung_up(self, error: Exception | None = None) -> None:
        """Let the server end the connection, or a fault of the network."""
        if not self.ended:
            self.ended = "by the server"
            self.connection.connection_lost(error)

    def _end(self, how: str) -> None:
        if not self.ended:
            self.ended = how
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)


def wired() -> Wire:
    """Make a connection outside of a session."""
    connection = LeanConnection(lambda _: None, lambda _: None)
    wire = Wire(connection)
    connection.connection_made(wire)
    return wire


class Network:
    """What sessions connect to: each connection in its turn, with what its server does as soon as it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Wire], None] = lambda _: None) -> None:
        self.wires: list[Wire] = []
        self.opens: asyncio.Event | None = None  # connections open once it is set
        self.fault: Exception | None = None
        self._serve = serve
        monkeypatch.setattr(session, "connected", self._connected)

    async def _connected(self, _: Place, make: Callable[[], LeanConnection], __: float | None) -> LeanConnection:
        if self.opens is not None:
            await self.opens.wait()
        if self.fault is not None:
            raise self.fault
        wire = Wire(make())
        wire.connection.connection_made(wire)
        self.wires.append(wire)
        write = wire.write

        def write_and_serve(data: bytes | bytearray | memoryview) -> None:
            write(data)
            asyncio.get_running_loop().call_soon(self._serve, wire)

        wire.write = write_and_serve  # type: ignore[method-assign]
        return wire.connection


def pieces(text: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut bytes at these places."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(places)]


class _NoWait(selectors.DefaultSelector):
    """Lets the loop's time pass instead of waiting."""

    loop: _VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits, and nothing will ever come"
        self.loop.now += timeout
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when everything waits for it."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = _NoWait()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def played(story: Coroutine[Any, Any, T]) -> T:
    """Run a story to its end on virtual time."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(story)
