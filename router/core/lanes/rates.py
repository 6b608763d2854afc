"""Rates of keys, kept as one number a key.

Each key has a token bucket in the form of the Generic Cell Rate Algorithm (ITU-T I.371, 1996): all that is stored is
the time at which the bucket would be full again. An event over the rate is told when to come again. Those times follow
each other at the key's rate, so that a thousand waiting events don't all come back at once. When more events wait than
can come within the longest delay that SQS knows, the times start again at the next free token; otherwise all the others
would come together at the longest delay, and none in between.

A full bucket is as good as none. There are MAX_KEYS buckets at most: beyond that the half of them is forgotten that
would be full soonest, as those of keys that came once are. Such a key may then have its burst anew. Keys that are over
their rate are the last to be forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median_low
from typing import Final

from router.core.policy import MAX_BURST, MAX_RATE, MIN_RATE, TenantLimit

MAX_KEYS: Final = 100_000  # 25 MiB, however long the keys are
LONGEST_S: Final = 900.0  # the longest wait, unless the rate is lower than one event in that time


@dataclass(slots=True)
class _TokenBucket:
    full_at: float  # monotonic seconds
    queue_end: float  # when the last event that was told to come again will come

    def idle_at(self) -> float:
        """When the bucket is full again and nothing waits for it any more."""
        return max(self.full_at, self.queue_end)


class RateLimiter:
    """The token buckets of all keys that have a rate."""

    def __init__(self) -> None:
        self._buckets: dict[int, _TokenBucket] = {}  # by the key's hash: keys are as long as their tenants like

    def __len__(self) -> int:
        """How many buckets are remembered."""
        return len(self._buckets)

    def admit(self, key: str, limit: TenantLimit, now: float) -> float:
        """Take a token of the key and return 0.0, or return after how many seconds the event may come again.

        `now` is in monotonic seconds. An event that has to come again takes no token.
        """
        # A policy is judged before it is in force. One that comes from elsewhere must not stop its keys either.
        interval = 1.0 / min(MAX_RATE, max(MIN_RATE, limit.rate_per_s))
        burst = min(MAX_BURST, max(1, limit.burst))
        bucket = self._buckets.get(hash(key))
        if bucket is None:
            self._prune(now)
            bucket = self._buckets[hash(key)] = _TokenBucket(now, now)
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
        """Make room for one more bucket."""
        if len(self._buckets) < MAX_KEYS:
            return
        middle = median_low(bucket.idle_at() for bucket in self._buckets.values())
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if bucket.idle_at() > max(middle, now)}
