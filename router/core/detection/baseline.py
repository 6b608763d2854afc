"""What is usual for one cell, whichever instance it has: its canary, its events, its work. Pure.

Learned only while the cell is well: what a full or a sick cell shows for minutes must not become the measure of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

LEAST_LEARNED_S: Final = 60.0  # nothing is measured by what has been learned, or been well, for less


@dataclass(frozen=True, slots=True)
class Done:
    """What a cell has done in so many seconds."""

    at: float
    seconds: float
    ok: int  # answered well
    work_s: float  # their usual latencies


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of it."""

    canary_s: float | None = None
    canary_learned_s: float = 0.0
    rate: float = 0.0  # events answered well a second
    work: float = 0.0  # seconds of latency a second, if the cell isn't slow
    learned_s: float = 0.0  # from so much of time: a mean at first, and then what forgets

    @property
    def known(self) -> bool:
        """Whether it is from long enough to measure anything by."""
        return self.learned_s >= LEAST_LEARNED_S

    def with_canary(self, canary_s: float, step_s: float, memory_s: float) -> Baseline:
        """It takes so long now. A mean at first; from then on slowly, so that a slow one doesn't soon become usual."""
        usual_s, learned_s = self.canary_s, self.canary_learned_s + step_s
        span_s = learned_s if learned_s < LEAST_LEARNED_S else memory_s
        if usual_s is not None and span_s:
            canary_s = usual_s + (canary_s - usual_s) * step_s / span_s
        return replace(self, canary_s=canary_s, canary_learned_s=learned_s)

    def with_done(self, done: Done, memory_s: float) -> Baseline:
        """So much was done."""
        learned_s = min(self.learned_s + done.seconds, memory_s)
        rate = self.rate + (done.ok - self.rate * done.seconds) / learned_s
        work = self.work + (done.work_s - self.work * done.seconds) / learned_s
        return replace(self, rate=rate, work=work, learned_s=learned_s)


NO_BASELINE: Final = Baseline()
