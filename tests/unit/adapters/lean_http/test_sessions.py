"""The connections and calls of the lean HTTP client: what is used again, what is given up, and when."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import NoReturn

import aiohttp
import pytest
from aiohttp import ClientTimeout
from yarl import URL

from router.adapters.lean_http import connecting
from router.adapters.lean_http.session import LATE_END_S, LeanSession
from tests.support.lean_servers import HEAD_OF_CHUNKS, OK, URL_HERE, Network, Wire, played

LATE: float = 1.5
"""Seconds after which a late answer comes, or a connection."""


def answering(wire: Wire) -> None:
    """Answer at once."""
    wire.said(OK)


def silent(_: Wire) -> None:
    """Answer never."""


def later(wire: Wire) -> None:
    """Answer after a while."""
    asyncio.get_running_loop().call_later(LATE, wire.said, OK)


async def post(session: LeanSession, url: URL = URL_HERE, method: str = "POST") -> bytes:
    """Make a call, and read its answer."""
    async with session.request(method, url, data=b"{}", headers={"X": "1"}, allow_redirects=False) as answer:
        return await answer.content.readany()


async def passed(seconds: float) -> None:
    """Let time pass."""
    await asyncio.sleep(seconds)  # noqa: TID251 - virtual time


def test_a_request_is_sent_as_it_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one piece; a header Host that the caller gives is the only one."""
    network = Network(monkeypatch, answering)

    async def story() -> None:
        async with LeanSession() as session:
            await post(session)
            async with session.request("POST", URL_HERE, data=b"", headers={"Host": "h"}):
                pass

    played(story())
    own = b"Accept-Encoding: identity\r\nUser-Agent: cellrouter\r\n"
    assert network.wires[0].written == [
        b"POST /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:1\r\n" + own + b"X: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /a?b=c HTTP/1.1\r\n" + own + b"Host: h\r\nContent-Length: 0\r\n\r\n",
    ]


@pytest.mark.parametrize(
    ("method", "url", "headers"),
    [
        ("POST", "http://a/", {"X": "1\r\nY: 2"}),
        ("POST", "http://a/", {"X": "1\nY: 2"}),
        ("POST", "http://a/", {"X\r": "1"}),
        ("POST", "http://a/", {"X": "\0"}),
        ("POST", "http://a/b c", {}),
        ("POST", "http://a/b\r\nX: 1", {}),
        ("POST", "http://u:p@a/", {}),
        ("POST", "ftp://a/", {}),
        ("HEAD", "http://a/", {}),
    ],
)
def test_what_can_not_be_sent_is_refused(method: str, url: str, headers: dict[str, str]) -> None:
    """A session token with the end of a line in it, say, adds no header; nothing is sent at all."""

    async def story() -> None:
        async with LeanSession() as session:
            with pytest.raises(ValueError, match=r"can't be sent|address without a login"):
                session.request(method, URL(url, encoded=True), headers=headers)

    played(story())


def test_a_connection_is_used_again_while_it_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only by posts, to the same place, and as long as an idle one is kept; then it is closed."""
    network = Network(monkeypatch, answering)

    async def story() -> None:
        async with LeanSession(keepalive_timeout=3) as session:
            for _ in range(3):
                await post(session)
                await passed(2.5)
            assert [len(wire.written) for wire in network.wires] == [3]
            await post(session, URL("http://127.0.0.2:1/"))
            await post(session, method="GET")
            assert [len(wire.written) for wire in network.wires] == [3, 1, 1]
            await passed(3.5)
            await post(session)
            assert [len(wire.written) for wire in network.wires] == [3, 1, 1, 1]
            await passed(10)
            assert [wire.ended for wire in network.wires] == ["close"] * 4
            assert not session._open

    played(story())


@pytest.mark.parametrize(
    "spoil", [lambda wire: wire.hung_up(), lambda wire: wire.said(OK)], ids=["closed", "not asked for"]
)
def test_a_spoilt_connection_is_not_used_again(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Wire], None]) -> None:
    """Whether the server has closed it while it was idle, or has said something on it."""
    network = Network(monkeypatch, answering)

    async def story() -> None:
        async with LeanSession() as session:
            assert await post(session) == b"{}"
            spoil(network.wires[0])
            assert await post(session) == b"{}"
            assert [len(wire.written) for wire in network.wires] == [1, 1]

    played(story())


def test_a_call_has_its_time_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """To connect, to wait for a place, for the head and for each part of the body; then its connection ends."""
    network = Network(monkeypatch, silent)
    limits = ClientTimeout(total=2, sock_connect=1)

    async def fails(session: LeanSession) -> float:
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await post(session)
        return asyncio.get_running_loop().time() - began

    async def story() -> None:
        async with LeanSession(limit=1, timeout=limits) as session:
            network.opens = asyncio.Event()
            assert await fails(session) == pytest.approx(2)
            network.opens.set()
            assert await fails(session) == pytest.approx(2)
            for took in await asyncio.gather(fails(session), fails(session)):  # the second waits for the first
                assert took == pytest.approx(2)
            network._serve = lambda wire: wire.said(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
            async with session.request("POST", URL_HERE, headers={}) as answer:
                assert await answer.readany() == b"{"
                with pytest.raises(TimeoutError):
                    await answer.readany()
            assert {wire.ended for wire in network.wires} == {"abort"}
            network._serve = answering
            assert await post(session) == b"{}"  # each gave its place back

    played(story())


def test_calls_wait_for_a_place_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter that is cancelled takes none with it."""
    network = Network(monkeypatch, later)

    async def story() -> None:
        async with LeanSession(limit=2) as session:
            done: list[int] = []

            async def call(number: int) -> None:
                await post(session)
                done.append(number)

            calls = [asyncio.create_task(call(number)) for number in range(7)]
            await passed(LATE / 2)
            assert len(network.wires) == 2
            calls[3].cancel()
            calls[0].cancel()  # under way
            await asyncio.wait(calls)
            assert done == [1, 2, 4, 5, 6]
            assert network.wires[0].ended == "abort"

    played(story())


@pytest.mark.parametrize("end", [0.5, 2 * LATE_END_S])
def test_an_answer_that_is_left_early_may_end_a_little_later(monkeypatch: pytest.MonkeyPatch, end: float) -> None:
    """As a worker's, whose last results come before the end of its answer. Till then no call takes its connection."""
    network = Network(monkeypatch, lambda wire: wire.said(HEAD_OF_CHUNKS, b"2\r\n{}\r\n"))

    async def story() -> None:
        async with LeanSession() as session:
            assert await post(session) == b"{}"
            assert await post(session) == b"{}"
            first, second = network.wires
            await passed(end)
            first.said(b"0\r\n\r\n")
            assert await post(session) == b"{}"
            kept = end < LATE_END_S
            assert (len(first.written), len(second.written), first.ended) == ((2, 1, "") if kept else (1, 1, "abort"))
            await passed(LATE_END_S)
            assert second.ended == "abort"

    played(story())


def test_a_call_that_is_broken_off_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its instance notices that nobody waits any more. After a whole answer, an error harms no connection."""
    network = Network(monkeypatch, silent)

    async def story() -> None:
        async with LeanSession() as session:
            call = asyncio.create_task(post(session))
            await passed(1)
            call.cancel()
            await asyncio.wait([call])
            assert network.wires[0].ended == "abort"
            for say, ended in ((OK, ""), (HEAD_OF_CHUNKS, "abort")):
                network._serve = lambda wire, say=say: wire.said(say)  # type: ignore[misc]
                with pytest.raises(LookupError):
                    async with session.request("POST", URL_HERE, headers={}):
                        raise LookupError
                assert network.wires[-1].ended == ended

    played(story())


def test_a_call_that_meets_the_end_of_its_connection_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an error that says so, so that the caller may make it again; no call is made twice by itself."""
    network = Network(monkeypatch, lambda wire: wire.hung_up())

    async def story() -> None:
        async with LeanSession() as session:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await post(session)
            assert len(network.wires) == 1

    played(story())


def test_closing_fails_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call, one that connects, and one that comes later; idle connections are closed in order."""
    network = Network(monkeypatch, answering)

    async def fails(session: LeanSession, url: URL = URL_HERE) -> None:
        with pytest.raises(aiohttp.ClientConnectionError):
            await post(session, url)

    async def story() -> None:
        session = LeanSession()
        await asyncio.gather(*(post(session) for _ in range(3)))
        network._serve = silent
        network.opens = asyncio.Event()
        elsewhere = URL("http://127.0.0.9:1/")  # so it has to connect
        under_way = [asyncio.create_task(fails(session, url)) for url in (URL_HERE, URL_HERE, elsewhere)]
        await passed(1)
        await session.close()
        network.opens.set()
        await asyncio.gather(*under_way, fails(session))
        await passed(0)
        assert not session._open

    played(story())
    assert sorted(wire.ended for wire in network.wires) == ["abort", "abort", "abort", "close"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (OSError(24, "no file is left"), aiohttp.ClientConnectorError),
        (TimeoutError(110, "the kernel gave up"), aiohttp.ClientConnectorError),
        (ssl.SSLError(1, "no TLS"), aiohttp.ClientConnectorSSLError),
        (ssl.SSLCertVerificationError(1, "not its certificate"), aiohttp.ClientConnectorCertificateError),
        (TimeoutError(), aiohttp.ConnectionTimeoutError),
    ],
)
def test_what_can_not_be_opened_is_told_as_aiohttp_tells_it(
    monkeypatch: pytest.MonkeyPatch, fault: OSError, kind: type[Exception]
) -> None:
    """With a text that names the host, and the number of the fault: by them, callers tell what was not reached."""

    async def fails(*_: object) -> NoReturn:
        raise fault

    monkeypatch.setattr(connecting, "_opened", fails)

    async def story() -> None:
        async with LeanSession() as session:
            with pytest.raises(kind) as caught:
                await post(session)
            assert type(caught.value) is kind
            assert "127.0.0.1:1" in str(caught.value)
            assert getattr(caught.value, "errno", None) in (fault.errno, None)

    played(story())
