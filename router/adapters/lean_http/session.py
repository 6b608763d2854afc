"""A lean HTTP/1.1 client: what a router needs for its hot calls, to SQS and to cells, and nothing else.

A call takes less than a third of the CPU that it takes by aiohttp. It has of aiohttp's session what our calls use,
under the same names and with the same errors, so that either can make them. There are no redirects, cookies, proxies,
compression, or retries. Connections are kept and used again, by TLS or not; a host's addresses are tried as browsers do
(Happy Eyeballs). The parser is httptools', which is that of Node.js (llhttp).
"""

from __future__ import annotations

import asyncio
import re
import ssl as tls
from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self

from aiohttp import ClientConnectionError, ClientTimeout
from yarl import URL

from router.adapters.lean_http.connecting import Place, connected
from router.adapters.lean_http.connection import LeanAnswer, LeanConnection

LATE_END_S: Final = 1.0
"""How long the end of an answer may take of which nobody reads the rest, before its connection is cut."""
_SAFE: Final = re.compile(r"/[!-~]*")
_OWN_HEADERS: Final = "Accept-Encoding: identity\r\nUser-Agent: cellrouter\r\n"


class LeanSession:
    """Makes calls over connections that it keeps.

    At most `limit` calls are under way at once (0: any number), and others wait. An idle connection is kept for
    `keepalive_timeout` seconds. `ssl` is what https:// trusts where a call says nothing of it, and `timeout` holds for
    a call that has none.
    """

    def __init__(
        self,
        *,
        limit: int = 100,
        keepalive_timeout: float = 15.0,
        ssl: tls.SSLContext | None = None,
        timeout: ClientTimeout | None = None,
    ) -> None:
        self.closed = False
        self._timeout = timeout or ClientTimeout(total=300)
        self._ssl = ssl
        self._keep_s = keepalive_timeout
        self._places = asyncio.Semaphore(limit) if limit else None
        self._open: dict[LeanConnection, Place] = {}
        self._idle: dict[Place, list[LeanConnection]] = {}  # the last one was used last
        self._late: dict[LeanConnection, asyncio.TimerHandle] = {}  # the ends of their answers are still to come
        self._sweeping: asyncio.TimerHandle | None = None

    def request(
        self,
        method: str,
        url: URL,
        *,
        data: bytes = b"",
        headers: Mapping[str, str],
        timeout: ClientTimeout | None = None,
        allow_redirects: Literal[False] = False,  # noqa: ARG002 - as aiohttp has it; none is ever followed
        ssl: tls.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> LeanCall:
        """Return a call, which is made as its context begins. Raises ValueError for what can't be sent."""
        line = _line(method, url)
        context = (ssl or self._ssl or _default_tls()) if line.by_tls else None
        place = Place(line.host, line.port, context, server_hostname or line.host)
        return LeanCall(self, place, _request(line, headers, data), timeout or self._timeout, reuse=method == "POST")

    async def take(self, place: Place, connect_s: float | None, end: float | None, *, reuse: bool) -> LeanConnection:
        """Return a connection for one call, which ends with `give_back`.

        Raises TimeoutError at `end`, by the loop's clock, and aiohttp's errors where none can be opened.
        """
        if self._places is not None:
            if self._places.locked():
                async with asyncio.timeout_at(end):
                    await self._places.acquire()
            else:
                await self._places.acquire()
        try:
            self._check_open()
            if reuse and (kept := self._kept(place)) is not None:
                return kept
            async with asyncio.timeout_at(end):
                connection = await connected(place, self._made, connect_s)
        except BaseException:
            self._release()
            raise
        self._open[connection] = place
        if self.closed or connection.spoilt:
            connection.abort()  # its call fails at once
        return connection

    def give_back(self, connection: LeanConnection, *, broken: bool) -> None:
        """Take a connection back after its call. One whose answer has not come whole ends, if the call is broken."""
        self._release()
        if connection.leave():
            self._keep(connection)
        elif broken:
            connection.abort()
        elif connection.spoilt:
            connection.close()
        else:
            self._late[connection] = asyncio.get_running_loop().call_later(LATE_END_S, connection.abort)

    async def close(self) -> None:
        """Close all connections; calls in progress fail."""
        self.closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        idle = {connection for kept in self._idle.values() for connection in kept}
        self._idle.clear()
        for connection in list(self._open):
            if connection in idle:
                connection.close()
            else:
                connection.fail(ClientConnectionError("the client is closed"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ClientConnectionError("the client is closed")

    def _made(self) -> LeanConnection:
        return LeanConnection(self._ended_late, self._lost)

    def _release(self) -> None:
        if self._places is not None:
            self._places.release()

    def _kept(self, place: Place) -> LeanConnection | None:
        kept, fresh = self._idle.get(place), asyncio.get_running_loop().time() - self._keep_s
        while kept:
            connection = kept.pop()
            if not connection.spoilt and connection.idle_since > fresh:
                return connection
            connection.close()
        return None

    def _keep(self, connection: LeanConnection) -> None:
        if self.closed or (place := self._open.get(connection)) is None:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(place, []).append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(self._keep_s, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long, and forget what has ended."""
        loop = asyncio.get_running_loop()
        fresh = loop.time() - self._keep_s
        for place, kept in list(self._idle.items()):
            stays = [connection for connection in kept if not connection.spoilt and connection.idle_since > fresh]
            for connection in set(kept).difference(stays):
                connection.close()
            if stays:
                self._idle[place] = stays
            else:
                del self._idle[place]
        self._sweeping = loop.call_later(self._keep_s, self._sweep) if self._idle else None

    def _ended_late(self, connection: LeanConnection) -> None:
        if (timer := self._late.pop(connection, None)) is not None:
            timer.cancel()
        if connection.spoilt:
            connection.close()
        else:
            self._keep(connection)

    def _lost(self, connection: LeanConnection) -> None:
        if (timer := self._late.pop(connection, None)) is not None:
            timer.cancel()
        self._open.pop(connection, None)


class LeanCall:
    """One call, as a context: it begins with the head of the answer, and has the call's limits of time in all."""

    __slots__ = ("_connection", "_place", "_request", "_reuse", "_session", "_timeout", "_timer")

    def __init__(
        self, session: LeanSession, place: Place, request: bytes, timeout: ClientTimeout, *, reuse: bool
    ) -> None:
        self._session = session
        self._place = place
        self._request = request
        self._timeout = timeout
        # Any other call than a POST may come seldom; a connection of its own never crosses with the end of a kept one.
        self._reuse = reuse
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> LeanAnswer:
        loop, total_s = asyncio.get_running_loop(), self._timeout.total
        end = None if total_s is None else loop.time() + total_s
        connection = await self._session.take(self._place, self._timeout.sock_connect, end, reuse=self._reuse)
        self._connection = connection
        try:
            answer = connection.call(self._request)
            if end is not None:
                self._timer = loop.call_at(end, connection.fail, TimeoutError("the call has taken too long"))
            await answer.head()
        except BaseException:
            self._end(broken=True)
            raise
        return answer

    async def __aexit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._end(broken=kind is not None)

    def _end(self, *, broken: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._session.give_back(self._connection, broken=broken)


class _Line(NamedTuple):
    """What a URL comes to: where it leads, the request line, and the header that names the host."""

    host: str
    port: int
    by_tls: bool
    text: str
    host_header: str


@lru_cache(maxsize=4096)
def _line(method: str, url: URL) -> _Line:
    host, port, target = url.raw_host, url.port, url.raw_path_qs
    if url.scheme not in ("http", "https") or not host or port is None or url.user or url.password:
        raise ValueError(f"no http:// or https:// address without a login: {url.with_user(None)!s:.200}")
    if method not in ("GET", "POST") or not _SAFE.fullmatch(target):
        raise ValueError(f"a request that can't be sent: {method:.20} {target!a:.200}")
    text, by_tls = f"{method} {target} HTTP/1.1\r\n", url.scheme == "https"
    return _Line(host, port, by_tls, text, f"Host: {url.host_port_subcomponent}\r\n")


def _request(line: _Line, headers: Mapping[str, str], body: bytes) -> bytes:
    """Write a whole request. Raises ValueError for a header that would be two, or the end of the head."""
    own = _OWN_HEADERS if "Host" in headers else line.host_header + _OWN_HEADERS
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    count = len(headers)
    if fields.count("\n") != count or fields.count("\r") != count or "\0" in fields:
        raise ValueError("a header that can't be sent")
    return f"{line.text}{own}{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


@lru_cache(maxsize=1)
def _default_tls() -> tls.SSLContext:
    return tls.create_default_context()
