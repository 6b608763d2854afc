"""What a connection of our HTTP server takes for a request, and what it answers, in whatever pieces it comes."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cell_worker.contract.http_server import MAX_HEAD_BYTES, HttpServer
from tests.support.aio import run
from tests.support.lean_servers import pieces

QUICK: Final = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None)
GET: Final = b"GET /a%20b?c=d HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n"
POST: Final = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED: Final = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n"


class Line(asyncio.Transport):
    """A transport to nowhere: what was written on it, and how it was ended."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = ""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "nothing is written after the end"
        self.written += data

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = self.ended or "close"

    def abort(self) -> None:
        self.ended = self.ended or "abort"

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Client:
    """Sends bytes on a connection of its own to an application that waits, with its answer, for `go`."""

    def __init__(self, *, early: bool = False) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self._early = early  # the answer begins before the body is there
        self.asked: list[MutableMapping[str, Any]] = []
        self.bodies: list[bytes | None] = []  # None: the client went before its body was there
        server = HttpServer(self, places=4, goodbye_s=1)
        server.config.load()
        make: Any = server.config.http_protocol_class
        self.line = Line()
        self.connection = make(config=server.config, server_state=server.server_state, app_state={})
        self.connection.connection_made(self.line)

    async def send(self, *parts: bytes) -> bytes:
        """Send these, as long as the connection lasts, and return what was answered since the beginning."""
        for part in parts:
            if not self.line.ended:
                self.connection.data_received(part)
                await self.turns()
        return self.line.written

    async def turns(self) -> None:
        """Let everything go on as far as it can."""
        for _ in range(8):
            await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        self.asked.append(scope)
        head, body = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}, b""
        if self._early:
            await send(head)
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body if message["type"] == "http.request" else None)
        await self.go.wait()
        if not self._early:
            await send(head)
        await send({"type": "http.response.body", "body": b"ok"})


@QUICK
@given(
    text=st.sampled_from([GET, POST, CHUNKED + b"\r\n", CHUNKED + b"Host: evil\r\nAuthorization: a\r\n\r\n"]),
    times=st.integers(min_value=1, max_value=3),
    cuts=st.lists(st.integers(min_value=0, max_value=500), max_size=5),
)
def test_a_request_is_read_as_it_was_sent(text: bytes, times: int, cuts: list[int]) -> None:
    """However it is cut; one after the other on one connection. What follows a body is no header."""

    async def story() -> None:
        client = Client()
        for _ in range(times):
            await client.send(*pieces(text, cuts))
        assert client.bodies == [b"" if text is GET else b"hello"] * times
        assert client.line.written.count(b"HTTP/1.1 200 OK") == times
        assert not client.line.ended
        for scope in client.asked:
            assert (scope["path"], scope["query_string"]) == (("/a b", b"c=d") if text is GET else ("/a", b""))
            assert [value for name, value in scope["headers"] if name == b"host"] == [b"h"]
            assert b"authorization" not in dict(scope["headers"])

    run(story())


@pytest.mark.parametrize("at_once", [True, False])
def test_what_comes_beside_a_request_is_not_answered(*, at_once: bool) -> None:
    """The first gets its answer, and the connection ends, whatever the rest is: it never reaches the application."""

    async def story() -> None:
        client = Client()
        client.go.clear()
        await client.send(*([POST + GET + GET] if at_once else [POST, GET, b"\x00noise", GET]))
        client.go.set()
        await client.turns()
        assert client.bodies == [b"hello"]
        assert client.line.written.startswith(b"HTTP/1.1 200 OK")
        assert client.line.written.endswith(b"ok")
        assert client.line.ended == "close"

    run(story())


def test_noise_in_a_body_whose_answer_has_begun_cuts_the_connection() -> None:
    """A second answer within the first would be read as a part of it."""

    async def story() -> None:
        client = Client(early=True)
        begun = await client.send(CHUNKED.removesuffix(b"0\r\n"))
        assert begun.startswith(b"HTTP/1.1 200 OK")
        assert await client.send(b"noise\r\n") == begun
        assert client.line.ended == "abort"
        assert client.bodies == [None]

    run(story())


@pytest.mark.parametrize(
    "text",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET http://evil/ HTTP/1.1\r\nHost: h\r\n\r\n",
        b"CONNECT evil:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : h\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n",
        b"noise\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_request_is_refused(text: bytes) -> None:
    """Before the application sees it. Two readings of one request are how requests are smuggled past a proxy."""

    async def story() -> None:
        client = Client()
        assert (await client.send(text)).startswith(b"HTTP/1.1 400 ")
        assert client.line.ended == "close"
        assert [body for body in client.bodies if body is not None] == []

    run(story())


def test_without_a_host_as_an_older_client() -> None:
    """HTTP/1.0 has no such header; its connection ends with the answer."""

    async def story() -> None:
        client = Client()
        assert b" 200 OK" in await client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.line.ended == "close"

    run(story())


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"GET / HTTP/1.1\r\n", b"X: " + b"x" * 1000 + b"\r\n"),
        (b"GET / HTTP/1.1\r\nX: ", b"x" * 1000),
        (b"GET /", b"x" * 1000),
        (CHUNKED, b"X: " + b"x" * 1000 + b"\r\n"),
        (CHUNKED.removesuffix(b"0\r\n") + b"1;", b"x" * 1000),
        (b"", b"\r\n" * 500),
    ],
    ids=["headers", "a header", "a path", "trailers", "a chunk's extension", "nothing"],
)
def test_a_client_that_never_comes_to_the_point_is_refused(first: bytes, again: bytes) -> None:
    """What it can make this process keep is bounded by bytes; who has begun to work at it hears of the end."""

    async def story() -> None:
        client = Client()
        await client.send(first)
        sent = 0
        while not client.line.ended:
            await client.send(again)
            sent += len(again)
            assert sent <= MAX_HEAD_BYTES + len(again)
        assert client.line.written.startswith(b"HTTP/1.1 400 ")
        assert client.bodies == ([None] if b"POST" in first else [])

    run(story())


def test_a_long_body_is_no_long_head() -> None:
    """It is the application's to say how long a body may be."""

    async def story() -> None:
        client = Client()
        head = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (4 * MAX_HEAD_BYTES)
        await client.send(head, *[b"x" * MAX_HEAD_BYTES] * 4)
        assert client.bodies == [b"x" * (4 * MAX_HEAD_BYTES)]

    run(story())


@QUICK
@given(raw=st.binary(max_size=300), spot=st.integers(min_value=0), cuts=st.lists(st.integers(0, 300), max_size=4))
def test_noise_ends_in_an_answer_or_in_none(raw: bytes, spot: int, cuts: list[int]) -> None:
    """Noise, and requests with noise in them: no exception leaves the connection, and nothing follows its end."""

    async def story() -> None:
        for text in (raw, CHUNKED[: spot % len(CHUNKED)] + raw[:3] + CHUNKED[spot % len(CHUNKED) + 1 :] + b"\r\n"):
            client = Client()
            await client.send(*pieces(text, cuts))
            client.connection.connection_lost(None)
            await client.turns()

    run(story())
