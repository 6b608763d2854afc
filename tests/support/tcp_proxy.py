"""A proxy for tests in front of a server: it cuts connections, keeps them and lets nothing through, or delays all."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Self

from cell_worker.contract.addresses import host_and_port
from tests.support.servers import free_port

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 65536


class TcpProxy:
    """A proxy in front of one server, as an async context manager: it listens until the end of the block."""

    def __init__(self, target_port: int, host: str = HOST) -> None:
        self.port = free_port()
        self.url = f"redis://{host_and_port(host, self.port)}"  # the URL to use when the server is Redis
        self._host = host
        self.kept = 0  # chunks that a hung proxy has taken and not passed on
        self.delay_s = 0.0  # seconds that every chunk is kept, each way
        self._target_port = target_port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._trigger = b""
        self._server: asyncio.Server | None = None  # None while the proxy is cut
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.heal()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def break_off(self, fault: str) -> None:
        """Break the link: `cut` as when both ends see that it is dead, `hung` as when neither sees it (half open).

        `hung at …` hangs only when these bytes arrive, and they are the first that are not passed on.
        """
        if fault == "cut":
            await self.cut()
        elif fault == "hung":
            self.hang()
        else:
            self._trigger = fault.removeprefix("hung at ").encode()

    async def cut(self) -> None:
        """Drop every connection and all bytes that were not passed on; refuse new connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        self.kept = 0

    def lead_to(self, port: int) -> None:
        """Lead new connections to another server; those that exist stay where they are."""
        self._target_port = port

    def hang(self) -> None:
        """Keep connections open and take new ones, but pass on no bytes and no ends of connections, either way."""
        self._flowing.clear()

    async def heal(self) -> None:
        """Pass on what was kept back, in order, and all that comes; listen again on the same port after a cut."""
        self._trigger = b""
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, self._host, self.port)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # accepted before the cut
            writer.transport.abort()
            return
        link = asyncio.create_task(self._link(reader, writer))
        self._links.add(link)
        await asyncio.wait([link])
        self._links.discard(link)
        writer.transport.abort()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        with suppress(OSError):
            onward_reader, onward_writer = await asyncio.open_connection(HOST, self._target_port)
            try:
                await asyncio.gather(self._pump(reader, onward_writer), self._pump(onward_reader, writer))
            finally:
                onward_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self._trigger and self._trigger in data:
                self.hang()
            if not self._flowing.is_set():
                self.kept += 1
                await self._flowing.wait()
                self.kept -= 1
            if self.delay_s:
                await asyncio.sleep(self.delay_s)  # noqa: TID251 - a slow path, between real processes
            writer.write(data)
            await writer.drain()
        await self._flowing.wait()
        writer.write_eof()
