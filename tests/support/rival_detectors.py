"""Detectors that compare the latencies of cells, by rules in common use, to compare the real detector with.

They look at windows of 5 s. Against noise they have what the real one has: three windows in a row, and 50 ms at least.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, pstdev
from typing import Final

from tests.support.detector_world import Completion, SimulatedCell

WINDOW_S: Final = 5
IN_A_ROW: Final = 3
MIN_EXCESS_S: Final = 0.05
MAX_RATIO: Final = 2.0
MAX_SIGMA: Final = 1.9
MAX_MADS: Final = 3.5  # Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993)
MAD_TO_SIGMA: Final = 1.4826

Windows = Mapping[str, Sequence[float]]  # cell → latencies, sorted
Rule = Callable[[Windows], set[str]]


@dataclass(slots=True)
class Rival:
    """A detector that applies one rule to the latencies of all cells in each window."""

    rule: Rule
    _latencies: dict[str, list[float]] = field(default_factory=dict)
    _rows: Counter[str] = field(default_factory=Counter)
    _seconds: int = 0

    def learn(self, now: float, cells: Sequence[SimulatedCell], done: Mapping[str, Sequence[Completion]]) -> None:
        """Do nothing: these rules know nothing but the present window."""

    def second(self, now: float, cells: Sequence[SimulatedCell], done: Mapping[str, Sequence[Completion]]) -> set[str]:
        """Return the cells that this rule would evict now: those that broke it IN_A_ROW windows."""
        for cell_id, events in done.items():
            self._latencies.setdefault(cell_id, []).extend([latency_s for _, _, _, latency_s in events])
        self._seconds += 1
        if self._seconds % WINDOW_S:
            return set()
        windows = {cell_id: sorted(seen) for cell_id, seen in self._latencies.items() if seen}
        slow = self.rule(windows) if len(windows) > 1 else set()
        self._latencies.clear()
        self._rows = Counter({cell_id: self._rows[cell_id] + 1 for cell_id in slow})
        return {cell_id for cell_id, row in self._rows.items() if row >= IN_A_ROW}


def against_peers(figure: Callable[[Sequence[float]], float]) -> Rule:
    """Return a rule: a cell's figure must not be more than twice the median of the others' figures."""

    def rule(windows: Windows) -> set[str]:
        figures = {cell_id: figure(seen) for cell_id, seen in windows.items()}
        return {cell_id for cell_id, own in figures.items() if _far(own, MAX_RATIO * median(_others(figures, cell_id)))}

    return rule


def relative_mean(windows: Windows) -> set[str]:
    """Return the cells whose mean is more than twice the mean of the others' means."""
    figures = {cell_id: fmean(seen) for cell_id, seen in windows.items()}
    return {cell_id for cell_id, own in figures.items() if _far(own, MAX_RATIO * fmean(_others(figures, cell_id)))}


def mean_and_sigma(windows: Windows) -> set[str]:
    """Return the cells whose mean is more than 1.9 standard deviations over the mean of all cells."""
    figures = {cell_id: fmean(seen) for cell_id, seen in windows.items()}
    limit = fmean(figures.values()) + MAX_SIGMA * pstdev(figures.values())
    return {cell_id for cell_id, own in figures.items() if _far(own, limit)}


def median_deviation(windows: Windows) -> set[str]:
    """Return the cells whose median is more than 3.5 scaled median absolute deviations over that of all cells."""
    figures = {cell_id: quantile(0.5)(seen) for cell_id, seen in windows.items()}
    middle = median(figures.values())
    mad = median(abs(own - middle) for own in figures.values())
    limit = middle + MAX_MADS * MAD_TO_SIGMA * mad
    return {cell_id for cell_id, own in figures.items() if _far(own, limit)}


def quantile(share: float) -> Callable[[Sequence[float]], float]:
    """Return a function that finds this quantile of sorted values, by nearest rank."""
    return lambda ordered: ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _others(figures: Mapping[str, float], cell_id: str) -> list[float]:
    return [figure for peer_id, figure in figures.items() if peer_id != cell_id]


def _far(own: float, limit: float) -> bool:
    return own > limit and own - limit / MAX_RATIO > MIN_EXCESS_S


RULES: Final[Mapping[str, Rule]] = {
    "mean + 1.9 sigma": mean_and_sigma,
    "p95 of peers": against_peers(quantile(0.95)),
    "p50 of peers": against_peers(quantile(0.5)),
    "MAD of medians": median_deviation,
    "relative mean (D2)": relative_mean,
}
