"""What is remembered of an instance over minutes, as sums of short times: spells, late canaries, growth, vitals."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, log
from statistics import fmean

from router.core.detection.minutes.observation import Observation
from router.core.detection.minutes.patterns import Late, Minutes, Spell, observed
from router.core.detection.samples import CanarySample
from router.core.detection.thresholds import (
    LATE_CANARY_S,
    MAX_RATIO,
    MIN_LATENCY_S,
    MIN_OBSERVED_S,
    OBSERVED_S,
    SPELL_GAP_S,
)
from router.core.models import Vitals

PART_S = 15.0  # seconds that sums are kept of
MIN_PARTS = 5  # that show growth
MIN_CANARIES_OF_PART = 5  # so that a part counts for growth
MIN_CONCORDANCE = 0.8  # share of the pairs of parts of which the later one is slower


@dataclass(slots=True)
class _Quarter:
    """What was seen in PART_S, a quarter of a minute."""

    begun_at: float
    points: dict[str, Late] = field(default_factory=dict)  # by vantage point
    log_ratio: float = 0.0  # sum over the canaries answered, of log latency less log of what is usual
    answered: int = 0  # of these
    beats: int = 0  # heartbeats with vitals
    throttled: float = 0.0  # sum of their shares
    lag_s: float = 0.0  # the longest
    gc: float = 0.0  # the largest share


class MinutesMemory:
    """What one instance was like within the last OBSERVED_S, and what of it is worth to be said."""

    def __init__(self) -> None:
        self.growth = 0.0  # natural logarithm of how much slower its canaries got, steadily; 0 where they did not
        self._parts: deque[_Quarter] = deque()
        self._spells: deque[Spell] = deque()
        self._late: list[tuple[str, float | None]] = []  # canaries since the last assessment: may be one of a spell
        self._longest_s = 0.0  # that a canary took or has waited, since then
        self._usual_s = 0.0  # what a canary usually takes
        self._first_at = inf
        self._due = False  # whether there is something new
        self._observed: tuple[Observation, ...] = ()

    def canary(self, vantage: str, sample: CanarySample, usual_s: float | None, now: float) -> None:
        """Note what a vantage point tells of a canary, where it is known what one usually takes."""
        if usual_s is None:
            return
        self._usual_s = usual_s = max(usual_s, MIN_LATENCY_S)
        self._longest_s = max(self._longest_s, sample.latency_s or sample.waiting_s)
        if sample.waiting_s and sample.latency_s is None:
            return
        part, latency_s = self._part(now), sample.latency_s
        part.points.setdefault(vantage, Late()).canaries += 1
        if latency_s is None or (latency_s > MAX_RATIO * usual_s and latency_s - usual_s >= LATE_CANARY_S):
            self._late.append((vantage, latency_s))
        if latency_s is not None:
            part.log_ratio += log(max(latency_s, MIN_LATENCY_S) / usual_s)
            part.answered += 1

    def told(self, vitals: Vitals, now: float) -> None:
        """Note what the instance says of itself in a heartbeat."""
        part = self._part(now)
        part.beats += 1
        part.throttled += vitals.throttled or 0.0
        part.lag_s, part.gc = max(part.lag_s, vitals.lag_s), max(part.gc, vitals.gc)

    def assessed(self, *, slow: bool, by_canary: bool, now: float) -> None:
        """Note whether the cell looks slow just now, at a glance, and whether it does by its canaries.

        Canaries that are late while most vantage points find the cell slow are part of a spell, not of something that
        hits one now and then.
        """
        self._first_at = min(self._first_at, now)
        last = self._spells[-1] if self._spells else None
        if slow and (last is None or now - last.last_at > SPELL_GAP_S):
            last = Spell(now, now)
            self._spells.append(last)
        if slow and last is not None:
            last.last_at, last.by_canary = now, last.by_canary or by_canary
            last.longest_s = max(last.longest_s, self._longest_s)
            self._due = True
        if not by_canary:
            self._count_late(now)
        self._late, self._longest_s = [], 0.0

    def observed(self, cell_id: str, peers_growth: float, now: float) -> tuple[Observation, ...]:
        """Return what the last minutes show; it is looked at again when there is something new.

        `peers_growth` is how much slower the canaries of the other cells got: a cell is not named for that.
        """
        self._forget_before(now - OBSERVED_S)
        if now - self._first_at < MIN_OBSERVED_S:
            return ()
        if self._due:
            self._due = False
            self._observed = tuple(observed(cell_id, self._minutes(now, peers_growth)))
        return self._observed

    def _minutes(self, now: float, peers_growth: float) -> Minutes:
        points: dict[str, Late] = {}
        for part in self._parts:
            for vantage, late in part.points.items():
                points.setdefault(vantage, Late()).add(late)
        beats = sum(part.beats for part in self._parts)
        return Minutes(
            span_s=min(OBSERVED_S, now - self._first_at),
            spells=[spell for spell in self._spells if now - spell.last_at > SPELL_GAP_S],
            points=points,
            usual_canary_s=self._usual_s,
            growth=self.growth - max(0.0, peers_growth),
            throttled=sum(part.throttled for part in self._parts) / beats if beats else 0.0,
            lag_s=max((part.lag_s for part in self._parts), default=0.0),
            gc=max((part.gc for part in self._parts), default=0.0),
        )

    def _part(self, now: float) -> _Quarter:
        """Return the part that now belongs to; the one before is complete when a new one begins."""
        if not self._parts or now - self._parts[-1].begun_at >= PART_S:
            self.growth = growth_of(list(self._ratios()))
            self._parts.append(_Quarter(now))
            self._due = True
        return self._parts[-1]

    def _ratios(self) -> Iterator[float]:
        for part in self._parts:
            if part.answered >= MIN_CANARIES_OF_PART:
                yield part.log_ratio / part.answered

    def _count_late(self, now: float) -> None:
        for vantage, latency_s in self._late:
            late = self._part(now).points.setdefault(vantage, Late())
            late.late += 1
            if latency_s is not None:
                late.answered_late += 1
                late.late_s += latency_s

    def _forget_before(self, then: float) -> None:
        while self._parts and self._parts[0].begun_at <= then:
            self._parts.popleft()
        while self._spells and self._spells[0].last_at <= then:
            self._spells.popleft()
            self._due = True


def growth_of(values: Sequence[float]) -> float:
    """Return by how much values grow that were measured one after the other, if they do so steadily; else 0.

    Most later values must be larger than earlier ones (Kendall's tau), and no single step may be half of it all.
    """
    if len(values) < MIN_PARTS:
        return 0.0
    growth = fmean(values[-2:]) - fmean(values[:2])
    steps = [later - before for before, later in pairwise(values)]
    pairs = [later > before for at, before in enumerate(values) for later in values[at + 1 :]]
    steady = fmean(pairs) >= MIN_CONCORDANCE and 2 * max(steps) <= growth
    return growth if steady else 0.0
