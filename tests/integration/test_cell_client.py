"""The router's client of cells: which waiting times it believes from a cell's answers."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from router.adapters.cells.client import HttpCellClient
from router.core.models import Event, Target
from tests.support.aio import run


async def waited(line: bytes) -> float:
    """Return the waiting time that a client with an event timeout of 60 s reads from this result line."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + line + b"\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server, aiohttp.ClientSession() as session:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = HttpCellClient(session, "secret", 60)
        target = Target("cell-0000", 1, address, 1, 1)
        (result,) = [found async for found in client.process(target, [Event("a", "k", b"1")])]
        return result.waited_s


@pytest.mark.parametrize(
    ("said", "believed"),
    [("", 0), (',"waited_s":1.5', 1.5), (',"waited_s":-1', 0), (',"waited_s":1e300', 0), (',"waited_s":66', 0)],
    ids=["nothing", "a wait", "negative", "huge", "longer than the call may last"],
)
def test_a_waiting_time_is_believed_only_when_it_is_possible(said: str, believed: float) -> None:
    """The router subtracts the wait from the latency, so a false wait would make a slow cell look healthy."""
    assert run(waited(f'{{"index":0,"outcome":"ok"{said}}}'.encode())) == believed
