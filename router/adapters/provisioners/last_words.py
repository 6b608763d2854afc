"""The end of the log of an instance that has ended: it mostly says why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

LAST_LINES: Final = 20
ORDERLY: Final = "exit code 0"
"""How an instance ends that was asked to, or that has made room for another: its log says nothing that matters."""
MAX_WORDS: Final = 2000  # characters of a log that are shown when its instance ends


def last_words(lines: Sequence[str]) -> str:
    """Return the end of a log as a suffix to how its instance ended: its last lines, at most MAX_WORDS characters."""
    text = "".join(lines).strip()
    if len(text) > MAX_WORDS:
        text = text[-MAX_WORDS:].partition("\n")[2] or text[-MAX_WORDS:]
    return f"; its last words:\n{text}" if text else ""


def last_words_of_file(path: Path) -> str:
    """Return the last words in a log file, of which only the end is read; empty where it can't be read."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4 * MAX_WORDS))
            end = log.read(4 * MAX_WORDS)  # a character has at most 4 bytes
    except OSError:
        return ""
    return last_words(end.decode("utf-8", "replace").splitlines(keepends=True)[-LAST_LINES:])
