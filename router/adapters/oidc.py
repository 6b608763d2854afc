"""Callers of the Admin API by OpenID Connect: tokens of an identity provider, checked by keys that it publishes.

The keys are read seldom and kept: while the provider can't be reached, who has a token is believed as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import jwt
import msgspec
import structlog

from cell_worker.contract.strict_reader import StrictReader, Unreadable
from router.core.callers import MAX_TOKEN_CHARS, ApiCaller, Role
from router.core.models import Reason
from router.ports import Clock

T = TypeVar("T")

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""What tokens may be signed with: by a private key only, never by a secret that we would know too."""
FRESH_S: Final = 600.0
"""So long keys are used before they are read again."""
KEPT_S: Final = 86_400.0
"""So long they are used while they can't be read again; then nobody is believed."""
AGAIN_S: Final = 15.0
"""So long after a reading the next one comes at the earliest, whatever tokens name."""
WITHIN_S: Final = 5.0
LEEWAY_S: Final = 30
MAX_KEYS: Final = 50
MAX_WHO: Final = 200
_MAX_BYTES: Final = 256 * 1024
_ROLE_WORDS: Final = 200  # of a token, at most


class Discovery(msgspec.Struct, frozen=True):
    """What a provider says of itself, as far as it is needed."""

    issuer: str
    jwks_uri: str


class KeySet(msgspec.Struct, frozen=True):
    """The keys that a provider signs with."""

    keys: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=MAX_KEYS)]


DISCOVERY: Final = StrictReader[Discovery]("discovery of a provider", Discovery, _MAX_BYTES)
KEYS: Final = StrictReader[KeySet]("keys of a provider", KeySet, _MAX_BYTES)


@dataclass(frozen=True, slots=True)
class OidcConfig:
    """Which provider is believed, and who of its people may do what."""

    issuer: str
    audience: str
    role_claim: str  # with dots where it is inside of others
    view: str  # who has this role there may look
    operate: str  # and who has this one may change things


class Oidc:
    """The Believer of an identity provider's tokens."""

    def __init__(self, config: OidcConfig, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._config = config
        self._session = session
        self._clock = clock
        self._log = structlog.get_logger("oidc")
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._read_at: float | None = None  # when they were read
        self._tried_at: float | None = None
        self._reading = asyncio.Lock()
        self._why_not: Reason | None = None  # as it was told

    @property
    def is_set(self) -> bool:
        """Return that a provider is asked, since there is one."""
        return True

    async def caller_of(self, token: str) -> ApiCaller | None:
        """Return whose token it is; None where it is bad, out of date, for somebody else or without a role."""
        if len(token) > MAX_TOKEN_CHARS or token.count(".") != 2:  # noqa: PLR2004 - the parts of a signed token
            return None
        try:
            head = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError, TypeError):
            return None
        key = await self._key(head.get("kid"))
        if key is None or head.get("alg") not in ALGORITHMS:
            return None
        try:
            claims = jwt.decode(
                token,
                key=key,
                algorithms=list(ALGORITHMS),
                audience=self._config.audience,
                issuer=self._config.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, RecursionError, TypeError, ArithmeticError):
            return None
        role = role_of(claims, self._config)
        return ApiCaller(who_of(claims), role) if role is not None else None

    async def _key(self, name: object) -> jwt.PyJWK | None:
        """Return the key of this name, or the only one where a token names none."""
        if self._is_due(known=name is None or name in self._keys):
            async with self._reading:
                if self._is_due(known=name is None or name in self._keys):
                    await self._read()
        if self._read_at is None or self._clock.monotonic() - self._read_at > KEPT_S:
            return None
        if name is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(name) if isinstance(name, str) else None

    def _is_due(self, *, known: bool) -> bool:
        now = self._clock.monotonic()
        if self._tried_at is not None and now - self._tried_at < AGAIN_S:
            return False
        return not known or self._read_at is None or now - self._read_at >= FRESH_S

    async def _read(self) -> None:
        self._tried_at = self._clock.monotonic()
        try:
            self._keys = await self._published()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            why = str(error) or type(error).__name__
            if why != self._why_not:
                self._log.warning("the identity provider's keys can't be read: those read last stay", why=why)
            self._why_not = why
            return
        self._read_at, self._why_not = self._tried_at, None

    async def _published(self) -> Mapping[str, jwt.PyJWK]:
        issuer = self._config.issuer
        found = await self._got(DISCOVERY, issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.issuer != issuer:
            raise ValueError(f"{issuer} says that it is {found.issuer[:200]!r}: set api.oidc_issuer as it says")
        if urlsplit(found.jwks_uri).scheme != urlsplit(issuer).scheme:
            raise ValueError(f"{issuer} has its keys where no TLS is: {found.jwks_uri[:200]!r}")
        keys: dict[str, jwt.PyJWK] = {}
        for number, each in enumerate((await self._got(KEYS, found.jwks_uri)).keys):
            if each.get("use", "sig") == "sig" and each.get("kty") != "oct":
                with suppress(jwt.PyJWTError, ValueError, TypeError, KeyError, ArithmeticError):  # others may be good
                    keys[str(each.get("kid", number))] = jwt.PyJWK.from_dict(each)
        if not keys:
            raise ValueError(f"{found.jwks_uri} holds no key that can be used")
        return keys

    async def _got(self, reader: StrictReader[T], url: str) -> T:
        async with asyncio.timeout(WITHIN_S), self._session.get(url, allow_redirects=False) as response:
            if response.status != 200:  # noqa: PLR2004 - what a provider answers
                raise ValueError(f"{url} answers with HTTP {response.status}")
            raw = await response.content.read(reader.max_bytes + 1)
            while len(raw) <= reader.max_bytes and (more := await response.content.read(reader.max_bytes + 1)):
                raw += more
        found = reader.read(raw)
        if isinstance(found, Unreadable):
            raise ValueError(f"{url}: {found.why}")  # noqa: TRY004 - it is a value's fault, not a type's
        return found


def role_of(claims: Mapping[str, Any], config: OidcConfig) -> Role | None:
    """Return what a token's claims let its owner do; None for nothing."""
    found: Any = claims
    for part in [config.role_claim] if config.role_claim in claims else config.role_claim.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    words = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
    roles = {word for word in words[:_ROLE_WORDS] if isinstance(word, str)}
    return Role.OPERATE if config.operate in roles else Role.VIEW if config.view in roles else None


def who_of(claims: Mapping[str, Any]) -> str:
    """Name the owner of a token for the audit: by the subject, which is nobody else's, and a name for people."""
    name = next((claims[each] for each in ("email", "preferred_username", "name") if claims.get(each)), "")
    subject = str(claims["sub"])
    said = subject if not isinstance(name, str) or not name or name == subject else f"{name} ({subject})"
    return said[:MAX_WHO].encode("utf-8", "backslashreplace").decode()
