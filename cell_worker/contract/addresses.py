"""Addresses as people write them, some with a user and a password, which nobody may see: in no error, log or answer.

A part of the wire contract.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from cell_worker.contract.secret_file import read_secrets
from cell_worker.contract.strict_reader import Unreadable

REDIS_SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")
"""How the address of a Redis may begin."""
BY_IAM: Final = re.compile(r"iam(?P<serverless>-serverless)?:(?P<cache>[a-z][a-z0-9-]{0,49})")
"""How the login by ElastiCache's tokens is asked for."""
BY_SECRET: Final = re.compile(r"arn:aws[a-z-]*:secretsmanager:(?P<region>[a-z0-9-]+):\d{12}:secret:[\w/+=.@-]{1,519}")
"""What the ARN of a secret in Secrets Manager is, without a part of its value."""
_WORD: Final = re.compile(r"[^\s\"'<>]+")
_BEGIN: Final = re.compile(r":/+")  # of two slashes, a path may have kept one


def bare_host(host: str) -> str:
    """Return a host as sockets take it: an address of IPv6 without the brackets that it has in URLs."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def host_and_port(host: str, port: int) -> str:
    """Return host and port as one text, as URLs have them: an address of IPv6 has brackets."""
    host = bare_host(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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


def why_no_login(url: str, password_from: str, region: str) -> str | None:
    """Say why nobody could log in so, in words that show no password; None when one can, or nothing is asked for."""
    try:
        place = urlsplit(url)
    except ValueError:
        return None  # which is said of the URL
    if not password_from:
        return None
    if place.password:
        return "is set, and the URL has a password too: leave that out"
    if BY_IAM.fullmatch(password_from) is not None:
        return _why_no_token(place, region)
    return None if BY_SECRET.fullmatch(password_from) is not None else _why_no_file(password_from)


def _why_no_token(place: SplitResult, region: str) -> str | None:
    if not place.username:
        return "needs the user in the URL, as rediss://my-user@my-cache:6379"
    if not place.scheme.startswith("rediss"):
        return "needs TLS in the URL (rediss://): ElastiCache takes tokens in no other way"
    return None if region else "needs the region: set AWS_REGION"


def _why_no_file(path: str) -> str | None:
    if not path.startswith("/"):
        return "must be iam:CACHE, iam-serverless:CACHE, the ARN of a secret, or the absolute path of a file"
    found = read_secrets(Path(path))
    return f"can't be had from that file: {found.why}" if isinstance(found, Unreadable) else None
