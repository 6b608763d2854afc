"""Errors that nobody foresaw: each ends one attempt of a part, never the part, and is told with its cause."""

from __future__ import annotations

from math import inf
from typing import Final

from router.core.models import Reason
from router.core.telemetry import AttemptFailed
from router.ports import Clock, Observer

TELL_AGAIN_S: Final = 600.0  # until an error of the same kind is told again; meanwhile it is only counted
MAX_TEXT: Final = 500  # characters of an error's own text, which may quote what came from outside


class Unforeseen:
    """Notes the errors of parts that go on with their next attempt."""

    def __init__(self, observer: Observer, clock: Clock) -> None:
        self._observer = observer
        self._clock = clock
        self._told: dict[tuple[str, type[Exception]], float] = {}  # (part, kind of error) → when, monotonic seconds

    def note(self, part: str, error: Exception) -> Reason:
        """Note an error that has ended an attempt of the part; returns it in words."""
        kind, now = (part, type(error)), self._clock.monotonic()
        tell = now - self._told.get(kind, -inf) >= TELL_AGAIN_S
        if tell:
            self._told[kind] = now
        self._observer.observe(AttemptFailed(part, error, tell))
        return f"{type(error).__name__}: {error!s:.{MAX_TEXT}}"
