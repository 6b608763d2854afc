"""Sends requests to what is measured, one after the other on each of some connections, at next to no cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Final, cast

import msgspec

from benchmarks.loads import per_event
from benchmarks.processes import BenchError, Child
from benchmarks.world import ENVIRONMENT, START_TIMEOUT_S, pause
from cell_worker import clock
from cell_worker.contract import protocol
from cell_worker.contract.keys import CellKeys, cell_secret
from cell_worker.contract.proofs import CallHeader, hash_of, prove_call
from tests.support.keys import SECRET

BODY: Final = '{"detail":"' + "x" * 700 + '"}'
_OK: Final = b"HTTP/1.1 200 "
_END: Final = b"0\r\n\r\n"  # of a body in chunks


class Sender(asyncio.Protocol):
    """One connection, on which the next request goes when the answer to the last one is whole.

    Every answer must be a 200 with a body in chunks, as a cell's is; `ended` gets BenchError for any other.
    """

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports don't derive from it
        self._next()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.startswith(_OK):
            self._end(BenchError(f"a request was answered {self._answer[:300]!r}"))
        elif self._answer.endswith(_END):
            self._answer = b""
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(BenchError(f"a connection ended: {exc}"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._end(None)
        else:
            self._transport.write(request)

    def _end(self, error: BenchError | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)
        self._transport.close()


async def send(port: int, requests: Iterable[bytes], connections: int) -> None:
    """Send all requests to a port of this machine, and return when all are answered. Raises BenchError."""
    loop, shared = asyncio.get_running_loop(), iter(requests)
    made = [await loop.create_connection(lambda: Sender(shared), "127.0.0.1", port) for _ in range(connections)]
    await asyncio.gather(*(sender.ended for _, sender in made))


async def until_listening(port: int, process: Child, name: str) -> None:
    """Wait until a process listens at a port of this machine. Raises BenchError when it has ended, or doesn't."""
    deadline = perf_counter() + START_TIMEOUT_S
    while not await _listening(port):
        process.check()
        if perf_counter() > deadline:
            raise BenchError(f"{name} does not listen:\n{process.tail()}")
        await pause(0.05)


async def measured(
    process: Child, port: int, requests: Iterable[bytes], connections: int, events: int
) -> dict[str, float]:
    """Send all requests to a process, and say what its CPU is for each of the events in them. Raises BenchError."""
    cpu_s, began = process.cpu_s(), perf_counter()
    await send(port, requests, connections)
    seconds = perf_counter() - began
    used = process.cpu_s() - cpu_s
    return {**per_event(used, events), "events_per_s": events / seconds, "rss_mb": process.rss_mb()}


async def _listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def proven_post(cell: str, number: int, count: int, name: str = "") -> bytes:
    """Write a POST of so many new events to the first generation of a cell, as a router does; `name` makes them new."""
    raw, audience = msgspec.Raw(BODY.encode()), protocol.instance_name(cell, 1)
    keys = CellKeys.of(cell_secret(SECRET, ENVIRONMENT, cell))
    events = [protocol.WireEvent(f"{name}{number}-{index}", f"k{index}", 0, raw) for index in range(count)]
    body = msgspec.json.encode(protocol.EventBatch(cell, 1, 1, 30.0, events))
    call = CallHeader(clock.time_ms(), "0" * 16, number + 1, hash_of(body), "")
    proven = prove_call(keys.call, call, "POST", audience, protocol.EVENTS_PATH).text()
    head = f"POST {protocol.EVENTS_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {proven}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
