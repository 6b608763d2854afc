"""Figures of the recent past, for people: no decision depends on them."""

from __future__ import annotations

from collections import deque
from typing import Final

_SAMPLES: Final = 512


class RecentLatency:
    """The last 512 latencies of a cell, in seconds."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=_SAMPLES)

    def add(self, latency_s: float) -> None:
        """Note the latency of one answered event."""
        self._samples.append(latency_s)

    def quantiles(self, *qs: float) -> list[float]:
        """Return the nearest-rank quantiles in seconds for each of `qs` (0 to 1), 0.0 without samples."""
        ordered = sorted(self._samples)
        last = len(ordered) - 1
        return [ordered[round(q * last)] if ordered else 0.0 for q in qs]


class MeanAge:
    """How old the oldest message was that each receive from a queue brought: the mean over a time, of 0 for none.

    A single receive may bring only what is new, so that no single one says how long messages wait.
    """

    def __init__(self) -> None:
        self._age_s: float | None = None  # as the last receive said; None: there was none
        self._noted_at = 0.0
        self._since = 0.0
        self._sum = 0.0

    def note(self, age_s: float, now: float) -> None:
        """Note what a receive has brought at `now`, in monotonic seconds."""
        if self._age_s is None:
            self._noted_at = self._since = now
        self._count_to(now)
        self._age_s = age_s

    def take(self, now: float) -> float | None:
        """Return the mean since it was last asked for, in seconds; None before the first receive."""
        if self._age_s is None:
            return None
        self._count_to(now)
        took_s, total, self._sum, self._since = now - self._since, self._sum, 0.0, now
        return total / took_s if took_s > 0 else self._age_s

    def _count_to(self, now: float) -> None:
        self._sum += (self._age_s or 0.0) * (now - self._noted_at)
        self._noted_at = now
