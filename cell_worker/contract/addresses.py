"""Addresses with a user and a password in them, which nobody may see: in no error, no log, no answer.

A part of the wire contract.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

REDIS_SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")
"""How the address of a Redis may begin."""
_WORD: Final = re.compile(r"[^\s\"'<>]+")
_BEGIN: Final = re.compile(r":/+")  # of two slashes, a path may have kept one


def without_passwords(text: str) -> str:
    """Return the text with no user and no password in the addresses that it names. Takes time in proportion to it."""
    return _WORD.sub(lambda word: _masked(word.group()), text) if "@" in text else text


def _masked(word: str) -> str:
    """Leave out what lies between the beginning of an address and its last @: a password may have one itself."""
    begin, end = _BEGIN.search(word), word.rfind("@")
    return word if begin is None or end < begin.end() else f"{word[: begin.end()]}…{word[end:]}"


def why_no_redis_url(url: str) -> str | None:
    """Say why a client can't be made of a URL, in words that show nothing of it; None when it can.

    A password with one of /?# in it ends the part of the URL that it belongs to. Its rest would be taken for a port or
    a path, and stand in errors.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in REDIS_SCHEMES or not rest:
        return f"must be an address as {', '.join(f'{name}://' for name in REDIS_SCHEMES)}"
    try:
        good = urlsplit(url).port != 0 and (scheme == "unix" or not re.search(r"[/?#].*@", rest))
    except ValueError:
        good = False
    return None if good else "is no valid address: in user and password, write / ? # @ : % as %2F %3F %23 %40 %3A %25"
