"""Rates of keys, kept as one number a key.

Each key has a token bucket in the form of the Generic Cell Rate Algorithm (ITU-T I.371, 1996): all that is stored is
the time at which the bucket would be full again. An event over the rate is told when to come again. Those times follow
each other at the key's rate, so that a thousand waiting events don't all come back at once. When more events wait than
can come within the longest delay that SQS knows, the times start again at the next free token; otherwise all the others
would come together at the longest delay, and none in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from router.core.policy import MAX_BURST, MAX_RATE, MIN_RATE, TenantLimit

MAX_KEYS: Final = 100_000  # beyond it, the buckets that are full again are forgotten
LONGEST_S: Final = 900.0  # the longest wait, unless the rate is lower than one event in that time


@dataclass(slots=True)
class _TokenBucket:
    full_at: float  # monotonic seconds
    queue_end: float  # when the last event that was told to come again will come


class RateLimiter:
    """The token buckets of all keys that have a rate."""

    def __init__(self) -> None:
        self._buckets: dict[str, _TokenBucket] = {}
        self._prune_at = MAX_KEYS

    def admit(self, key: str, limit: TenantLimit, now: float) -> float:
        """Take a token of the key and return 0.0, or return after how many seconds the event may come again.

        `now` is in monotonic seconds. An event that has to come again takes no token.
        """
        # A policy is judged before it is in force. One that comes from elsewhere must not stop its keys either.
        interval = 1.0 / min(MAX_RATE, max(MIN_RATE, limit.rate_per_s))
        burst = min(MAX_BURST, max(1, limit.burst))
        bucket = self._buckets.get(key)
        if bucket is None:
            self._prune(now)
            bucket = self._buckets[key] = _TokenBucket(now, now)
        if bucket.full_at > (empty_full_at := now + burst * interval):  # it was emptied under a lower rate
            bucket.full_at, bucket.queue_end = empty_full_at, now
        full_at = max(bucket.full_at, now)
        if full_at - now <= (burst - 1) * interval + 1e-9:
            bucket.full_at = full_at + interval
            return 0.0
        next_token = full_at - (burst - 1) * interval
        bucket.queue_end = max(bucket.queue_end, next_token) + interval
        if bucket.queue_end > now + LONGEST_S:
            bucket.queue_end = next_token + interval
        return bucket.queue_end - now

    def _prune(self, now: float) -> None:
        if len(self._buckets) >= self._prune_at:
            self._buckets = {key: b for key, b in self._buckets.items() if max(b.full_at, b.queue_end) > now}
            self._prune_at = max(MAX_KEYS, 2 * len(self._buckets))
