"""The HTTP session of AWS clients: one that follows no redirect, as botocore's own, and unlike aiobotocore's.

A part of the wire contract. aiobotocore would follow a redirect to wherever the answer says, with the session token
among its headers. botocore makes something of a redirect itself, where S3 answers with one for another region.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession


class UnredirectedSession(AIOHTTPSession):  # type: ignore[misc] # aiobotocore has no type hints
    """What AioConfig's `http_session_cls` is in each client of ours."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        return SimpleNamespace(request=partial(session.request, allow_redirects=False))
