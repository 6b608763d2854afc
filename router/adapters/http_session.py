"""HTTP sessions: what no session of ours may do, whatever the other side says.

An answer that redirects may lead anywhere that this process can reach, such as the metadata service of AWS, so no
redirect is followed: every call says so itself (allow_redirects), which costs nothing. A library's session gets a trace
that refuses.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import aiohttp


class RedirectedError(aiohttp.ClientError):
    """A server answers with a redirect, which is never followed."""


def http_session(**options: Any) -> aiohttp.ClientSession:
    """Make a session that asks no proxy of the environment and keeps no cookie. It has aiohttp's other options."""
    return aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), **options)


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
