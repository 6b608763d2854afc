"""How the commands write times, and text that they don't trust."""

from __future__ import annotations

from datetime import UTC, datetime


def time_text(ms: int) -> str:
    """Write a time in milliseconds since 1970 as a date and a time of day in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def printable(text: str) -> str:
    """Escape line breaks and control characters: text that tenants have sent must not steer the terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
