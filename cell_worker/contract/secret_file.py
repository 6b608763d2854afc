"""Reads secrets as operators give them: in a variable with commas between them, or in a file with one a line.

A part of the wire contract, since routers and workers read them by the same rules. No text of an error holds a secret.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Final

from cell_worker.contract.strict_reader import Unreadable, read_regular_file

MIN_SECRET_CHARS: Final = 16
MAX_SECRETS: Final = 4
"""Two are enough while a secret is replaced; a leak in the middle of that takes a third."""
_MAX_FILE_BYTES: Final = 4096
_SECRET: Final = re.compile(rf"[!-~]{{{MIN_SECRET_CHARS},300}}")


def secrets_in(text: str) -> tuple[str, ...] | Unreadable:
    """Return the secrets of a text, each once and in their order, or the reason why they can't be used."""
    found = tuple(dict.fromkeys(filter(None, (part.strip() for part in re.split(r"[,\n]", text)))))
    if not found:
        return Unreadable("there is no secret in it")
    if len(found) > MAX_SECRETS:
        return Unreadable(f"there are {len(found)} secrets in it, more than {MAX_SECRETS}")
    for number, secret in enumerate(found, start=1):
        if _SECRET.fullmatch(secret) is None:
            which = f"secret {number} of {len(found)}" if len(found) > 1 else "it"
            return Unreadable(
                f"{which} must have at least {MIN_SECRET_CHARS} characters and at most 300: letters, digits and signs "
                "of ASCII, no space"
            )
    return found


def read_secrets(path: Path) -> tuple[str, ...] | Unreadable:
    """Read the secrets of a file, or say why they can't be used. Never raises, and never waits for what is no file."""
    try:
        raw = read_regular_file(path, _MAX_FILE_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        return Unreadable(f"it can't be read: {getattr(error, 'strerror', None) or type(error).__name__}")
    if isinstance(raw, Unreadable):
        return raw
    if len(raw) > _MAX_FILE_BYTES:
        return Unreadable(f"it has more than {_MAX_FILE_BYTES} bytes")
    return secrets_in(raw.decode("utf-8", "replace"))


def why_exposed(path: Path) -> str | None:
    """Say that everybody on this machine may read the file; None when not so, or when that can't be seen."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return "everybody on this machine may read it: chmod o= takes that away" if mode & stat.S_IROTH else None
