"""Latency figures of the recent past, for people: no decision depends on them."""

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
