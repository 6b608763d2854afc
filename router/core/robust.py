"""A mean that no single voice moves. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def evened(weights: Sequence[float], most: float) -> list[float]:
    """Cut so that none is more than this share of all; equal, where there are too few for that."""
    rising, below, left = sorted(weights), 0.0, len(weights)
    cut = rising[0]
    for weight in rising:
        if weight > most * (below + weight * left):
            break
        cut, below, left = weight, below + weight, left - 1
    return [min(weight, cut) for weight in weights]


def middle_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """The mean of the middle half, by weight. The values are sorted."""
    quarter = sum(weights) / 4
    begin = found = 0.0
    for value, weight in zip(values, weights, strict=True):
        end = begin + weight
        found += value * max(0.0, min(end, 3 * quarter) - max(begin, quarter))
        begin = end
    return found / (2 * quarter)
