"""Rules that compare a cell with what they have seen of it before. Each is called once for every window, in order.

Sources: E. S. Page, Continuous Inspection Schemes, Biometrika 41 (1954), for CUSUM; H. B. Mann, D. R. Whitney, On a
Test of Whether One of Two Random Variables Is Stochastically Larger, Annals of Mathematical Statistics 18 (1947), and
S. A. Stouffer et al., The American Soldier (1949), for ranks of tenants put together; R. Lu et al., Perseus: A
Fail-Slow Detection Framework for Cloud Storage Systems, FAST '23, for the regression on throughput; the outlier
detection of Envoy, for the guards of hosts, volume and percentage.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log, sqrt
from statistics import fmean, median
from typing import Final

MIN_EXCESS_S: Final = 0.05
MIN_LEARNED: Final = 10  # windows that a rule sees before it judges
FORGETS: Final = 1 / 60  # weight of one window in what is usual: five minutes
SLACK: Final = 0.5  # standard deviations that CUSUM takes for nothing
DECISION: Final = 5.0  # standard deviations that CUSUM adds up to
MIN_SPREAD: Final = 0.05  # standard deviation of a window's mean log latency, at least
REMEMBERED: Final = 40  # latencies of one tenant that ranks are compared with
CURRENT: Final = 15  # latest latencies of one tenant, that are compared with those before
MIN_RANKED: Final = 5  # of either, for a tenant to count
MAX_Z: Final = 4.0
UPPER: Final = 3.09  # standard deviations of the 99.9 % bound
SMOOTHED: Final = 0.3  # weight of one window in the EWMA
POOL_FACTOR: Final = 2.0
POOL_DELTA_S: Final = 0.05
MIN_VOLUME: Final = 5  # events in a window
MIN_HOSTS: Final = 3
MAX_SHARE: Final = 0.34  # of the cells that may be called slow at a time

Windows = Mapping[str, Sequence[tuple[str, float]]]  # cell → tenant and latency of each event


@dataclass(slots=True)
class _Usual:
    """One cell's mean log latency by windows: the mean of it, its variance, and the sum of what was too much."""

    windows: int = 0
    mean: float = 0.0
    variance: float = 0.0
    excess: float = 0.0


@dataclass(slots=True)
class Cusum:
    """Adds up how far each window's mean log latency lies over the usual, in standard deviations."""

    _cells: dict[str, _Usual] = field(default_factory=dict)

    def __call__(self, windows: Windows) -> set[str]:
        """Return the cells whose sum is over the limit."""
        found = set()
        for cell_id, seen in windows.items():
            usual = self._cells.setdefault(cell_id, _Usual())
            now = fmean(log(latency_s) for _, latency_s in seen)
            if usual.windows >= MIN_LEARNED:
                spread = max(MIN_SPREAD, sqrt(usual.variance))
                usual.excess = max(0.0, usual.excess + (now - usual.mean) / spread - SLACK)
                if usual.excess > DECISION and exp(now) - exp(usual.mean) > MIN_EXCESS_S:
                    found.add(cell_id)
            if not usual.excess or usual.windows < MIN_LEARNED:
                usual.windows += 1
                weight = max(1 / usual.windows, FORGETS)
                usual.variance += weight * ((1 - weight) * (now - usual.mean) ** 2 - usual.variance)
                usual.mean += weight * (now - usual.mean)
        return found


@dataclass(slots=True)
class UsualRanks:
    """Ranks the latest latencies of each tenant among its earlier ones, and puts the tenants of a cell together."""

    _before: dict[tuple[str, str], deque[float]] = field(default_factory=dict)
    _latest: dict[tuple[str, str], deque[float]] = field(default_factory=dict)

    def __call__(self, windows: Windows) -> set[str]:
        """Return the cells whose tenants rank higher than they did, by more than the other cells' do."""
        scores, excesses = {}, {}
        for cell_id, seen in windows.items():
            for key, latency_s in seen:
                self._see((cell_id, key), latency_s)
            keys = {(cell_id, key) for key, _ in seen}
            scores[cell_id], excesses[cell_id] = self._score(keys)
        found = set()
        for cell_id, own in scores.items():
            others = median([score for peer, score in scores.items() if peer != cell_id] or [0.0])
            if own - others > MAX_Z and excesses[cell_id] > MIN_EXCESS_S:
                found.add(cell_id)
        return found

    def _see(self, who: tuple[str, str], latency_s: float) -> None:
        latest = self._latest.setdefault(who, deque())
        latest.append(latency_s)
        if len(latest) > CURRENT:
            self._before.setdefault(who, deque(maxlen=REMEMBERED)).append(latest.popleft())

    def _score(self, keys: set[tuple[str, str]]) -> tuple[float, float]:
        scores, excesses = [], []
        for who in keys:
            before, latest = sorted(self._before.get(who, ())), self._latest[who]
            if min(len(before), len(latest)) >= MIN_RANKED:
                scores.append(_rank_score(before, latest))
                excesses.append(median(latest) - median(before))
        return (sum(scores) / sqrt(len(scores)), fmean(excesses)) if scores else (0.0, 0.0)


@dataclass(slots=True)
class ThroughputRegression:
    """Fits the latency of all cells to their throughput, and bounds it from above: what lies higher is slow."""

    _sums: list[float] = field(default_factory=lambda: [0.0] * 6)  # of 1, x, y, x², xy, y²

    def __call__(self, windows: Windows) -> set[str]:
        """Return the cells over the bound. They don't count for the fit, as outliers."""
        points = {
            cell_id: (log(len(seen)), log(fmean(latency_s for _, latency_s in seen)))
            for cell_id, seen in windows.items()
        }
        found = {cell_id for cell_id, (x, y) in points.items() if self._is_over(x, y)}
        for cell_id in points.keys() - found:
            x, y = points[cell_id]
            for index, value in enumerate((1.0, x, y, x * x, x * y, y * y)):
                self._sums[index] += value - FORGETS / len(points) * self._sums[index]
        return found

    def _is_over(self, x: float, y: float) -> bool:
        count, xs, ys, xxs, xys, yys = self._sums
        if count < MIN_LEARNED:
            return False
        across, along = xxs - xs * xs / count, xys - xs * ys / count
        slope = along / across if across > 1e-9 else 0.0
        fitted = ys / count + slope * (x - xs / count)
        spread = sqrt(max(0.0, (yys - ys * ys / count - slope * along) / count))
        return y > fitted + UPPER * max(MIN_SPREAD, spread) and exp(y) - exp(fitted) > MIN_EXCESS_S


@dataclass(slots=True)
class BoundedEwma:
    """Compares each cell's smoothed mean latency with the median of the pool; few events or hosts say nothing."""

    _means: dict[str, float] = field(default_factory=dict)

    def __call__(self, windows: Windows) -> set[str]:
        """Return the cells far over the pool, the worst ones if they are too many."""
        for cell_id, seen in windows.items():
            if len(seen) >= MIN_VOLUME:
                now = fmean(latency_s for _, latency_s in seen)
                self._means[cell_id] = now + (1 - SMOOTHED) * (self._means.get(cell_id, now) - now)
        pool = {cell_id: mean for cell_id, mean in self._means.items() if cell_id in windows}
        if len(pool) < MIN_HOSTS:
            return set()
        limit = POOL_FACTOR * median(pool.values()) + POOL_DELTA_S
        over = sorted((cell_id for cell_id, mean in pool.items() if mean > limit), key=lambda each: -pool[each])
        return set(over[: max(1, int(MAX_SHARE * len(pool)))])


def _rank_score(before: Sequence[float], latest: Sequence[float]) -> float:
    """Return how many standard errors the latest values rank above those before, which must be sorted."""
    few, many = len(latest), len(before)
    wins = sum((bisect_left(before, value) + bisect_right(before, value)) / 2 for value in latest)
    return (wins - few * many / 2) / sqrt(few * many * (few + many + 1) / 12)
