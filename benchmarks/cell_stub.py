"""Stub cells that cost little CPU: each reads a batch by the wire contract and streams a result line for each event.

A cell works on `concurrency` events at once, each for its service time. The process prints the port of its commands,
then the cells' ports, and ends when stdin closes. Arguments: the number of cells, and their concurrency.

    POST /bench/reset                     forget what was counted; every cell is quick and listens again
    POST /bench/service  {cell, seconds}  how long an event takes there from now on
    POST /bench/kill     {cell}           close its port and its connections
    POST /bench/state                     batches, events, how many came again, and connections that were opened
"""

from __future__ import annotations

import asyncio
import heapq
import re
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import uvloop

from benchmarks.http_server import Connection, Request
from benchmarks.world import ENVIRONMENT, cell_id
from cell_worker.contract import protocol
from cell_worker.contract.keys import CellKeys, cell_secret
from cell_worker.contract.proofs import AnswerProofs
from tests.support.keys import SECRET

_batch: Final = msgspec.json.Decoder(protocol.EventBatch)
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
_END: Final = b"0\r\n\r\n"


_RESULTS: Final = [b'{"index":%d,"outcome":"ok","duration_s":0.001}' % i for i in range(protocol.MAX_BATCH_EVENTS)]
_PROOF: Final = re.compile(rb",p=([0-9a-f]{32})\r\n")


def _chunk(indexes: Iterable[int], proofs: AnswerProofs | None) -> bytes:
    """Make the chunk of results that come at once, as a worker does."""
    lines = b"".join(proofs.line(_RESULTS[index]) if proofs else _RESULTS[index] + b"\n" for index in indexes)
    return b"%x\r\n%b\r\n" % (len(lines), lines)


class StubCell:
    """A cell that does nothing with its events but take its time, and proves its answers to who proves its calls."""

    def __init__(self, number: int, concurrency: int) -> None:
        self.port = 0
        self._answer_key = CellKeys.of(cell_secret(SECRET, ENVIRONMENT, cell_id(number))).answer
        self._concurrency = concurrency
        self._server: asyncio.Server | None = None
        self._open: set[Connection] = set()
        self.reset()

    def reset(self) -> None:
        """Make the cell quick again, and forget what was counted."""
        self.service_s = 0.0
        self.batches = 0
        self.connections = 0
        self.seen: Counter[str] = Counter()
        self._free_at = [0.0] * self._concurrency  # a heap: when each of its workers will be free

    async def open(self) -> None:
        """Listen, on the same port as before the cell was killed."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._connection, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def kill(self) -> None:
        """Refuse connections and break the open ones, as if the process had died."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self._open:
            connection.transport.abort()
        self._open.clear()

    def _connection(self) -> Connection:
        self.connections += 1
        connection = Connection(self._handle)
        self._open = {c for c in self._open if not c.transport.is_closing()} | {connection}
        return connection

    def _handle(self, request: Request, connection: Connection) -> None:
        if request.path != protocol.EVENTS_PATH:
            connection.answer(b"{}")
            return
        batch = _batch.decode(request.body)
        self.batches += 1
        self.seen.update([event.event_id for event in batch.events])
        proven = _PROOF.search(request.head + b"\r\n")
        proofs = AnswerProofs(self._answer_key, proven.group(1).decode()) if proven else None
        if not self.service_s:
            connection.transport.write(_HEAD + _chunk(range(len(batch.events)), proofs) + _END)
            return
        connection.transport.write(_HEAD)
        loop = asyncio.get_running_loop()
        left = [len(batch.events)]
        for index in range(len(batch.events)):
            loop.call_at(self._worked(loop.time()), self._done, connection, index, left, proofs)

    def _done(self, connection: Connection, index: int, left: list[int], proofs: AnswerProofs | None) -> None:
        """Send one more result of a batch. The reply's end follows in a write of its own, as from a worker.

        `left` holds one number: how many events of the batch are not done yet.
        """
        left[0] -= 1
        self._write(connection, _chunk([index], proofs))
        if not left[0]:
            asyncio.get_running_loop().call_soon(self._write, connection, _END)

    def _worked(self, now: float) -> float:
        """Have the first worker that is free do one more event; when it will have done it."""
        end = max(now, self._free_at[0]) + self.service_s
        heapq.heapreplace(self._free_at, end)
        return end

    def _write(self, connection: Connection, data: bytes) -> None:
        if not connection.transport.is_closing():
            connection.transport.write(data)


class CellStubs:
    """All cells, and the commands by which a suite controls them."""

    def __init__(self, count: int, concurrency: int) -> None:
        self._cells = [StubCell(number, concurrency) for number in range(count)]

    async def run(self) -> None:
        """Serve all cells and the commands until stdin closes."""
        loop = asyncio.get_running_loop()
        control = await loop.create_server(lambda: Connection(self._handle), "127.0.0.1", 0)
        for cell in self._cells:
            await cell.open()
        print(control.sockets[0].getsockname()[1], *(cell.port for cell in self._cells), flush=True)
        await loop.run_in_executor(None, sys.stdin.read)

    def bench_reset(self) -> dict[str, Any]:
        """Make every cell quick and listening again, and forget what was counted."""
        for cell in self._cells:
            cell.reset()
        self._reopening = [asyncio.ensure_future(cell.open()) for cell in self._cells]
        return {}

    def bench_service(self, cell: int, seconds: float) -> dict[str, Any]:
        """Set how many seconds an event takes in a cell from now on."""
        self._cells[cell].service_s = seconds
        return {}

    def bench_kill(self, cell: int) -> dict[str, Any]:
        """Close a cell's port and break its connections."""
        self._cells[cell].kill()
        return {}

    def bench_state(self) -> dict[str, Any]:
        """Count batches, events, events that came again, and connections that were opened, over all cells."""
        events = sum(cell.seen.total() for cell in self._cells)
        return {
            "batches": sum(cell.batches for cell in self._cells),
            "events": events,
            "again": events - sum(len(cell.seen) for cell in self._cells),
            "connections": sum(cell.connections for cell in self._cells),
        }

    def _handle(self, request: Request, connection: Connection) -> None:
        command = getattr(self, "bench_" + request.path.removeprefix("/bench/"))
        connection.answer_json(command(**(msgspec.json.decode(request.body) if request.body else {})))


if __name__ == "__main__":
    uvloop.run(CellStubs(int(sys.argv[1]), int(sys.argv[2])).run())
