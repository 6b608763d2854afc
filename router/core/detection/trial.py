"""Judges the trial of a slow instance beside its twin: the same canaries and copies, at the same moments, through both.

What makes both slow is not the instance: its tenants, its work, a dependency, the path to its machine. So a slow
instance is replaced only when its twin has shown that another one is faster. Each vantage point is judged by itself,
by a sign test of its pairs (W. J. Dixon, A. M. Mood, The Statistical Sign Test, JASA 41, 1946), and more than half of
them must say the same.

An instance may be slow for a part of its events alone, and quick for canaries. Where the handler rehearses, both do
copies of the same events, each with a canary beside it, and their pairs are judged in the same way; those count that
tell the two apart. Where a canary was late as well, it is not that event: the instance has work, and its twin none.

An instance that is slow from its first moment may be cold: its caches, its connections. So would its twin be, which is
younger. Until the instance had its time to warm up, only a twin that was warm from the beginning can convict it.
Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import comb, inf, isinf
from statistics import median
from typing import Final, TypeVar

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
PART_RATIO: Final = 3.0
"""Times its twin's time, which a rehearsed event must take to count: the twin does nothing else."""
PART_EXCESS_S: Final = 0.05
"""Seconds that it must take longer, whatever the ratio."""
PART_CHANCE: Final = 1 / 128
"""The chance of a finding by rehearsed events, of each vantage point: seven of seven that tell the two apart."""
ALONE_PART_CHANCE: Final = 1 / 1024
"""The same, where nobody else looks: ten of ten."""
MIN_PART: Final = 0.1
"""Share of the rehearsed events that must be slower: fewer are hardly felt."""
MAX_REHEARSED_S: Final = 30.0
"""Seconds for which a trial waits for rehearsed events to show something, and for which their pairs count."""
ENOUGH_REHEARSED: Final = 30
"""Pairs of a vantage point, after which they have a say; where none is slower, one in ten would have shown by then."""
STAND_BY_S: Final = 75.0
"""Seconds for which a twin stands by where the cell is well again when it stands trial, a second time."""
MIN_WARM: Final = 7
"""Canaries that show an instance to be warm by itself."""
YOUNG_TRIAL_S: Final = 10.0
"""Seconds for which the twin of an instance that may be cold is watched: it must be warm where that one was slow."""
MAX_YOUNG_TRIAL_S: Final = 60.0
"""Seconds after which such a trial ends, since the instance gets little to do meanwhile: its twin is cold too."""


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
class CopyPair:
    """A copy of an event that both rehearsed at the same moment. Latencies are in seconds, infinite without an answer.

    `canaries` are those that were sent beside it.
    """

    vantage_point: str
    at: float  # when both had ended, in monotonic seconds
    own_s: float
    twin_s: float
    canaries: CanaryPair
    size: int = 0  # bytes of the event

    @property
    def slower(self) -> bool:
        """Whether the instance took longer for this event by the margin, and for the canary beside it did not."""
        return _is_part(self.own_s, self.twin_s) and not self.canaries.slower

    @property
    def quicker(self) -> bool:
        """Whether the twin took longer by the same margin."""
        return _is_part(self.twin_s, self.own_s)


@dataclass(frozen=True, slots=True)
class SlowPart:
    """The rehearsed events for which the instance is slower. Latencies are their medians, in seconds."""

    slower: int = 0
    of: int = 0  # that were rehearsed
    own_s: float = 0.0
    twin_s: float = 0.0
    larger_than: int = 0  # bytes: all of them are larger, and hardly any other is; 0: size has nothing to do with it

    def __str__(self) -> str:
        """Put it into words: `12 of 40 events that both rehearsed, the larger ones: 503 ms, its twin 45 ms`."""
        if not self.slower:
            return f"none of {self.of} events that both rehearsed took longer"
        larger = f", the larger ones (over {self.larger_than / 1000:.1f} kB)" if self.larger_than else ""
        seen = f"{self.slower} of {self.of} events that both rehearsed{larger}"
        return f"{seen}: {_ms(self.own_s)}, its twin {_ms(self.twin_s)}"


NO_PART: Final = SlowPart()
_P = TypeVar("_P", "CanaryPair", "CopyPair")


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What a trial has shown by now, and the figures that show it. Latencies are medians, in seconds."""

    finding: Finding = Finding.OPEN
    own_s: float = 0.0
    twin_s: float = 0.0
    pairs: int = 0
    vantage_points: int = 0
    part: SlowPart = NO_PART

    def __str__(self) -> str:
        """Put both into words: `503 ms, its twin 3 ms (medians of 12 pairs of canaries, from 2 vantage points)`."""
        if not self.pairs:
            return "no canary was answered by both"
        seen = f"medians of {self.pairs} pairs of canaries"
        sides = f", from {self.vantage_points} vantage points" if self.vantage_points > 1 else ""
        canaries = f"{_ms(self.own_s)}, its twin {_ms(self.twin_s)} ({seen}{sides})"
        return f"{self.part}; its canaries {canaries}" if self.part.of else canaries


@dataclass(frozen=True, slots=True)
class Terms:
    """What a trial is held by: what is usual, and how long what has not been seen yet is waited for."""

    usual_s: float | None  # what a canary of the cell usually takes, in seconds; None: not known
    warm_up_s: float  # for so long a twin that takes longer may be cold: that it is no faster says nothing then
    rehearses: bool = False  # copies of events are rehearsed
    comes_and_goes: bool = False  # it was well again since another trial: this one waits until it is slow
    age_s: float = inf  # for how many seconds the instance has had its traffic: less than `warm_up_s`, it may be cold


def judge_trial(
    pairs: Sequence[CanaryPair], copies: Sequence[CopyPair], lasted_s: float, now: float, terms: Terms
) -> TrialResult:
    """Return what the pairs show of a trial that has lasted for `lasted_s` seconds. `now` is in monotonic seconds.

    Of the canaries those of the last RECENT_S count.
    """
    found = _by_canaries(pairs, lasted_s, now, terms)
    if terms.age_s < terms.warm_up_s + RECENT_S:  # of an older one, no pair counts that it might be cold in
        return _of_young(found, pairs, lasted_s, now, terms.usual_s)
    if not terms.rehearses or found.finding in (Finding.SLOWER, Finding.TWIN_FAILS):
        return found
    counted = [copy for copy in copies if copy.at >= now - min(MAX_REHEARSED_S, lasted_s - SETTLE_S)]
    by_side = _by_side(counted)
    sides = [side for side in by_side if now - side[-1].at <= 2 * FRESH_S]
    time_is_up = lasted_s >= MAX_REHEARSED_S
    if time_is_up:  # a router that few of the cell's events came to neither convicts nor acquits
        sides = [side for side in sides if len(side) >= ENOUGH_REHEARSED] or sides
    chance = PART_CHANCE if len(sides) > 1 else ALONE_PART_CHANCE
    part_finding = _agreed([_part_finding(side, chance, time_is_up=time_is_up) for side in sides])
    found = replace(found, part=_part(counted))
    if part_finding is Finding.SLOWER:
        return replace(found, finding=Finding.SLOWER)
    waits = part_finding is Finding.OPEN and lasted_s < MAX_REHEARSED_S
    return replace(found, finding=Finding.OPEN) if waits else found


def _by_canaries(pairs: Sequence[CanaryPair], lasted_s: float, now: float, terms: Terms) -> TrialResult:
    counted = [pair for pair in pairs if pair.at >= now - min(RECENT_S, lasted_s - SETTLE_S)]
    by_side = _by_side(counted)
    found = _majority([side for side in by_side if now - side[-1].at <= FRESH_S])
    if not counted:
        return TrialResult(Finding.TWIN_FAILS if lasted_s >= MAX_TRIAL_S else Finding.OPEN)
    own_s, twin_s = median(pair.own_s for pair in counted), median(pair.twin_s for pair in counted)
    warm = _is_warm([pair.twin_s for pair in counted], terms.usual_s)
    if found is not Finding.SLOWER:
        if isinf(twin_s):
            found = Finding.TWIN_FAILS if lasted_s >= MAX_TRIAL_S else Finding.OPEN
        elif terms.comes_and_goes and warm and lasted_s < STAND_BY_S:
            found = Finding.OPEN
        elif lasted_s >= max(MAX_TRIAL_S, 0.0 if warm else terms.warm_up_s):
            found = Finding.NO_SLOWER
        elif not warm:
            found = Finding.OPEN
    return TrialResult(found, own_s, twin_s, len(counted), len(by_side))


def _of_young(
    found: TrialResult, pairs: Sequence[CanaryPair], lasted_s: float, now: float, usual_s: float | None
) -> TrialResult:
    """Return what is left of a trial's finding where the instance may be cold.

    It was slow when it was as young as its twin is. So it is convicted where its twin was warm since its own beginning,
    and acquitted once it is warm itself.
    """
    if found.finding in (Finding.TWIN_FAILS, Finding.NO_SLOWER):
        return found
    counted = [pair for pair in pairs if pair.at >= now - (lasted_s - SETTLE_S)]
    twin_is_warm = lasted_s >= YOUNG_TRIAL_S and _is_warm([pair.twin_s for pair in counted], usual_s)
    if found.finding is Finding.SLOWER and twin_is_warm:
        return found
    own_s = [pair.own_s for pair in counted if pair.at >= now - FRESH_S]
    is_warm = len(own_s) >= MIN_WARM and _is_warm(own_s, usual_s)
    ends = is_warm or lasted_s >= MAX_YOUNG_TRIAL_S
    return replace(found, finding=Finding.NO_SLOWER if ends else Finding.OPEN)


def _by_side(pairs: Sequence[_P]) -> Sequence[Sequence[_P]]:
    """Return the pairs of each vantage point."""
    by_side: defaultdict[str, list[_P]] = defaultdict(list)
    for pair in pairs:
        by_side[pair.vantage_point].append(pair)
    return list(by_side.values())


def _is_warm(latencies_s: Sequence[float], usual_s: float | None) -> bool:
    """Whether hardly any of an instance's latencies is over what is usual: one that warms up just now has some."""
    if usual_s is None:
        return False
    cold = sum(each > TRIAL_RATIO * usual_s + TRIAL_EXCESS_S for each in latencies_s)
    return cold <= MAX_COLD * len(latencies_s)


def _majority(sides: Sequence[Sequence[CanaryPair]]) -> Finding:
    """Return what more than half of the vantage points have found."""
    return _agreed([_finding(side, CHANCE if len(sides) > 1 else ALONE_CHANCE) for side in sides])


def _agreed(found: Sequence[Finding]) -> Finding:
    agreed = (each for each in (Finding.SLOWER, Finding.NO_SLOWER) if 2 * found.count(each) > len(found))
    return next(agreed, Finding.OPEN)


def _part_finding(copies: Sequence[CopyPair], chance: float, *, time_is_up: bool) -> Finding:
    """Return what one vantage point's copies show, once there are enough: who looks too often sees things.

    Those that take both as long say nothing of which is slower.
    """
    if len(copies) < ENOUGH_REHEARSED and not time_is_up:
        return Finding.OPEN
    slower, quicker = sum(copy.slower for copy in copies), sum(copy.quicker for copy in copies)
    if slower >= MIN_PART * len(copies) and _tail(slower, slower + quicker) <= chance:
        return Finding.SLOWER
    return Finding.OPEN if slower else Finding.NO_SLOWER


def _part(copies: Sequence[CopyPair]) -> SlowPart:
    """Describe the copies for which the instance was slower, and whether it is their size."""
    slower = [copy for copy in copies if copy.slower]
    if not slower:
        return SlowPart(0, len(copies))
    own_s, twin_s = median(copy.own_s for copy in slower), median(copy.twin_s for copy in slower)
    least = min(copy.size for copy in slower)
    others = [copy.size for copy in copies if not copy.slower]
    by_size = bool(others) and sum(size >= least for size in others) <= MAX_COLD * len(slower)
    larger_than = max((size for size in others if size < least), default=0) if by_size else 0
    return SlowPart(len(slower), len(copies), own_s, twin_s, larger_than)


def _is_part(one_s: float, other_s: float) -> bool:
    return one_s > max(PART_RATIO * other_s, other_s + PART_EXCESS_S)


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
