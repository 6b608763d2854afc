"""How fast events may leave a lane where the policy says what a cell bears: a token bucket, filled at this rate. Pure.

What may not leave yet waits in the lane, where keys take turns: so a loud key doesn't use up what its neighbours need,
as it would if each event were let in or turned away when it comes.
"""

from __future__ import annotations

from math import floor
from typing import Final

BURST_S: Final = 1.0  # after a pause as many may leave at once as in so many seconds, one at least
STEP_S: Final = 0.02  # events leave for so many seconds together: one by one, each would be a call of its own
_LEAST_WAIT_S: Final = 0.001  # a clock that is a little early must not be asked again at once


class CellPace:
    """One router's part of the rate of one cell, in events a second; its bucket is full at first."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._tokens = self._most
        self._at: float | None = None  # when the tokens were counted, in monotonic seconds

    def room(self, now: float) -> int:
        """How many events may leave now; 0 until there are enough for one step."""
        tokens = self._counted(now)
        return floor(tokens) if tokens >= self._step else 0

    def sent(self, count: int, now: float) -> None:
        """Note that so many events leave."""
        self._tokens, self._at = self._counted(now) - count, now

    def wait_s(self, now: float) -> float:
        """How many seconds it takes until events may leave; 0.0 when some may now."""
        lacking = self._step - self._counted(now)
        return max(_LEAST_WAIT_S, lacking / self.rate) if lacking > 0 else 0.0

    def binds(self, now: float) -> bool:
        """Whether the rate is what limits the lane: its bucket is not half full, as it is where something else does."""
        return self._counted(now) < max(self._step, self._most / 2)

    @property
    def _most(self) -> float:
        return max(1.0, self.rate * BURST_S)

    @property
    def _step(self) -> float:
        return max(1.0, self.rate * STEP_S)

    def _counted(self, now: float) -> float:
        passed_s = 0.0 if self._at is None else max(0.0, now - self._at)
        return min(self._most, self._tokens + passed_s * self.rate)
