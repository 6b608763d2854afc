"""A text that would steer a terminal, and what a terminal would have obeyed of an output."""

from __future__ import annotations

import re
from typing import Final

MARK: Final = "7h3y"
STEERING: Final = (
    *("\x1b[8m", "\x1b[2J", "\x1b]0;title\x07", "\x1b]8;;http://evil\x1b\\", "\x1b]52;c;cm0=\x07", "\x1bc", "\x9b2J"),
    *("\x85", "\u202e", "\u2066", "\u2069", "\u200b", "\ufeff", "\u2028", "\x07", "\x08", "\r", "\x7f"),
)
HOSTILE: Final = f"{MARK}[red]{''.join(STEERING)}[/red][link=http://evil]x[/link]:skull:"
OWN_STYLE: Final = re.compile(r"\x1b\[[0-9;]*m")
CONCEALED: Final = "\x1b[8m"  # a style that none of our own texts has


def obeyed(text: str) -> list[str]:
    """List what a terminal would obey, but for line breaks, tabs and the styles that we give ourselves."""
    plain = OWN_STYLE.sub("", text)
    return [CONCEALED] * (CONCEALED in text) + [repr(c) for c in plain if not c.isprintable() and c not in "\n\t"]
