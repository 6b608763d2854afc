"""Who asks the Admin API, and what they may do: the gate that each request passes before anything is read of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, parse_qsl, urlsplit

from router.api.admin.problems import problem
from router.core.callers import MAX_TOKEN_CHARS, ApiCaller, Role

SECRET_PARAMETERS: Final = frozenset({"access_token", "token", "authorization", "bearer", "id_token", "api_key"})
"""Names under which somebody may send a token in an address, which every proxy logs."""
FORWARDED: Final = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"})
"""Headers that a proxy adds: who is behind it may be anywhere."""
_BEARER: Final = re.compile(r"bearer +([!-~]+) *", re.IGNORECASE)
LOCAL: Final = "somebody on this machine"
CHALLENGE: Final = 'Bearer realm="cellrouter"'


class Believer(Protocol):
    """Knows the tokens of one kind by which people ask the Admin API. No call raises."""

    @property
    def is_set(self) -> bool:
        """Return whether anybody can have such a token."""
        ...

    async def caller_of(self, token: str) -> ApiCaller | None:
        """Return whose token it is; None for one that is not believed."""
        ...


class Gate:
    """Lets in who has a believed token; where no token is set, who sits at this machine."""

    def __init__(self, believers: Sequence[Believer]) -> None:
        self._believers = believers

    async def caller(self, scope: Mapping[str, Any]) -> ApiCaller:
        """Return who asks. Raises ProblemError for who may not, in words that say what to do."""
        headers = headers_of(scope)
        _refuse_other_pages(headers)
        _refuse_tokens_in_addresses(scope["query_string"])
        given = headers.get("authorization")
        if given is not None:
            return await self._believed(given)
        if any(believer.is_set for believer in self._believers):
            raise problem(
                "unauthorized",
                "send a token: Authorization: Bearer TOKEN; cellrouter token NAME makes one",
                www_authenticate=CHALLENGE,
            )
        if (why := why_not_local(scope, headers)) is not None:
            raise problem(
                "forbidden",
                f"{why}; without tokens this API answers only on its own machine: cellrouter token NAME makes one for "
                "api.tokens",
            )
        return ApiCaller(LOCAL, Role.OPERATE)

    async def _believed(self, given: str) -> ApiCaller:
        found = _BEARER.fullmatch(given) if len(given) <= MAX_TOKEN_CHARS else None
        if found is not None:
            for believer in self._believers:
                if (caller := await believer.caller_of(found[1])) is not None:
                    return caller
        raise problem(
            "unauthorized",
            "this token is not believed: it may be mistyped, taken back or out of date",
            www_authenticate=f'{CHALLENGE}, error="invalid_token"',
        )


def headers_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers by their names in lower case; of one that comes twice, both values."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def why_not_local(scope: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    """Say why a request does not come from this machine under its own name; None when it does."""
    client = scope.get("client") or ("", 0)
    if not _is_loopback(client[0]):
        return "this request comes from another machine"
    if named := sorted(FORWARDED & headers.keys()):
        return f"this request was passed on by a proxy ({named[0]})"
    name = _split(f"//{headers.get('host', '')}").hostname or ""
    if name != "localhost" and not _is_loopback(name):
        return "this request was sent to another name than localhost"
    return None


def _is_loopback(text: str) -> bool:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _refuse_other_pages(headers: Mapping[str, str]) -> None:
    """Refuse what a page of another site has its visitor's browser send."""
    site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
    own = origin is None or (_split(origin).netloc.lower() or None) == headers.get("host", "").lower()
    if site not in ("none", "same-origin") or not own:
        raise problem("forbidden", "a page of another site asks: open the dashboard of this process instead")


def _split(url: str) -> SplitResult:
    """Take an address apart; one that is none has no host."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _refuse_tokens_in_addresses(query: bytes) -> None:
    names = {name.lower() for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)}
    if SECRET_PARAMETERS & names:
        raise problem("bad-request", "a token in an address is logged everywhere: send it as Authorization: Bearer")
