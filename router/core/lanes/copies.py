"""Copies of a cell's latest events, which its instance and its twin rehearse. Kept only during a trial. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec.structs import replace

from router.core.models import Event

MAX_COPIES: Final = 50
MAX_BYTES: Final = 1024 * 1024  # of all copies of one cell; cells stand trial one at a time


class RecentCopies:
    """Copies of the events that a cell has just done; the oldest go first."""

    def __init__(self) -> None:
        self._kept: deque[Event] = deque()
        self._turn = 0  # counts those that were handed out
        self.bytes = 0

    def add(self, event: Event) -> None:
        """Keep a copy of an event that was done, unless it is too large, or an instance may have died of it."""
        size = size_of(event)
        if size > MAX_BYTES or event.unanswered or event.killed or event.suspect:
            return
        self._kept.append(replace(event, attempt=1, rehearse=True))
        self.bytes += size
        while len(self._kept) > MAX_COPIES or self.bytes > MAX_BYTES:
            self.bytes -= size_of(self._kept.popleft())

    def next(self) -> Event | None:
        """Return the copy whose turn it is; None while there is none."""
        if not self._kept:
            return None
        self._turn += 1
        return self._kept[self._turn % len(self._kept)]


def size_of(event: Event) -> int:
    """Return how many bytes an event has, about: its body, its names, and what came beside it."""
    beside = event.origin.size if event.origin is not None else 0
    return len(event.body) + len(event.partition_key) + len(event.event_id) + len(event.pointer) + beside
