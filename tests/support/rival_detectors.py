"""Detectors that compare the latencies of cells, by rules in common use, to compare the real detector with.

They look at windows of 5 s. Against noise they have what the real one has: three windows in a row, and 50 ms at least.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, pstdev
from typing import Final

from router.core.detection.assessment import Verdict
from tests.support.detector_world import Completion, World
from tests.support.rivals_with_memory import BoundedEwma, Cusum, ThroughputRegression, UsualRanks, Windows

WINDOW_S: Final = 5
IN_A_ROW: Final = 3
MIN_EXCESS_S: Final = 0.05
MAX_RATIO: Final = 2.0
MAX_SIGMA: Final = 1.9
MAX_MADS: Final = 3.5  # Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993)
MAD_TO_SIGMA: Final = 1.4826

Sorted = Mapping[str, Sequence[float]]  # cell → latencies, sorted
Rule = Callable[[Windows], set[str]]
"""Says which cells it calls slow by a window of all cells; it may remember the windows that it saw before."""


@dataclass(slots=True)
class Rival:
    """A detector that applies one rule to what all cells answered in each window."""

    rule: Rule
    _seen: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    _rows: Counter[str] = field(default_factory=Counter)
    _seconds: int = 0

    def learn(self, now: float, world: World, done: Mapping[str, Sequence[Completion]]) -> None:
        """Show the rule a window without trouble."""
        self._see(done)
        self._judge()

    def second(self, now: float, world: World, done: Mapping[str, Sequence[Completion]]) -> Mapping[str, Verdict]:
        """Return the cells that this rule would evict now: those that broke it IN_A_ROW windows."""
        self._see(done)
        self._seconds += 1
        if self._seconds % WINDOW_S:
            return {}
        self._rows = Counter({cell_id: self._rows[cell_id] + 1 for cell_id in self._judge()})
        return {cell_id: Verdict.SLOW for cell_id, row in self._rows.items() if row >= IN_A_ROW}

    def _see(self, done: Mapping[str, Sequence[Completion]]) -> None:
        for cell_id, events in done.items():
            self._seen.setdefault(cell_id, []).extend([(key, latency_s) for _, _, key, latency_s, ok in events if ok])

    def _judge(self) -> set[str]:
        windows = {cell_id: seen for cell_id, seen in self._seen.items() if seen}
        self._seen = {}
        return self.rule(windows) if len(windows) > 1 else set()


def of_latencies(rule: Callable[[Sorted], set[str]]) -> Rule:
    """Return the rule that sees nothing of a window but the latencies, sorted."""
    return lambda windows: rule(
        {cell_id: sorted(latency_s for _, latency_s in seen) for cell_id, seen in windows.items()}
    )


def against_peers(figure: Callable[[Sequence[float]], float]) -> Callable[[Sorted], set[str]]:
    """Return a rule: a cell's figure must not be more than twice the median of the others' figures."""

    def rule(windows: Sorted) -> set[str]:
        figures = {cell_id: figure(seen) for cell_id, seen in windows.items()}
        return {cell_id for cell_id, own in figures.items() if _far(own, MAX_RATIO * median(_others(figures, cell_id)))}

    return rule


def relative_mean(windows: Sorted) -> set[str]:
    """Return the cells whose mean is more than twice the mean of the others' means."""
    figures = {cell_id: fmean(seen) for cell_id, seen in windows.items()}
    return {cell_id for cell_id, own in figures.items() if _far(own, MAX_RATIO * fmean(_others(figures, cell_id)))}


def mean_and_sigma(windows: Sorted) -> set[str]:
    """Return the cells whose mean is more than 1.9 standard deviations over the mean of all cells."""
    figures = {cell_id: fmean(seen) for cell_id, seen in windows.items()}
    limit = fmean(figures.values()) + MAX_SIGMA * pstdev(figures.values())
    return {cell_id for cell_id, own in figures.items() if _far(own, limit)}


def median_deviation(windows: Sorted) -> set[str]:
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


RULES: Final[Mapping[str, Callable[[], Rule]]] = {
    "mean + 1.9 sigma": lambda: of_latencies(mean_and_sigma),
    "p95 of peers": lambda: of_latencies(against_peers(quantile(0.95))),
    "p50 of peers": lambda: of_latencies(against_peers(quantile(0.5))),
    "MAD of medians": lambda: of_latencies(median_deviation),
    "relative mean (D2)": lambda: of_latencies(relative_mean),
    "CUSUM": Cusum,
    "Mann-Whitney of tenants": UsualRanks,
    "latency on throughput": ThroughputRegression,
    "EWMA, with guards": BoundedEwma,
}
"""Makes the rules anew, by name, since some of them have a memory."""
