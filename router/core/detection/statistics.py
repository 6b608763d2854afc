"""A mean that no single voice moves, and medians of all but one. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence


def capped_weights(weights: Sequence[float], most: float) -> list[float]:
    """Cut so that none is more than this share of all; equal, where there are too few for that."""
    rising, below, left = sorted(weights), 0.0, len(weights)
    cut = rising[0]
    for weight in rising:
        if weight > most * (below + weight * left):
            break
        cut, below, left = weight, below + weight, left - 1
    return [min(weight, cut) for weight in weights]


def interquartile_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """The mean of the middle half, by weight. The values are sorted."""
    quarter = sum(weights) / 4
    begin = found = 0.0
    for value, weight in zip(values, weights, strict=True):
        end = begin + weight
        found += value * max(0.0, min(end, 3 * quarter) - max(begin, quarter))
        begin = end
    return found / (2 * quarter)


class LeaveOneOutMedians:
    """Of some values: of all, or of all but one, without counting anew. `None` is no value."""

    def __init__(self, values: Iterable[float | None]) -> None:
        self._sorted = sorted(value for value in values if value is not None)

    def without(self, own: float | None) -> float | None:
        """The median of all but `own`, which is one of them or None; None when that leaves none."""
        left = len(self._sorted) - (own is not None)
        if not left:
            return None
        gap = bisect_left(self._sorted, own) if own is not None else left
        low, high = (left - 1) // 2, left // 2
        return (self._sorted[low + (low >= gap)] + self._sorted[high + (high >= gap)]) / 2
