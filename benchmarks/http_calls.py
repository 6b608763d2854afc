"""CPU of the HTTP calls on an event's way: a router's three by each client, and a worker's side of a POST.

All in one process, in turns, so that only ratios count. What answers the router runs in a thread of its own, whose time
is not counted; the worker's side has no network. Neither needs any server.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import uvloop

from benchmarks.cell_stub import StubCell
from benchmarks.cost.senders import BODY, proven_post
from benchmarks.figures import table
from benchmarks.http_server import Connection, Request, header
from benchmarks.world import ENVIRONMENT, Options, cell_id
from cell_worker.app import CellApp
from cell_worker.calls import CallChecker
from cell_worker.chaos import Chaos
from cell_worker.contract import protocol
from cell_worker.contract.http_server import HttpServer
from cell_worker.contract.keys import CellKeys, cell_secret
from cell_worker.contract.process import keep_what_is_there
from cell_worker.metrics import WorkerMetrics
from cell_worker.runtime import Identity, Runtime
from cell_worker.store.sqlite import SqliteStore
from router.adapters.aws.sqs import SqsSource
from router.adapters.aws.sqs_client import SqsClient
from router.adapters.cells.calls import CellCalls
from router.adapters.cells.client import HttpCellClient
from router.adapters.cells.ends import PLAIN
from router.adapters.clock import SystemClock
from router.adapters.http_session import http_session
from router.adapters.lean_http.session import LeanSession
from router.core.models import Event, Message, Target
from tests.support.keys import SECRET, ring

BATCHES: Final = (1, 10, 50)
CALLS: Final = 300  # of each kind in one turn
TURNS: Final = 5
SENDERS: Final = 4  # connections on which a worker gets POSTs at once
_AUDIENCE: Final = protocol.instance_name(cell_id(0), 1)
_MESSAGE: Final = {
    "MessageId": "m" * 36,
    "ReceiptHandle": "r" * 180,
    "Body": BODY,
    "MD5OfBody": "0" * 32,
    "Attributes": {"SentTimestamp": "1700000000000", "ApproximateReceiveCount": "1"},
}


class _Credentials:
    """Credentials that are never asked for again."""

    access_key, secret_key, token = "k", "s", None

    async def get_frozen_credentials(self) -> _Credentials:
        return self

    def refused(self, code: str) -> None:
        return


def _sqs(count: int) -> Callable[[Request, Connection], None]:
    """Answer as SQS does to a batch of `count`."""
    received = msgspec.json.encode({"Messages": [_MESSAGE] * count})
    deleted = msgspec.json.encode({"Successful": [{"Id": str(number)} for number in range(count)]})

    def handle(request: Request, connection: Connection) -> None:
        connection.answer(received if header(request.head, b"x-amz-target").endswith(b"receivemessage") else deleted)

    return handle


@contextmanager
def _answering(count: int) -> Iterator[tuple[int, int]]:
    """Run what answers as SQS and as a cell, in a thread; yields their ports."""
    ports: list[int] = []
    ready, loop = threading.Event(), uvloop.new_event_loop()

    async def opened() -> None:
        listener, cell = socket.create_server(("127.0.0.1", 0)), StubCell(0, count)
        await loop.create_server(lambda: Connection(_sqs(count)), sock=listener)
        await cell.open()
        ports.extend((listener.getsockname()[1], cell.port))
        ready.set()

    def serve() -> None:
        loop.run_until_complete(opened())
        loop.run_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    ready.wait()
    try:
        yield ports[0], ports[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _us(work: Callable[[], Awaitable[object]]) -> float:
    """Measure the CPU of this thread for a call, over some."""
    begun = time.thread_time()
    for _ in range(CALLS):
        await work()
    return (time.thread_time() - begun) / CALLS * 1e6


async def _of_router(count: int, sqs: int, cell: int) -> dict[str, dict[str, float]]:
    """Measure a router's three calls for a batch, by each client in turns."""
    batch = [Event(f"e{number}", f"k{number}", BODY.encode()) for number in range(count)]
    messages = [Message(f"m{number}", "r" * 180, "", 0, 1) for number in range(count)]
    target, endpoint = Target(cell_id(0), 1, f"127.0.0.1:{cell}", count, 1), f"http://127.0.0.1:{sqs}"
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(TURNS):
        for name, session in (("aiohttp", http_session()), ("lean", LeanSession())):
            lean, options = name == "lean", {"connections": 1, "read_timeout_s": 10.0}
            client = SqsClient(endpoint, "us-east-1", _Credentials(), SystemClock(), lean=lean, **options)  # type: ignore[arg-type] # mypy sees one type for both
            source = SqsSource(f"{endpoint}/000000000000/bench", client, client)
            cells = HttpCellClient(CellCalls(session, ring(ENVIRONMENT), SystemClock(), ends=PLAIN), 60)

            async def post(cells: HttpCellClient = cells) -> None:
                async for _ in cells.process(target, batch):
                    pass

            works: dict[str, Callable[[], Awaitable[object]]] = {
                "receive": lambda source=source: source.receive(10, 10, 30),  # type: ignore[misc]
                "POST": post,
                "delete": lambda source=source: source.delete(messages),  # type: ignore[misc]
            }
            for what, work in works.items():
                found.setdefault(name, {}).setdefault(what, []).append(await _us(work))
            await client.close()
            await session.close()
    return {name: {what: median(runs) for what, runs in of.items()} for name, of in found.items()}


class _Wire(asyncio.Transport):
    """A connection to a server without a network."""

    def __init__(self, server: HttpServer) -> None:
        super().__init__()
        self._answered = asyncio.Event()
        make: Any = server.config.http_protocol_class
        self._connection = make(config=server.config, server_state=server.server_state, app_state={})
        self._connection.connection_made(self)

    async def ask(self, request: bytes) -> None:
        """Send a request, and wait for the end of its answer."""
        self._answered.clear()
        self._connection.data_received(request)
        await self._answered.wait()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if bytes(data[-5:]) == b"0\r\n\r\n":
            self._answered.set()

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return


async def _nothing(_: object, __: object) -> None:
    """Handle an event by doing nothing with it."""


async def _of_worker(count: int) -> float:
    """Measure the CPU, of all threads, that a POST of so many new events takes, its store on the disk."""
    keys = CellKeys.of(cell_secret(SECRET, ENVIRONMENT, cell_id(0)))
    with tempfile.TemporaryDirectory() as folder:
        store, metrics = SqliteStore(Path(folder) / "store.db"), WorkerMetrics()
        await store.open(1)
        identity = Identity(cell_id(0), 1, ENVIRONMENT, side_effects=False)
        runtime = Runtime(identity, _nothing, store, metrics, concurrency=SENDERS * max(BATCHES), event_timeout_s=30)
        await store.take()
        runtime.taken.set()
        app = CellApp(runtime, _no_page, CallChecker(keys, _AUDIENCE), metrics, Chaos(allowed=False))
        server = HttpServer(app, places=2 * SENDERS, goodbye_s=1)
        server.config.load()
        wires = [_Wire(server) for _ in range(SENDERS)]
        requests = iter([proven_post(cell_id(0), number, count) for number in range(CALLS)])

        async def send(wire: _Wire) -> None:
            for request in requests:
                await wire.ask(request)

        begun = time.process_time()
        await asyncio.gather(*map(send, wires))
        used = time.process_time() - begun
        await store.close()
    return used / CALLS * 1e6


async def _no_page(_: MutableMapping[str, Any], __: object, ___: object) -> None:
    """Serve no page at all: nobody asks for one here."""


async def run(options: Options) -> dict[str, Any]:
    """Measure each size of batch, print what each call takes and what that is for an event, and return the figures."""
    keep_what_is_there()  # as a worker does before it serves
    figures: dict[str, Any] = {}
    for count in BATCHES:
        columns: dict[str, dict[str, float]] = {}
        if count <= 10:  # SQS gives and takes no more at once
            with _answering(count) as ports:
                columns = await asyncio.to_thread(uvloop.run, _of_router(count, *ports))
        columns["worker"] = {"POST": await asyncio.to_thread(uvloop.run, _of_worker(count))}
        for column in columns.values():
            column["us an event"] = sum(column.values()) / count
        print(f"us of CPU a call, {count} events in each\n{table(columns)}\n", flush=True)
        figures[str(count)] = columns
    return figures
