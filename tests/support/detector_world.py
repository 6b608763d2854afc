"""A simulation of cells that become slow, to try detectors on. Time is virtual, and all draws are seeded.

Tenants are Zipf-distributed and hashed to cells; each has costs of its own, lognormal, that drift. A cell has places,
and a CPU that does fewer things at once than it has places. In a full cell, all events slow each other. An event that
finds no place waits, tenants in turn; that time is not in its latency. When too many wait, more are shed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import accumulate
from math import exp, log
from random import Random  # noqa: TID251 - seeded: the same world in every run
from typing import Final

from router.core.slot_map.slots import SLOTS, slot_of

TENANTS_A_CELL: Final = 20
TYPICAL_COST_S: Final = 0.08
TENANT_SPREAD: Final = 0.6  # standard deviation of the tenants' mean log costs
EVENT_SPREAD: Final = (0.4, 0.9)  # standard deviation of one tenant's log costs: each draws its own in this range
CANARY_SPREAD: Final = 0.15  # standard deviation of the canaries' log costs
DRIFT: Final = 0.15  # standard deviation by which a tenant's mean log cost drifts, within DRIFT_S
DRIFT_S: Final = 60.0
PLACES_TO_LOAD: Final = 5.0  # places of every cell, to those that the hottest cell needs
PLACES_TO_CPU: Final = 4.0  # places of a cell, to the events that its CPU works on without slowing
CPU_PART: Final = 0.5  # share of an event's cost that is CPU time; the rest are calls to other services
STORAGE_PART: Final = 0.4  # share of an event's cost that is calls to S3
WAITING: Final = 50  # events that may wait for a place in a cell; more are shed


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a simulated world is."""

    cells: int
    rate: float  # events a second and cell
    routers: int = 2


@dataclass(frozen=True, slots=True)
class Canary:
    """What the canaries of the simulated handler are like."""

    cost_s: float
    real_path: bool  # whether it does all that events do, also calls to S3, or only writes to the store


@dataclass(slots=True)
class Tenant:
    """One tenant: how often it sends events, and what they cost."""

    key: str
    rate: float  # events a second
    log_s: float  # mean logarithm of its costs
    spread: float
    drift: float = 0.0

    def mean_s(self) -> float:
        """Return the mean cost of its events, in seconds, without drift."""
        return exp(self.log_s + self.spread**2 / 2)


Waiting = tuple[float, int]  # cost, router
Completion = tuple[float, int, str, float]  # when, router, key, latency


@dataclass(slots=True)
class SimulatedCell:
    """One cell: its instance, its tenants, and its events in flight and waiting."""

    cell_id: str
    tenants: list[Tenant]
    places: int
    random: Random
    routers: int
    slowness: float = 1.0  # factor on the time of everything the instance does
    storage: float = 1.0  # factor on the time of its calls to S3
    generation: int = 1
    _in_flight: list[Completion] = field(default_factory=list)  # a heap
    _waiting: dict[str, deque[Waiting]] = field(default_factory=dict)  # key → its waiting events; keys take turns
    _backlog: int = 0

    def load(self) -> float:
        """Return how many places its events occupy on average, while the cell is well."""
        return sum(tenant.rate * tenant.mean_s() for tenant in self.tenants)

    def stretch(self, *, storage: bool = True) -> float:
        """Return how many times its cost an event takes that begins now; `storage` says whether it calls S3."""
        crowd = max(1.0, len(self._in_flight) * PLACES_TO_CPU / self.places)
        calls = STORAGE_PART * self.storage if storage else STORAGE_PART
        return self.slowness * (CPU_PART * crowd + calls + 1 - CPU_PART - STORAGE_PART)

    def canary_s(self, canary: Canary) -> float:
        """Return how many seconds a canary takes now."""
        return canary.cost_s * exp(self.random.gauss(0, CANARY_SPREAD)) * self.stretch(storage=canary.real_path)

    def until(self, now: float, span_s: float = 1.0) -> list[Completion]:
        """Run the `span_s` seconds that end at `now`; return the events that ended in them, in their order."""
        done: list[Completion] = []
        for at, tenant, cost_s, router in self._arrivals(now - span_s, span_s):
            self._finish(at, done)
            if len(self._in_flight) < self.places:
                self._begin(at, tenant.key, cost_s, router)
            elif self._backlog < WAITING:
                self._waiting.setdefault(tenant.key, deque()).append((cost_s, router))
                self._backlog += 1
        self._finish(now, done)
        return done

    def _arrivals(self, begin: float, span_s: float) -> Iterator[tuple[float, Tenant, float, int]]:
        draw, tenants = self.random, self.tenants
        sums = list(accumulate(tenant.rate for tenant in tenants))
        count = _poisson(draw, sums[-1] * span_s) if sums else 0
        for tenant in tenants:
            tenant.drift += draw.gauss(-tenant.drift * span_s / DRIFT_S, DRIFT * (2 * span_s / DRIFT_S) ** 0.5)
        times = sorted([begin + span_s * draw.random() for _ in range(count)])
        chosen = draw.choices(tenants, cum_weights=sums, k=count) if count else ()
        for at, tenant in zip(times, chosen, strict=True):
            cost_s = exp(draw.gauss(tenant.log_s + tenant.drift, tenant.spread))
            yield at, tenant, cost_s, int(draw.random() * self.routers)

    def _begin(self, at: float, key: str, cost_s: float, router: int) -> None:
        latency_s = cost_s * self.stretch()
        heappush(self._in_flight, (at + latency_s, router, key, latency_s))

    def _finish(self, now: float, done: list[Completion]) -> None:
        """End all events that are due; give each free place to the tenant whose turn it is."""
        in_flight = self._in_flight
        while in_flight and in_flight[0][0] <= now:
            ended = heappop(in_flight)
            done.append(ended)
            if self._waiting:
                key = next(iter(self._waiting))
                turn = self._waiting.pop(key)
                cost_s, router = turn.popleft()
                self._backlog -= 1
                if turn:
                    self._waiting[key] = turn
                self._begin(ended[0], key, cost_s, router)


def cells_of(shape: Shape, draw: Random) -> list[SimulatedCell]:
    """Return the cells of a world with nothing wrong in it."""
    count, zipf = TENANTS_A_CELL * shape.cells, draw.uniform(0.6, 1.1)
    weights = [1 / rank**zipf for rank in range(1, count + 1)]
    scale = shape.rate * shape.cells / sum(weights)
    owned: list[list[Tenant]] = [[] for _ in range(shape.cells)]
    for weight in weights:
        key = f"{draw.randrange(10**12):012d}"
        tenant = new_tenant(draw, key, weight * scale)
        owned[slot_of(key) * shape.cells // SLOTS].append(tenant)
    cells = [
        SimulatedCell(f"cell-{index:04d}", tenants, 0, Random(draw.random()), shape.routers)
        for index, tenants in enumerate(owned)
    ]
    places = max(8, round(PLACES_TO_LOAD * max(cell.load() for cell in cells)))
    for cell in cells:
        cell.places = places
    return cells


def new_tenant(draw: Random, key: str, rate: float) -> Tenant:
    """Return a tenant with a mean cost and a spread of costs of its own."""
    return Tenant(key, rate, log(TYPICAL_COST_S) + draw.gauss(0, TENANT_SPREAD), draw.uniform(*EVENT_SPREAD))


def _poisson(draw: Random, mean: float) -> int:
    """Draw from a Poisson distribution; where the mean is large, from the normal one that is close to it."""
    if mean > 50:
        return max(0, round(draw.gauss(mean, mean**0.5)))
    limit, count, product = exp(-mean), 0, draw.random()
    while product > limit:
        count += 1
        product *= draw.random()
    return count
