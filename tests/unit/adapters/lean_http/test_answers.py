"""What the lean HTTP client makes of what servers send, in whatever pieces it comes."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.adapters.lean_http.connection import MAX_HEAD_BYTES, MAX_WAITING_BYTES, LeanAnswer
from tests.support.lean_servers import HEAD_OF_CHUNKS, OK, Wire, pieces, played, wired

QUICK: Final = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
INTERIM: Final = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 9\r\n\r\n"
cuts = st.lists(st.integers(min_value=0, max_value=10_000), max_size=6)


async def body_of(answer: LeanAnswer) -> bytes:
    """Read a whole answer."""
    await answer.head()
    return b"".join([chunk async for chunk in answer.iter_any()])


def framed(how: str, parts: list[bytes], *, keep: bool) -> bytes:
    """Write a whole answer with this body."""
    head = b"HTTP/1.1 207 Many\r\nX-One: 1\r\n" + (b"" if keep else b"Connection: close\r\n")
    if how == "length":
        return head + b"Content-Length: %d\r\n\r\n%b" % (sum(map(len, parts)), b"".join(parts))
    if how == "chunks":
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part)
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX-Two: 2\r\n\r\n"
    return head + b"\r\n" + b"".join(parts)


@QUICK
@given(
    how=st.sampled_from(["length", "chunks", "the end"]),
    parts=st.lists(st.binary(max_size=300), max_size=4),
    interims=st.integers(min_value=0, max_value=2),
    keep=st.booleans(),
    at=cuts,
)
def test_an_answer_is_read_as_it_was_sent(
    how: str, parts: list[bytes], interims: int, *, keep: bool, at: list[int]
) -> None:
    """However it is framed and cut; what comes before the answer, and what follows its body, are no part of it."""

    async def story() -> None:
        wire = wired()
        answer = wire.connection.call(b"GET")
        reading = asyncio.create_task(body_of(answer))
        for piece in pieces(INTERIM * interims + framed(how, parts, keep=keep), at):
            wire.said(piece)
            await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop
        if how == "the end":
            wire.hung_up()
        assert await reading == b"".join(parts)
        assert (answer.status, answer.headers.get("x-one"), answer.headers.get("X-Two")) == (207, "1", None)
        assert "Link" not in answer.headers
        assert wire.connection.leave() is (keep and how != "the end")

    played(story())


@QUICK
@given(raw=st.binary(max_size=400), valid=st.booleans(), spot=st.integers(min_value=0), at=cuts)
def test_whatever_comes_ends_an_answer_in_its_end_or_in_an_error(
    raw: bytes, *, valid: bool, spot: int, at: list[int]
) -> None:
    """Noise, and good answers with some noise in them: nobody waits for ever, and no other exception comes out."""
    text = raw
    if valid:
        good = framed("chunks", [b"x" * 30, b"y"], keep=True)
        spot %= len(good)
        text = good[:spot] + raw[:3] + good[spot + 1 :]

    async def story() -> None:
        wire = wired()
        reading = asyncio.create_task(body_of(wire.connection.call(b"GET")))
        wire.said(*pieces(text, at))
        wire.hung_up()
        try:
            await reading
        except aiohttp.ClientError:
            assert not wire.connection.leave()

    played(story())


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", aiohttp.ServerDisconnectedError),
        (b"HTTP/1.1 200 OK\r\nContent-", aiohttp.ServerDisconnectedError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", aiohttp.ClientPayloadError),
        (HEAD_OF_CHUNKS + b"3\r\nabc\r\n", aiohttp.ClientPayloadError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab", aiohttp.ClientPayloadError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nab", aiohttp.ClientPayloadError),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", aiohttp.ClientError),
    ],
    ids=["nothing", "half a head", "half a body", "no last chunk", "unknown framing", "two framings", "an upgrade"],
)
def test_an_answer_that_does_not_come_whole_is_none(said: bytes, error: type[Exception]) -> None:
    """The errors are aiohttp's: by them, callers tell a crossed end of a connection from an answer that was cut."""

    async def story() -> None:
        wire = wired()
        reading = asyncio.create_task(body_of(wire.connection.call(b"GET")))
        wire.said(said)
        wire.hung_up()
        with pytest.raises(error):
            await reading

    played(story())


@pytest.mark.parametrize("after", [OK, b"x", b"HTTP/1.1 200 OK\r\n"], ids=["an answer", "noise", "half an answer"])
@pytest.mark.parametrize("at_once", [True, False])
def test_what_nobody_asked_for_is_no_answer_to_the_next_call(after: bytes, *, at_once: bool) -> None:
    """Whether it comes with the answer or later: the answer stands, and the connection carries no further call."""

    async def story() -> None:
        wire = wired()
        answer = wire.connection.call(b"GET")
        wire.said(*([OK + after] if at_once else [OK]))
        assert await body_of(answer) == b"{}"
        assert wire.connection.leave() is not at_once
        if not at_once:
            wire.said(after)
        assert wire.connection.spoilt

    played(story())


def test_a_body_of_a_call_that_is_still_on_its_way_spoils_the_connection() -> None:
    """An answer may come early; then the rest of the request would be read as the next one."""

    async def story() -> None:
        wire = wired()
        answer = wire.connection.call(b"POST")
        wire.unsent = 1
        wire.said(OK)
        assert await body_of(answer) == b"{}"
        assert not wire.connection.leave()

    played(story())


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 1000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
        (HEAD_OF_CHUNKS + b"1\r\na\r\n0\r\n", b"X: " + b"x" * 1000 + b"\r\n"),
        (HEAD_OF_CHUNKS + b"1;", b"x" * 1000),
        (b"", INTERIM.replace(b"9", b"0")),
    ],
    ids=["headers", "a header", "trailers", "a chunk's extension", "answers before the answer"],
)
def test_a_server_that_never_comes_to_the_point_is_cut(first: bytes, again: bytes) -> None:
    """What it can make this process keep is bounded by bytes, and not by the time that a call has."""

    async def story() -> None:
        wire = wired()
        answer = wire.connection.call(b"GET")
        wire.said(first)
        count = 0
        while not wire.ended:
            wire.said(again)
            count += len(again)
            assert count <= MAX_HEAD_BYTES + len(again)
        with pytest.raises(aiohttp.ClientPayloadError, match="beside the body"):
            await body_of(answer)

    played(story())


def test_a_server_waits_while_nobody_reads() -> None:
    """So an answer of any length takes little memory; nothing of it is lost."""

    async def story() -> None:
        wire = wired()
        answer = wire.connection.call(b"GET")
        wire.said(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 * MAX_WAITING_BYTES))
        left, read = 4 * MAX_WAITING_BYTES, 0
        while left:
            while left and not wire.paused:
                part = min(left, 60_000)
                wire.said(b"x" * part)
                left -= part
            got = len(await answer.readany())
            assert got <= MAX_WAITING_BYTES + 60_000
            assert not wire.paused
            read += got
        assert read == 4 * MAX_WAITING_BYTES

    played(story())


def test_what_has_come_is_read_before_the_error() -> None:
    """A cell's results that have arrived count, though its connection breaks then."""

    async def story() -> None:
        wire: Wire = wired()
        answer = wire.connection.call(b"GET")
        wire.said(HEAD_OF_CHUNKS, b"3\r\nabc\r\n")
        wire.hung_up(ConnectionResetError(104, "reset"))
        assert await answer.readany() == b"abc"
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.readany()

    played(story())
