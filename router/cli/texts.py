"""How the commands write times, and text that they don't trust."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_LATEST_MS: Final = 253_402_300_799_000  # the end of the year 9999, the last that a datetime can be in


def time_text(ms: int) -> str:
    """Write a time in milliseconds since 1970 as a date and a time of day in UTC; one after 9999 as the end of 9999."""
    return datetime.fromtimestamp(min(ms, _LATEST_MS) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def printable(text: str) -> str:
    """Escape line breaks and control characters: text that tenants have sent must not steer the terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
