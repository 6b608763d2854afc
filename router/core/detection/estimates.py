"""How far each cell deviates from its baselines, how sure that is, and what the other cells show.

S = interquartile mean, over a cell's tenants, of: mean log latency - that tenant's baseline
D = S - leave-one-out median of the cells' S
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import median, median_low
from typing import Self

from router.core.detection.statistics import (
    INTERQUARTILE_MEAN_ERROR,
    MAD_TO_SIGMA,
    MEDIAN_ERROR,
    LeaveOneOutMedians,
    capped_weights,
    interquartile_mean,
)
from router.core.detection.thresholds import (
    MAX_RATIO,
    MIN_EVENT_SPREAD,
    MIN_LATENCY_S,
    MIN_OWN_RATIO,
    MIN_PEERS,
    MIN_TENANTS,
)
from router.core.detection.window import SampleWindow


@dataclass(frozen=True, slots=True)
class CellEstimate:
    """What one cell's window says of it, without a look at other cells."""

    deviation: float | None  # S; None: no tenant has a baseline
    tenants: int  # that S is of
    spread: float | None  # standard deviation of its tenants' log latencies, as its own events tell
    relative_error: float  # the standard error of S over the spread; infinite without tenants
    canaries: Mapping[str, float]  # vantage point → median latency of its canaries
    usual_s: float | None  # what its canary usually takes; None: not known yet

    @classmethod
    def of(cls, window: SampleWindow, canaries: Mapping[str, float], usual_s: float | None) -> Self:
        """Estimate from all samples in the window. No tenant weighs more than one of MIN_TENANTS equals would.

        The spread is the scaled median absolute deviation (MAD) of the tenants' means, each multiplied by the root of
        its number of events: of single events, then.
        """
        return cls(*window.once(_of_tenants), canaries, usual_s)

    @property
    def known(self) -> bool:
        """Whether there are enough tenants for S to tell about the cell and not about them."""
        return self.deviation is not None and self.tenants >= MIN_TENANTS

    @property
    def canary_s(self) -> float | None:
        """The median latency of its canaries in seconds, as the vantage point in the middle finds it."""
        return median_low(self.canaries.values()) if self.canaries else None


def _of_tenants(found: Sequence[tuple[float, float]]) -> tuple[float | None, int, float | None, float]:
    """Return a cell's deviation, the number of its tenants, their spread, and the relative error of the deviation."""
    if not found:
        return None, 0, None, inf
    weights = capped_weights([events for _, events in found], 1 / MIN_TENANTS)
    middle = interquartile_mean([deviation for deviation, _ in found], weights)
    spread = MAD_TO_SIGMA * median([abs(deviation - middle) * sqrt(events) for deviation, events in found])
    variance = sum(weight * weight / events for weight, (_, events) in zip(weights, found, strict=True))
    error = INTERQUARTILE_MEAN_ERROR * sqrt(variance) / sum(weights)
    return middle, len(found), spread, error


class PeerEstimates:
    """All cells' estimates, put together once: what its peers show is then looked up for each cell."""

    def __init__(self, estimates: Collection[CellEstimate]) -> None:
        known = [each for each in estimates if each.known]
        self._cells, self._known = len(estimates), len(known)
        self._known_deviations = LeaveOneOutMedians(each.deviation for each in known)
        self._relative_errors = LeaveOneOutMedians(each.relative_error for each in known)
        self._deviations = LeaveOneOutMedians(each.deviation for each in estimates)
        points = {vantage for each in estimates for vantage in each.canaries}
        self._canaries = {
            vantage: LeaveOneOutMedians(each.canaries.get(vantage) for each in estimates) for vantage in points
        }
        self._usual = LeaveOneOutMedians(each.usual_s for each in estimates)
        spreads = [MIN_EVENT_SPREAD, *(each.spread for each in estimates if each.spread is not None)]
        self.spread = max(median(spreads), MIN_EVENT_SPREAD)  # the median of all cells'

    @property
    def peers(self) -> int:
        """The number of peers that each cell has."""
        return self._cells - 1

    def standing(self, own: CellEstimate) -> float:
        """Return how many times the peers' the cell's canary usually takes; 1 where that is not known."""
        if not own.usual_s or self._usual.others(own.usual_s) < MIN_PEERS:
            return 1.0
        return own.usual_s / max(self._usual.without(own.usual_s) or 0.0, MIN_LATENCY_S)

    def reference_s(self, own: CellEstimate, vantage: str, standing: float) -> float | None:
        """Return what the cell's canary should take by one vantage point, in seconds; None: nobody knows.

        That is what the peers' take there now, times the cell's standing. Peers that have got faster don't make it
        slow: it must itself take MIN_OWN_RATIO times as long as usual. With fewer than MIN_PEERS peers, the cell's own
        usual time counts where it is longer, and alone without any.
        """
        own_s, usual_s, canaries = own.canaries[vantage], own.usual_s or 0.0, self._canaries[vantage]
        peers_s = canaries.without(own_s)
        if peers_s is None:
            return None if self.peers else own.usual_s
        if canaries.others(own_s) < MIN_PEERS:
            return max(peers_s, usual_s)
        return max(peers_s * standing, usual_s * MIN_OWN_RATIO / MAX_RATIO)

    def deviation(self, own: CellEstimate) -> tuple[float | None, float]:
        """Return the median of the peers' S, and its standard error over the spread.

        With fewer than MIN_PEERS peers whose S is known, a cell is compared with its own baseline too: peers that have
        got faster don't count. None: nothing is known of the peers, though there are enough.
        """
        known = self._known - own.known
        if known >= MIN_PEERS:
            middle = self._known_deviations.without(own.deviation if own.known else None)
            error = self._relative_errors.without(own.relative_error if own.known else None) or 0.0
            return middle, MEDIAN_ERROR * error / sqrt(known)
        if (some := self._deviations.without(own.deviation)) is not None:
            return max(0.0, some), 0.0
        return (0.0 if self.peers < MIN_PEERS else None), 0.0
