"""Robust statistics of a few values: a mean that no single voice moves, and medians of all values but one.

Sources: P. J. Huber, E. M. Ronchetti, Robust Statistics (2nd ed., Wiley 2009), for trimmed means and the scaled median
absolute deviation; B. Efron, R. Tibshirani, An Introduction to the Bootstrap (Chapman & Hall 1993), chapter 11, for
leave-one-out values (the jackknife).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from math import exp
from typing import Final

MAD_TO_SIGMA: Final = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation, 1 / Φ⁻¹(3/4). F. R. Hampel, The
Influence Curve and Its Role in Robust Estimation (JASA 1974)."""
MEDIAN_ERROR: Final = 1.2533
"""Standard error of the median over that of the mean, √(π/2): 1.2533 standard deviations/√n, for n normal values.
M. G. Kendall, A. Stuart, The Advanced Theory of Statistics, volume 1."""
INTERQUARTILE_MEAN_ERROR: Final = 1.1
"""Standard error of the interquartile mean over that of the mean: √1.195 = 1.09 for normal values. D. F. Andrews et
al., Robust Estimates of Location (Princeton 1972), the 25 % trimmed mean."""


def agreed(values: Collection[float], at_least: int) -> float:
    """Return what most of the values reach, and `at_least` so many where there are as many; 0 where there is none.

    A majority vote, put as an order statistic: the largest value that more than half of them are not below.
    """
    rank = max(len(values) // 2 + 1, min(at_least, len(values)))
    return sorted(values, reverse=True)[rank - 1] if values else 0.0


def capped_weights(weights: Sequence[float], most: float) -> list[float]:
    """Cut the largest weights so that none is more than the share `most` of their sum.

    Where there are too few weights for that, all become equal. No weight grows. At least one weight is needed. Survey
    samplers call this weight trimming: F. J. Potter, A Study of Procedures to Identify and Trim Extreme Sampling
    Weights (ASA 1990).
    """
    if max(weights) <= most * sum(weights):
        return list(weights)
    rising, below, left = sorted(weights), 0.0, len(weights)
    cap = rising[0]
    for weight in rising:
        if weight > most * (below + weight * left):
            break
        cap, below, left = weight, below + weight, left - 1
    return [min(weight, cap) for weight in weights]


def excess_s(latency_s: float, shift: float) -> float:
    """Return how many seconds of a latency are too many, where it is exp(shift) times what it should be."""
    return latency_s * (1 - exp(-shift))


def interquartile_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """Return the weighted mean of the middle half of the values, which must be sorted.

    The 25 % trimmed mean, an L-estimator: J. W. Tukey, The Future of Data Analysis (1962). A quarter of the weight may
    be arbitrarily wrong without moving it far. A value across a quartile counts in proportion.
    """
    quarter = sum(weights) / 4
    begin = total = 0.0
    for value, weight in zip(values, weights, strict=True):
        end = begin + weight
        if end > quarter:
            total += value * (min(end, 3 * quarter) - max(begin, quarter))
        if end >= 3 * quarter:
            break
        begin = end
    return total / (2 * quarter)


class LeaveOneOutMedians:
    """The medians of all values but one, each found in logarithmic time after sorting once. None is no value."""

    def __init__(self, values: Iterable[float | None]) -> None:
        self._sorted = sorted(value for value in values if value is not None)

    def others(self, own: float | None) -> int:
        """Return how many values there are but `own`, which is one of them or None."""
        return len(self._sorted) - (own is not None)

    def without(self, own: float | None) -> float | None:
        """Return the median of all values but `own`, which is one of them or None; None when no value is left."""
        left = self.others(own)
        if not left:
            return None
        gap = bisect_left(self._sorted, own) if own is not None else left
        low, high = (left - 1) // 2, left // 2
        return (self._sorted[low + (low >= gap)] + self._sorted[high + (high >= gap)]) / 2
