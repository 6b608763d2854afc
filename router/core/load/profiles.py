"""What a stress run sends, and when: phases of load, and each event's intended time and tenant. Pure.

The times depend on nothing that happens: it is an open loop. A closed one, which sends the next event when an earlier
one is done, sends less while the system is slow, and so leaves out the very events that would have waited.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final

RAMP_STEPS: Final = 8
SPIKE: Final = 5.0  # times the load before and after it
HOT_SHARE: Final = 0.5  # of all events, which one tenant sends in the middle
NOISY_TENANTS: Final = 0.02  # of all tenants
NOISE: Final = 20.0  # times the work of an event

Uniform = Callable[[], float]
"""Gives numbers from 0 to 1, 1 excluded: a seeded random generator, so that a run can be repeated."""


class Profile(StrEnum):
    """How the load goes."""

    STEADY = "steady"
    RAMP = "ramp"
    SPIKE = "spike"
    ONE_HOT_TENANT = "one-hot-tenant"
    NOISY_NEIGHBOURS = "noisy-neighbours"


@dataclass(frozen=True, slots=True)
class LoadPhase:
    """A part of a run, of which figures of their own are made."""

    name: str
    seconds: float
    rate: float  # events a second
    hot: float = 0.0  # the share of them that the first tenant sends, beside its own
    noisy: bool = False  # whether some tenants send events that take much more work


@dataclass(frozen=True, slots=True)
class Shot:
    """One event of a run: when it is meant to be sent, in seconds from the start, and by whom."""

    at_s: float
    phase: int
    tenant: int  # 0 is the busiest
    work: float  # times the usual work


def phases_of(profile: Profile, rate: float, seconds: float) -> tuple[LoadPhase, ...]:
    """Return the phases of a run whose highest load is `rate` events a second."""
    third = seconds / 3
    match profile:
        case Profile.STEADY:
            return (LoadPhase("steady", seconds, rate),)
        case Profile.RAMP:
            each = seconds / RAMP_STEPS
            return tuple(LoadPhase(f"step {n}", each, rate * n / RAMP_STEPS) for n in range(1, RAMP_STEPS + 1))
        case Profile.SPIKE:
            low = rate / SPIKE
            return (LoadPhase("before", third, low), LoadPhase("spike", third, rate), LoadPhase("after", third, low))
        case Profile.ONE_HOT_TENANT:
            return (
                LoadPhase("before", third, rate),
                LoadPhase("one hot tenant", third, rate, hot=HOT_SHARE),
                LoadPhase("after", third, rate),
            )
        case Profile.NOISY_NEIGHBOURS:
            return (
                LoadPhase("before", third, rate),
                LoadPhase("noisy neighbours", third, rate, noisy=True),
                LoadPhase("after", third, rate),
            )


class Zipf:
    """Chooses tenants, of which the n-th sends 1/n**exponent as much as the first; an exponent of 0 makes all alike."""

    def __init__(self, tenants: int, exponent: float) -> None:
        self._below: Sequence[float] = list(accumulate(n**-exponent for n in range(1, tenants + 1)))

    def __call__(self, uniform: Uniform) -> int:
        """Return a tenant's number, from 0."""
        found = bisect_left(self._below, uniform() * self._below[-1])
        return min(found, len(self._below) - 1)


def shots(phases: Sequence[LoadPhase], tenants: int, exponent: float, uniform: Uniform) -> Iterator[Shot]:
    """Yield each event in the order of its time. Arrivals are a Poisson process, as of many tenants apart."""
    choose, noisy, begins = Zipf(tenants, exponent), noisy_tenants(tenants), 0.0
    for number, phase in enumerate(phases):
        at_s = begins
        while True:
            at_s -= math.log(1 - uniform()) / phase.rate
            if at_s >= begins + phase.seconds:
                break
            tenant = 0 if phase.hot and uniform() < phase.hot else choose(uniform)
            yield Shot(at_s, number, tenant, NOISE if phase.noisy and tenant in noisy else 1.0)
        begins += phase.seconds


def noisy_tenants(tenants: int) -> frozenset[int]:
    """Return the tenants that are noisy where some are: neither the busiest nor the quietest, spread evenly."""
    count = max(1, round(tenants * NOISY_TENANTS))
    return frozenset((2 * n + 1) * tenants // (2 * count) for n in range(count))
