"""Clients that keep connections and send nothing, send slowly or read nothing: they cost the others nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil
import pytest

from cell_worker.contract import http_server, protocol
from cell_worker.contract.http_guard import SAFEGUARDS
from cell_worker.contract.http_server import PLACES, HttpServer
from router.adapters.clock import SystemClock
from tests.support.aio import run, until
from tests.support.worker_process import WorkerProcess, body, get, outcomes, post

pytestmark = pytest.mark.one_kind  # it is about sockets

FLOOD: Final = 1000
LARGE: Final = 8 * 1024 * 1024
"""Bytes that the kernel's buffers don't hold."""
POSTS: Final = [
    protocol.EVENTS_PATH,
    protocol.DRAIN_PATH,
    protocol.COMPONENT_RESTART_PATH.format(name="worker"),
    protocol.CHAOS_PATH,
]


@contextmanager
def flood(address: tuple[str, int], text: bytes) -> Iterator[list[socket.socket]]:
    """Open many connections, send this much on each and no more, and keep them."""
    with ExitStack() as stack:
        clients = []
        for _ in range(FLOOD):
            client = stack.enter_context(socket.create_connection(address, timeout=30))
            with suppress(OSError):  # it may have been cut already
                client.sendall(text)
            clients.append(client)
        yield clients


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
    ],
    ids=["nothing", "half a head", "no body"],
)
def test_a_thousand_half_open_connections_keep_nobody_out(redis_url: str, tmp_path: Path, text: bytes) -> None:
    """The worker serves a client at the same address, keeps few of the connections, and gives all back."""
    with WorkerProcess(redis_url, tmp_path, concurrency=1) as worker:
        url = worker.url()
        parts, process = urlsplit(url), psutil.Process(worker.process.pid)
        before = process.num_fds()
        with flood((str(parts.hostname), int(parts.port or 0)), text):
            for number in range(10):
                assert get(f"{url}/healthz")[0] == 200
                status, lines = post(f"{url}{protocol.EVENTS_PATH}", body(f"e{number}"))
                assert (status, outcomes(lines)) == (200, {0: "ok"})
            assert process.num_fds() <= before + PLACES  # half of them, for one address; the rest is for the worker

        async def few() -> bool:
            return process.num_fds() <= before + 5

        run(until(few, "the descriptors come back"))


def test_a_body_that_never_comes_ends_the_connection_on_every_path(redis_url: str, tmp_path: Path) -> None:
    """A client that sends a byte now and then is cut all the same: what counts is the whole request."""
    with WorkerProcess(redis_url, tmp_path) as worker:
        parts = urlsplit(worker.url())

        async def dribble(path: str) -> bool:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".encode())
            answer = asyncio.ensure_future(reader.read())
            while not answer.done():
                with suppress(OSError):
                    writer.write(b"x")
                    await writer.drain()
                await asyncio.wait([answer], timeout=0.2)
            writer.close()
            return answer.exception() is not None or b" 200 " not in answer.result()

        async def story() -> None:
            assert all(await asyncio.gather(*(dribble(path) for path in POSTS)))

        run(story())
        assert worker.process.poll() is None


def test_every_answer_of_a_worker_has_the_safeguards_of_a_browser(redis_url: str, tmp_path: Path) -> None:
    """Also refusals, and paths that are not there; the framework's own pages, which load foreign scripts, are not."""
    known = [value for name, value in vars(protocol).items() if name.endswith("_PATH")]
    with WorkerProcess(redis_url, tmp_path) as worker:
        parts = urlsplit(worker.url())
        for path in [*known, "/docs", "/redoc", "/openapi.json", "/"]:
            for method, host in [("GET", "127.0.0.1"), ("POST", "127.0.0.1"), ("GET", "evil.example")]:
                with closing(HTTPConnection(str(parts.hostname), parts.port, timeout=30)) as connection:
                    connection.request(method, path, headers={"Host": host})
                    reply = connection.getresponse()
                    told = {name.lower().encode(): value.encode() for name, value in reply.getheaders()}
                    assert dict(SAFEGUARDS).items() <= told.items(), (method, path)
                    reply.read()
                    assert b"html" not in told.get(b"content-type", b"")  # so nothing in it loads anything
                    assert reply.status == 421 or host == "127.0.0.1"
                    assert reply.status == 401 or method == "GET"  # whatever the path: nothing is proven
                    assert reply.status != 200 or path in known


async def large(scope: Any, receive: Any, send: Any) -> None:
    """Answer each request with many bytes, in one piece at /whole and else in parts."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    parts = 1 if scope["path"] == "/whole" else 64
    for _ in range(parts):
        await send({"type": "http.response.body", "body": b"x" * (LARGE // parts), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def serving(app: Any, places: int = PLACES) -> AsyncIterator[tuple[int, HttpServer]]:
    """Serve an application on a free port."""
    server = HttpServer(app, places=places, goodbye_s=1)
    listener = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield listener.getsockname()[1], server
    finally:
        server.should_exit = True
        await task


@pytest.mark.parametrize("path", ["/whole", "/parts"])
def test_a_client_that_reads_no_answer_is_cut(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the answer still waits to be written or uvicorn has it all, its connection and memory come back."""
    monkeypatch.setattr(http_server, "PATIENCE_S", 1.0)

    async def story() -> None:
        async with serving(large) as (port, server):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())

            async def came() -> bool:
                return len(server.server_state.connections) == 1

            async def gone() -> bool:
                return not server.server_state.connections and not server.server_state.tasks

            await until(came, "the server has the connection")
            await until(gone, "the connection is cut")
            writer.close()

    run(story())


def test_a_client_that_reads_slowly_gets_all_of_a_long_answer() -> None:
    """Only who reads nothing at all for long is cut."""

    async def story() -> None:
        async with serving(large) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /parts HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            got = 0
            while part := await reader.read(LARGE // 20):
                got += len(part)
                await SystemClock().sleep(0.02)
            assert got > LARGE
            writer.close()

    run(story())


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(4000)) + b"\r\n",
    ],
    ids=["a long header", "a long path", "many headers"],
)
def test_a_long_head_is_refused(request_: bytes) -> None:
    """It costs what one read brings at most, and the application never sees it."""

    async def story() -> None:
        async with serving(large) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_)
            assert (await reader.readline()).startswith(b"HTTP/1.1 400")
            writer.close()

    run(story())
