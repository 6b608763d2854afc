"""Judges the trial of a slow instance beside its twin: the same canaries, at the same moments, through both.

What makes both slow is not the instance: its tenants, its work, a dependency, the path to its machine. So a slow
instance is replaced only when its twin has shown that another one is faster. Each vantage point is judged by itself,
by a sign test of its pairs (W. J. Dixon, A. M. Mood, The Statistical Sign Test, JASA 41, 1946), and more than half of
them must say the same. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import comb, isinf
from statistics import median
from typing import Final

SETTLE_S: Final = 1.5
"""Seconds after the twin was ready in which no pair counts: the slow instance is given less to do first, so that both
are measured alike, and the twin warms up."""
MAX_TRIAL_S: Final = 20.0
"""Seconds after which a trial that has shown nothing ends: the instance is kept. It waits longer for a cold twin."""
TRIAL_RATIO: Final = 1.5
"""Times its twin's latency, which the slow instance's must be. It was found slow already: this asks whose fault that
is."""
TRIAL_EXCESS_S: Final = 0.005
"""Seconds that it must take longer than its twin, whatever the ratio: it has the cell's events, its twin has none."""
CHANCE: Final = 1 / 32
"""The chance of a vantage point's finding, if either answer were as likely in each pair: five of five say the same."""
ALONE_CHANCE: Final = 1 / 128
"""The same, where nobody else looks: seven of seven."""
MAX_COLD: Final = 0.2
"""Share of a warm twin's canaries that may take longer than usual."""
RECENT_S: Final = 10.0
"""Seconds whose pairs count: what a cold twin showed before has passed by then."""
FRESH_S: Final = 5.0
"""Seconds after its last pair in which a vantage point has a say: a router that has died has none."""


class Finding(StrEnum):
    """What a trial has shown."""

    OPEN = "open"  # nothing yet
    SLOWER = "slower"  # the instance is slower than its twin: another one is better
    NO_SLOWER = "no slower"  # the twin is no better: it is not the instance
    TWIN_FAILS = "twin fails"  # most canaries got no good answer from the twin: it is no good


@dataclass(frozen=True, slots=True)
class CanaryPair:
    """Two canaries that one vantage point sent at the same moment, through the instance and through its twin."""

    vantage_point: str
    at: float  # when both were answered, in monotonic seconds
    own_s: float  # latency of the instance's, in seconds; infinite where no good answer came
    twin_s: float

    @property
    def slower(self) -> bool:
        """Whether the instance took longer by the margin."""
        return self.own_s > max(TRIAL_RATIO * self.twin_s, self.twin_s + TRIAL_EXCESS_S)


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What a trial has shown by now, and the figures that show it. Latencies are medians, in seconds."""

    finding: Finding = Finding.OPEN
    own_s: float = 0.0
    twin_s: float = 0.0
    pairs: int = 0
    vantage_points: int = 0

    def __str__(self) -> str:
        """Put both into words: `503 ms, its twin 3 ms (medians of 12 pairs of canaries, from 2 vantage points)`."""
        if not self.pairs:
            return "no canary was answered by both"
        seen = f"medians of {self.pairs} pairs of canaries"
        sides = f", from {self.vantage_points} vantage points" if self.vantage_points > 1 else ""
        return f"{_ms(self.own_s)}, its twin {_ms(self.twin_s)} ({seen}{sides})"


def judge_trial(
    pairs: Sequence[CanaryPair], lasted_s: float, now: float, usual_s: float | None, warm_up_s: float
) -> TrialResult:
    """Return what the pairs of the last RECENT_S show of a trial that has lasted for `lasted_s` seconds.

    `now` is in monotonic seconds. `usual_s` is what a canary of the cell usually takes, in seconds; None: not known. A
    twin that takes longer may still be cold: for `warm_up_s`, that it is no faster says nothing.
    """
    counted = [pair for pair in pairs if pair.at >= now - min(RECENT_S, lasted_s - SETTLE_S)]
    by_side: defaultdict[str, list[CanaryPair]] = defaultdict(list)
    for pair in counted:
        by_side[pair.vantage_point].append(pair)
    found = _majority([side for side in by_side.values() if now - side[-1].at <= FRESH_S])
    if not counted:
        return TrialResult(Finding.TWIN_FAILS if lasted_s >= MAX_TRIAL_S else Finding.OPEN)
    own_s, twin_s = median(pair.own_s for pair in counted), median(pair.twin_s for pair in counted)
    warm = usual_s is not None and _is_warm([pair.twin_s for pair in counted], usual_s)
    if found is not Finding.SLOWER:
        if isinf(twin_s):
            found = Finding.TWIN_FAILS if lasted_s >= MAX_TRIAL_S else Finding.OPEN
        elif lasted_s >= max(MAX_TRIAL_S, 0.0 if warm else warm_up_s):
            found = Finding.NO_SLOWER
        elif not warm:
            found = Finding.OPEN
    return TrialResult(found, own_s, twin_s, len(counted), len(by_side))


def _is_warm(twin_s: Sequence[float], usual_s: float) -> bool:
    """Whether hardly any of the twin's latencies is over what is usual: one that warms up just now has some."""
    cold = sum(each > TRIAL_RATIO * usual_s + TRIAL_EXCESS_S for each in twin_s)
    return cold <= MAX_COLD * len(twin_s)


def _majority(sides: Sequence[Sequence[CanaryPair]]) -> Finding:
    """Return what more than half of the vantage points have found."""
    found = [_finding(side, CHANCE if len(sides) > 1 else ALONE_CHANCE) for side in sides]
    agreed = (each for each in (Finding.SLOWER, Finding.NO_SLOWER) if 2 * found.count(each) > len(found))
    return next(agreed, Finding.OPEN)


def _finding(pairs: Sequence[CanaryPair], chance: float) -> Finding:
    """Return what one vantage point's pairs show: neither, unless chance would hardly ever show it."""
    slower = sum(pair.slower for pair in pairs)
    if _tail(slower, len(pairs)) <= chance:
        return Finding.SLOWER
    return Finding.NO_SLOWER if _tail(len(pairs) - slower, len(pairs)) <= chance else Finding.OPEN


def _tail(least: int, count: int) -> float:
    """Return the chance that `least` or more of `count` tosses of a coin come up heads; 1 without any."""
    return sum(comb(count, heads) for heads in range(least, count + 1)) / (1 << count)


def _ms(seconds: float) -> str:
    return "no answer" if isinf(seconds) else f"{1000 * seconds:.0f} ms"
