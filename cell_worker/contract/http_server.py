"""The HTTP server of routers, controllers and workers: uvicorn, behind a door that lets no client keep places for long.

A part of the wire contract. uvicorn waits for ever for the rest of a request, and for a client that reads no answer.
Here a connection that waits for its client is cut after PATIENCE_S. Where all places are taken, the connections that
have waited longest make room for the newest: whoever sends a request at once always gets in, unless all places are at
work.

Requests are parsed by httptools, at half the CPU of a call that h11 took. What h11 refused is refused here: long heads,
endless trailers, requests for no host or for several. A connection answers one request at a time: what comes while it
does is not answered, and the connection ends after the answer (RFC 9112, 9.3.2), as no client of ours pipelines.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import nullcontext
from functools import partial
from ipaddress import IPv6Address
from types import coroutine
from typing import Any, Final, Protocol, TypeVar, cast

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cell_worker.contract.addresses import bare_host
from cell_worker.contract.tls import Tls, TlsError

T = TypeVar("T")

PATIENCE_S: Final = 10.0
"""How long a client may let the server wait: for the rest of a request, for the next one, for reading an answer."""
KEEP_ALIVE_S: Final = 5
"""How long an idle connection is kept. A router lets go of its own sooner, so that it meets none that just closes."""
HANDSHAKE_S: Final = 5.0
"""How long a TLS handshake may take."""
MAX_HEAD_BYTES: Final = 16 * 1024
"""The most that a client may send without a byte of a body, unless one read brings more: a request line and headers."""
PLACES: Final = 256
"""How many connections a server takes, half of them from one address. A worker has more, for its events."""
TELL_EVERY_S: Final = 60.0
"""How often the log may say that places were scarce."""
RENEW_EVERY_S: Final = 10.0
"""How long a process waits before it looks again whether its certificates were renewed."""
_TICKS: Final = 10  # of uvicorn in a second
_SHARE: Final = 8  # one in so many of those that wait makes room, so that a flood is not searched for each newcomer
_IPV6_NETWORK_BITS: Final = 64  # who has one IPv6 address has all of its network
_BACKLOG: Final = 512


def listen_on(host: str, port: int) -> socket.socket:
    """Listen at an address, `::` at all that this machine has, of IPv4 and of IPv6. Raises OSError.

    An address of IPv6 may have brackets, as in URLs.
    """
    host = bare_host(host)
    if host == "::":
        try:
            return socket.create_server(
                (host, port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=socket.has_dualstack_ipv6()
            )
        except OSError as error:
            if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                raise
            host = "0.0.0.0"  # noqa: S104 - of a machine without IPv6, it is every address that it has
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


class Guest(Protocol):
    """A connection, as the door sees it."""

    @property
    def waits_since(self) -> float | None:
        """Since when it has waited for its client, in seconds of the loop's clock; None while it is at work."""

    def look(self, now: float) -> None:
        """Cut it if it has waited too long for its client."""

    def cut(self) -> None:
        """End it at once, whatever has not been sent."""


class Door:
    """Counts the connections of a server, overall and for each client's address, and makes room for new ones."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._guests: dict[Guest, str] = {}  # with their addresses, the oldest first
        self._of_address: Counter[str] = Counter()
        self._trouble: Counter[str] = Counter()
        self._told_at = -TELL_EVERY_S

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, guest: Guest, address: str) -> bool:
        """Give a new connection a place; False when there is none, since every connection is at work."""
        place = _network_of(address)
        if self._of_address[place] >= self._places // 2:
            self._make_room(other for other, its in self._guests.items() if its == place)
            free = self._of_address[place] < self._places // 2
        else:
            if len(self._guests) >= self._places:
                self._make_room(self._guests)
            free = len(self._guests) < self._places
        if free:
            self._guests[guest] = place
            self._of_address[place] += 1
        else:
            self._trouble[place] += 1
        return free

    def leave(self, guest: Guest) -> None:
        """Note that a connection has ended; one that never got a place is no matter."""
        place = self._guests.pop(guest, None)
        if place is not None:
            self._of_address[place] -= 1
            if not self._of_address[place]:
                del self._of_address[place]

    def look(self, now: float) -> None:
        """Cut what has waited too long, and tell when places are scarce."""
        for guest in list(self._guests):
            guest.look(now)
        if self._trouble and now - self._told_at >= TELL_EVERY_S:
            address, count = self._trouble.most_common(1)[0]
            structlog.get_logger("http").warning(
                "clients keep connections open and send nothing; the oldest are cut, so that others get in",
                cut=self._trouble.total(),
                mostly_from=address,
                most=count,
                advice="find out who is at that address, and shut it out if it is an attack",
            )
            self._trouble.clear()
            self._told_at = now

    def _make_room(self, guests: Iterable[Guest]) -> None:
        waiting = [(since, guest) for guest in guests if (since := guest.waits_since) is not None]
        waiting.sort(key=lambda pair: pair[0])
        for _, guest in waiting[: -(-len(waiting) // _SHARE)]:
            self._trouble[self._guests[guest]] += 1
            self.leave(guest)
            guest.cut()


class _Connection(HttpToolsProtocol):
    """uvicorn's connection, as a guest. uvicorn's own state says what it waits for, so no request costs more."""

    def __init__(self, door: Door, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._door = door
        self._pauses = 0  # how often the client was too slow to read
        self._phase: object = None  # what it waited for at the last look
        self._since = self.loop.time()
        self._in_head = False  # of a request, whose headers are coming
        self._quiet_bytes = 0  # since the last byte of a body, or the end of a request
        self._ended = False  # what comes is answered no more

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        if not self._door.enter(self, self.client[0] if self.client else ""):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ended or self._is_answering():
            self._end_after_answer()
            return
        self._quiet_bytes += len(data)
        super().data_received(data)
        if self._quiet_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("Too much beside the body.")

    def send_400_response(self, msg: str) -> None:
        self._ended, cycle = True, self.cycle
        if cycle is not None and not cycle.response_complete:  # who works at it hears of the end, and writes no more
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
                return
        super().send_400_response(msg)

    def on_message_begin(self) -> None:
        if self._is_answering():
            self._end_after_answer()
        if not self._ended:
            self._in_head = True
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._ended:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head and not self._ended:  # what follows a body is no header
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._ended:
            return
        self._in_head = False
        if not self.url.startswith(b"/"):
            raise ValueError("only paths are served")
        hosts = [name for name, _ in self.headers if name == b"host"]
        if len(hosts) != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            raise ValueError("a request is for one host")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._quiet_bytes = 0
        if not self._ended:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._quiet_bytes = 0
        if not self._ended:
            super().on_message_complete()

    def pause_writing(self) -> None:
        self._pauses += 1
        super().pause_writing()

    @property
    def waits_since(self) -> float | None:
        return None if self._is_at_work() else self._since

    def look(self, now: float) -> None:
        cycle = self.cycle
        phase = None if self._is_at_work() else (cycle, cycle and cycle.response_complete, self._pauses)
        if phase is None or phase != self._phase:
            self._phase, self._since = phase, now
        elif now - self._since >= PATIENCE_S:
            self.cut()

    def cut(self) -> None:
        self.transport.abort()

    def _is_answering(self) -> bool:
        """Whether a request is all there, and its answer is not."""
        cycle = self.cycle
        return not (cycle is None or cycle.response_complete or cycle.more_body)

    def _end_after_answer(self) -> None:
        """Answer no further request: whoever has sent one beside another has to make it again."""
        self._ended = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _is_at_work(self) -> bool:
        """Whether a request is all there and its answer is not, and the client reads."""
        return self._is_answering() and not self.flow.write_paused


class _Handshake(asyncio.Protocol):
    """A connection before its TLS handshake is done. It has a place and little time, as any other."""

    def __init__(self, door: Door, tls: Tls, **uvicorns: Any) -> None:
        self._door = door
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._uvicorns = uvicorns
        self._transport: asyncio.Transport | None = None
        self._shaking: asyncio.Task[None] | None = None
        self._early = bytearray()
        self._lost = False
        self.waits_since: float | None = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's don't derive from it
        peer = transport.get_extra_info("peername")
        if not self._door.enter(self, peer[0] if peer else ""):
            self.cut()
            return
        starting = self._loop.start_tls(
            transport,
            self,
            self._tls.context,
            server_side=True,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=HANDSHAKE_S,
        )
        # It begins at once and not with the next turn of the loop: the client's first bytes must not come before.
        self._shaking = self._loop.create_task(self._shake_hands(_going_on(starting, starting.send(None))))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio has it
        self._lost = True
        self._door.leave(self)

    def data_received(self, data: bytes) -> None:
        """Keep what comes right after the handshake, before its end is known here."""
        self._early += data

    def look(self, now: float) -> None:
        """Leave it to the handshake, which limits its time itself."""

    def cut(self) -> None:
        self._lost = True
        if self._transport is not None:
            self._transport.abort()

    async def _shake_hands(self, starting: Awaitable[asyncio.Transport | None]) -> None:
        try:
            secured = await starting
        except (OSError, TimeoutError):  # ssl.SSLError is an OSError; the client is told by an alert
            self.cut()
            return
        finally:
            self._door.leave(self)
        if secured is None or self._lost:
            return
        connection = _Connection(self._door, **self._uvicorns)
        secured.set_protocol(connection)
        connection.connection_made(secured)
        if self._early and not secured.is_closing():
            connection.data_received(bytes(self._early))


@coroutine
def _going_on(begun: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Go on, in a task, with a coroutine that has run until it waited for something; Python 3.12 has eager tasks."""
    try:
        while True:
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's
                waits_for = begun.throw(error)
            else:
                waits_for = begun.send(None)
    except StopIteration as end:
        result: T = end.value
        return result


class HttpServer(uvicorn.Server):
    """uvicorn with a door. It leaves signals to the process, which would else end before it has drained.

    `goodbye_s` is how long it waits at its end for clients that are still served.
    """

    def __init__(self, app: Any, *, places: int, goodbye_s: int, tls: Tls | None = None) -> None:
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.door = Door(min(places, descriptors // 2) if descriptors != resource.RLIM_INFINITY else places)
        make = partial(_Connection, self.door) if tls is None else partial(_Handshake, self.door, tls)
        super().__init__(
            uvicorn.Config(
                app,
                http=make,  # type: ignore[arg-type] # it is called as a class is
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",  # a client that sends no HTTP must not fill the log
                access_log=False,
                server_header=False,
                proxy_headers=False,  # who is at the other end is who is there
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=goodbye_s,
            )
        )

    def capture_signals(self) -> Any:
        """Leave signals to the process: uvicorn would close connections on which answers are still streaming."""
        return nullcontext()

    async def on_tick(self, counter: int) -> bool:
        """Look at the connections once a second."""
        if counter % _TICKS == 0:
            self.door.look(asyncio.get_running_loop().time())
        return await super().on_tick(counter)


async def watch_certificates(tls: Tls, sleep: Callable[[float], Awaitable[None]]) -> None:
    """Renew what TLS uses when its files change, until cancelled."""
    log = structlog.get_logger("tls")
    while True:
        await sleep(RENEW_EVERY_S)
        try:
            if tls.renew():
                log.info("the certificates of TLS were renewed; new connections use them")
        except TlsError as error:
            log.error("the new files of TLS can't be used; the old ones stay in use", why=str(error))  # noqa: TRY400


def _network_of(address: str) -> str:
    """Return what stands for a client: an IPv4 address, or the network of an IPv6 address."""
    if ":" not in address:
        return address
    ip = IPv6Address(address.partition("%")[0])
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return f"{IPv6Address(int(ip) >> _IPV6_NETWORK_BITS << _IPV6_NETWORK_BITS)}/{_IPV6_NETWORK_BITS}"
