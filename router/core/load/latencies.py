"""Counts latencies in buckets that grow by a fixed share, so that counts of many routers can be added. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

GROWTH: Final = 1.05
"""Each bucket is so much wider than the one before: no figure is more than 2.5 % off."""
MAX_BUCKET: Final = 400  # 3.4 days in ms
_LOG: Final = math.log(GROWTH)


class Latencies:
    """How many events took how long, in milliseconds."""

    __slots__ = ("buckets",)

    def __init__(self, buckets: Iterable[tuple[int, int]] = ()) -> None:
        self.buckets: dict[int, int] = {}
        for number, count in buckets:
            bucket = min(MAX_BUCKET, max(0, number))  # whoever says it
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    @property
    def count(self) -> int:
        """How many events there are."""
        return sum(self.buckets.values())

    def add(self, ms: float) -> None:
        """Count one event; a negative time, of clocks that disagree, is none."""
        bucket = min(MAX_BUCKET, max(0, round(math.log(ms) / _LOG))) if ms > 1 else 0
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def merge(self, other: Latencies) -> None:
        """Add the counts of another one."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def quantile(self, q: float) -> float:
        """Return how long the given share (0 to 1) of events took at most, in milliseconds; 0.0 without events."""
        rank, seen = q * self.count, 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                return float(GROWTH**bucket)
        return 0.0
