"""HTTP sessions: what no session of ours may do, whatever the other side says.

An answer that redirects may lead anywhere that this process can reach, such as the metadata service of AWS, so no
redirect is followed: every call says so itself (allow_redirects), which costs nothing. A library's session gets a trace
that refuses.
"""

from __future__ import annotations

import warnings
from ssl import SSLContext
from types import SimpleNamespace
from typing import Any, Final

import aiohttp

_END_OF_TLS_S: Final = 1.0
"""How long the other side of a TLS connection has to end it too. Python's own limit is 30 s, for each connection to a
cell that answers nonsense."""


class RedirectedError(aiohttp.ClientError):
    """A server answers with a redirect, which is never followed."""


def http_session(
    *, limit: int = 100, keepalive_timeout: float = 15.0, ssl: SSLContext | bool = True, **options: Any
) -> aiohttp.ClientSession:
    """Make a session that asks no proxy of the environment and keeps no cookie.

    It has at most `limit` connections (0: as many as it needs), and keeps an idle one for `keepalive_timeout` seconds.
    The other options are those of aiohttp's session.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the last option, until aiohttp always aborts
        connector = aiohttp.TCPConnector(
            limit=limit, keepalive_timeout=keepalive_timeout, ssl=ssl, ssl_shutdown_timeout=_END_OF_TLS_S
        )
    return aiohttp.ClientSession(connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), **options)


def refuse_redirects(session: aiohttp.ClientSession) -> None:
    """Have a session whose calls are a library's raise RedirectedError where it would follow a redirect."""
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse)
    trace.freeze()
    session.trace_configs.append(trace)


async def _refuse(_: aiohttp.ClientSession, __: SimpleNamespace, told: aiohttp.TraceRequestRedirectParams) -> None:
    raise RedirectedError(
        f"{told.url.origin()} answers with a redirect ({told.response.status}), which is not followed"
    )
