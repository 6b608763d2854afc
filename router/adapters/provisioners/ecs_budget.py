"""How many tasks may be launched, by Fargate's rates: 20 calls of RunTask a second in one account and region. Pure.

A token bucket as in the Generic Cell Rate Algorithm: all that is stored is when the bucket will be full again.
"""

from __future__ import annotations

from typing import Final

LAUNCHES_PER_S: Final = 10.0
"""Half of Fargate's default quota, which is 20 in one second and 20 a second after that: others use the account too."""
BURST: Final = 10.0


class LaunchBudget:
    """Spaces launches out; times are monotonic seconds."""

    def __init__(self, per_s: float = LAUNCHES_PER_S, burst: float = BURST) -> None:
        self._each_s = 1 / per_s
        self._burst_s = (burst - 1) / per_s
        self._full_at = 0.0

    def wait_s(self, now: float) -> float:
        """Take a place for one launch; returns how long to wait for it, 0 mostly."""
        start = max(now, self._full_at)
        self._full_at = start + self._each_s
        return max(0.0, start - now - self._burst_s)
