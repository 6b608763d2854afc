"""Who asks the Admin API and what they may do, and the lines by which operators name them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from router.core.models import Reason

MAX_TOKENS: Final = 100
MAX_TOKEN_CHARS: Final = 8192  # of what a caller sends, a token of an identity provider too
_LINE: Final = re.compile(r"([a-z0-9][a-z0-9._@-]{0,79}):(view|operate):sha256-([0-9a-f]{64})", re.ASCII)


class Role(StrEnum):
    """What a caller may do."""

    VIEW = "view"  # look at everything
    OPERATE = "operate"  # and change it


@dataclass(frozen=True, slots=True)
class ApiCaller:
    """Who asks, as the audit names them."""

    who: str
    role: Role

    def may(self, role: Role) -> bool:
        """Return whether the caller may do what this role is for."""
        return self.role is Role.OPERATE or role is Role.VIEW


@dataclass(frozen=True, slots=True)
class KnownToken:
    """Who has a token, and its hash; the token itself is known to nobody else."""

    caller: ApiCaller
    digest: str  # SHA-256 in hex: a token has 256 bits of chance, so that no slower hash is needed


def digest_of(token: str) -> str:
    """Return the hash by which a token is known."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def line_of(name: str, role: Role, token: str) -> str:
    """Return the line by which a token is believed: NAME:ROLE:sha256-HASH."""
    return f"{name}:{role}:sha256-{digest_of(token)}"


def tokens_in(text: str) -> tuple[KnownToken, ...] | Reason:
    """Return the tokens of a text, one a line or with commas between them, or the reason why it can't be used."""
    lines = [line for line in map(str.strip, re.split(r"[,\n]", text)) if line and not line.startswith("#")]
    if len(lines) > MAX_TOKENS:
        return f"there are more than {MAX_TOKENS} tokens in it"
    found: dict[str, KnownToken] = {}
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            return (
                f"token {number} of {len(lines)} is not NAME:ROLE:sha256-HASH, with the role view or operate: "
                "cellrouter token NAME makes one"
            )
        found[match[3]] = KnownToken(ApiCaller(match[1], Role(match[2])), match[3])
    return tuple(found.values())


def whose(token: str, known: tuple[KnownToken, ...]) -> ApiCaller | None:
    """Return whose token it is; None for nobody's. It takes as long for any token, whatever is like another one."""
    digest, found = digest_of(token), None
    for each in known:
        if compare_digest(each.digest, digest):
            found = each.caller
    return found
