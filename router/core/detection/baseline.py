"""What is normal for one cell, whichever instance it has: its canary's latency, its event rate and its work.

A baseline is learned only while the cell is well: what a full or a sick cell shows for minutes must not become the
measure of it. Each figure is a plain mean at first and then an exponentially weighted moving average (EWMA; S. W.
Roberts, Control Chart Tests Based on Geometric Moving Averages, Technometrics 1959), weighted by time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from router.core.detection.thresholds import CANARY_MEMORY_S, MEMORY_S, MIN_LEARNED_S


@dataclass(frozen=True, slots=True)
class WorkDone:
    """The events that a cell answered between two assessments."""

    at: float  # seconds; the end of that time
    seconds: float  # how long it was
    ok: int  # events answered well
    work_s: float  # the sum of their tenants' baseline latencies
    bad: int = 0  # events answered, and not well


@dataclass(frozen=True, slots=True)
class Baseline:
    """The learned figures of one cell."""

    canary_s: float | None = None  # latency of its canary; None before any was learned
    canary_learned_s: float = 0.0  # seconds that it was learned from
    rate: float = 0.0  # events answered well, a second
    work: float = 0.0  # seconds of latency a second, if the cell is not slow: its mean number of events in flight
    bad_rate: float = 0.0  # events answered, and not well, a second
    learned_s: float = 0.0  # seconds that the rates and work were learned from, MEMORY_S at most

    @property
    def known(self) -> bool:
        """Whether rate and work were learned for long enough to measure anything by them."""
        return self.learned_s >= MIN_LEARNED_S

    @property
    def latency_s(self) -> float | None:
        """What an event takes in the mean, in seconds, if the cell is not slow; None before that is known."""
        return self.work / self.rate if self.known and self.work and self.rate else None

    @property
    def bad_share(self) -> float:
        """The share of events that are not answered well, 0 to 1; 0 where none were answered."""
        return self.bad_rate / (self.rate + self.bad_rate) if self.bad_rate else 0.0

    @property
    def usual_canary_s(self) -> float | None:
        """What the cell's canary usually takes, in seconds; None before that was learned for long enough."""
        return self.canary_s if self.canary_learned_s >= MIN_LEARNED_S else None

    def with_canary(self, canary_s: float, step_s: float, *, lasting: bool = False) -> Baseline:
        """Return the baseline after `step_s` more seconds in which a canary took `canary_s` seconds.

        A mean for the first MIN_LEARNED_S, then an EWMA that falls over MEMORY_S and rises over CANARY_MEMORY_S: a
        creep doesn't become the baseline. What is `lasting` has been unlike it for so long that it does.
        """
        known_s, learned_s = self.canary_s, self.canary_learned_s + step_s
        span_s = learned_s
        if learned_s >= MIN_LEARNED_S and known_s is not None:
            span_s = MEMORY_S if lasting or canary_s < known_s else CANARY_MEMORY_S
        if known_s is not None and span_s:
            canary_s = known_s + (canary_s - known_s) * step_s / span_s
        return Baseline(canary_s, learned_s, self.rate, self.work, self.bad_rate, self.learned_s)

    def with_work(self, done: WorkDone) -> Baseline:
        """Return the baseline after the work in `done`: a mean for the first MEMORY_S, then an EWMA over them."""
        learned_s = min(self.learned_s + done.seconds, MEMORY_S)
        rate = self.rate + (done.ok - self.rate * done.seconds) / learned_s
        work = self.work + (done.work_s - self.work * done.seconds) / learned_s
        bad_rate = self.bad_rate + (done.bad - self.bad_rate * done.seconds) / learned_s
        return Baseline(self.canary_s, self.canary_learned_s, rate, work, bad_rate, learned_s)


NO_BASELINE: Final = Baseline()
