"""What the events of a simulated tenant cost: the shapes that costs take, each with its mean and its dearest fifth.

A tenant has a median cost of its own; a model says how its single events vary around it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp
from random import Random  # noqa: TID251 - seeded by whoever draws
from typing import Final

MOST: Final = 100.0  # times its tenant's scale that an event of a Pareto distribution costs at most
PARETO: Final = 1.8  # the shape: means are finite, variances are not


@dataclass(frozen=True, slots=True)
class CostModel:
    """How the costs of one tenant's events vary; all three take the tenant's spread and return a factor."""

    name: str
    drawn: Callable[[Random, float], float]
    mean: Callable[[float], float]
    dear: Callable[[float], float]  # a fifth of the events cost more than this


def _bimodal(draw: Random, spread: float) -> float:
    return exp(draw.gauss(0, 0.3)) * (15 if draw.random() < 0.1 else 1)


def _pareto(draw: Random, spread: float) -> float:
    return min(MOST, 0.6 * draw.paretovariate(PARETO))


def _payload(draw: Random, spread: float) -> float:
    return 0.4 + 0.6 * exp(draw.gauss(0, 2 * spread))


COSTS: Final = (
    CostModel(
        "lognormal",
        lambda draw, spread: exp(draw.gauss(0, spread)),
        lambda spread: exp(spread**2 / 2),
        lambda spread: exp(0.84 * spread),
    ),
    CostModel("bimodal: one in ten is 15 times as dear", _bimodal, lambda _: 2.5, lambda _: 1.4),
    CostModel("Pareto", _pareto, lambda _: 0.6 * PARETO / (PARETO - 1), lambda _: 0.6 * 5 ** (1 / PARETO)),
    CostModel(
        "by payload size",
        _payload,
        lambda spread: 0.4 + 0.6 * exp(2 * spread**2),
        lambda spread: 0.4 + 0.6 * exp(1.68 * spread),
    ),
    CostModel("all alike", lambda draw, _: draw.uniform(0.95, 1.05), lambda _: 1.0, lambda _: 1.03),
)
