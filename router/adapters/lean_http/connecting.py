"""Opens a connection of the lean HTTP client: a host's addresses in turn, as browsers do, and then TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

import aiohappyeyeballs
from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ConnectionTimeoutError,
)

from router.adapters.lean_http.connection import LeanConnection

NEXT_ADDRESS_S: Final = 0.25
"""How long an address may take until the next one is tried beside it (RFC 8305)."""
END_OF_TLS_S: Final = 1.0
"""How long the other side of a TLS connection has to end it too. Python's own limit is 30 s, for each connection to a
cell that answers nonsense."""


class Place(NamedTuple):
    """Where a connection leads, and whose certificate is asked for there; calls to one place share connections."""

    host: str
    port: int
    ssl: ssl.SSLContext | None  # None: by plain HTTP
    server_hostname: str


class _Named(NamedTuple):
    """What aiohttp's errors tell of a place."""

    host: str
    port: int
    is_ssl: bool
    ssl: bool = True  # shown as "default"


async def connected(place: Place, make: Callable[[], LeanConnection], within_s: float | None) -> LeanConnection:
    """Open a connection. Raises the errors that aiohttp has for one that can't be opened, or not in time."""
    known: Any = _Named(place.host, place.port, place.ssl is not None)
    try:
        addresses = await _addresses(place)
    except OSError as error:
        raise ClientConnectorDNSError(known, error) from error
    try:
        async with asyncio.timeout(within_s):
            return await _opened(place, addresses, make)
    except ssl.SSLCertVerificationError as error:
        raise ClientConnectorCertificateError(known, error) from error
    except ssl.SSLError as error:
        raise ClientConnectorSSLError(known, error) from error
    except OSError as error:
        if isinstance(error, TimeoutError) and error.errno is None:
            raise ConnectionTimeoutError(f"no connection to {place.host}:{place.port} in time") from error
        raise ClientConnectorError(known, error) from error


async def _addresses(place: Place) -> list[Any]:
    try:
        family = socket.AF_INET6 if ip_address(place.host).version == 6 else socket.AF_INET  # noqa: PLR2004 - of IP
    except ValueError:
        flags = socket.AI_ADDRCONFIG
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (place.host, place.port))]


async def _opened(place: Place, addresses: list[Any], make: Callable[[], LeanConnection]) -> LeanConnection:
    loop = asyncio.get_running_loop()
    own = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S, loop=loop)
    options: dict[str, Any] = {}
    if place.ssl is not None:
        name = place.server_hostname.rstrip(".")
        options = {"ssl": place.ssl, "server_hostname": name, "ssl_shutdown_timeout": END_OF_TLS_S}
    connection = make()
    try:
        await loop.create_connection(lambda: connection, sock=own, **options)
    except BaseException:  # a cancellation may come when it is open already
        connection.abort()
        own.close()
        raise
    return connection
