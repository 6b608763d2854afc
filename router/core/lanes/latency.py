"""Latency figures of the recent past, for people."""

from __future__ import annotations

from collections import deque
from typing import Final

_SAMPLES: Final = 512


class RecentLatency:
    """The last 512 latencies, in seconds."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=_SAMPLES)

    def add(self, latency_s: float) -> None:
        """Note one."""
        self._samples.append(latency_s)

    def quantiles(self, *qs: float) -> list[float]:
        """The nearest-rank quantiles, 0.0 without samples."""
        ordered = sorted(self._samples)
        last = len(ordered) - 1
        return [ordered[round(q * last)] if ordered else 0.0 for q in qs]
