"""Rates of keys.

A token bucket as a single number a key, the Generic Cell Rate Algorithm (ITU-T I.371, 1996): the time at which the
bucket would be full again. What is over the rate is told when to come again, one after the other at that rate,
so that a thousand waiting events don't all come back at once. When more wait than can come within the longest delay
that SQS knows, the times are given out again from the first one on: else all the others would come together at the
last, and nobody in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from router.core.policy import TenantLimit

MAX_KEYS: Final = 100_000  # beyond it, the buckets that are full again are forgotten
LONGEST_S: Final = 900.0  # told to nobody to wait for more, unless the rate is lower than one in that time


@dataclass(slots=True)
class _TokenBucket:
    full_at: float  # monotonic seconds
    queue_end: float  # until when those told to come again will have come


class RateLimiter:
    """Buckets of the keys that have a rate."""

    def __init__(self) -> None:
        self._buckets: dict[str, _TokenBucket] = {}
        self._prune_at = MAX_KEYS

    def admit(self, key: str, limit: TenantLimit, now: float) -> float:
        """0.0: the event may pass, a token is taken. Else after how many seconds it may come again; none is taken."""
        interval = 1.0 / limit.rate_per_s
        bucket = self._buckets.get(key)
        if bucket is None:
            self._prune(now)
            bucket = self._buckets[key] = _TokenBucket(now, now)
        full_at = max(bucket.full_at, now)
        if full_at - now <= (limit.burst - 1) * interval + 1e-9:
            bucket.full_at = full_at + interval
            return 0.0
        next_token = full_at - (limit.burst - 1) * interval
        bucket.queue_end = max(bucket.queue_end, next_token) + interval
        if bucket.queue_end > now + LONGEST_S:
            bucket.queue_end = next_token + interval
        return bucket.queue_end - now

    def _prune(self, now: float) -> None:
        if len(self._buckets) >= self._prune_at:
            self._buckets = {key: b for key, b in self._buckets.items() if max(b.full_at, b.queue_end) > now}
            self._prune_at = max(MAX_KEYS, 2 * len(self._buckets))
