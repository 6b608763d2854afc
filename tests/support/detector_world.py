"""Cells that get slow, simulated: who would find out, and who would throw out the wrong one. Virtual time, seeded.

Tenants are Zipf-distributed and hashed to cells; each has costs of its own, lognormal, that drift. A cell has places,
and a CPU that does fewer things at once than it has places: one that is full makes all wait for each other. What finds
no place waits in turns by tenant, outside of the latency, and is shed when too much waits.
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
TENANT_SPREAD: Final = 0.6  # of the tenants' mean logarithms
EVENT_SPREAD: Final = (0.4, 0.9)  # of one tenant's logarithms: each has its own
CANARY_SPREAD: Final = 0.15
DRIFT: Final = 0.15  # of a tenant's mean logarithm, over DRIFT_S
DRIFT_S: Final = 60.0
PLACES_TO_LOAD: Final = 5.0  # all cells declare the same: so much more than the hottest one needs
PLACES_TO_CPU: Final = 4.0
CPU_PART: Final = 0.5  # of an event's cost; the rest are calls to others, STORAGE_PART of it S3
STORAGE_PART: Final = 0.4
WAITING: Final = 50  # events for a cell; what is more is shed


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a world is."""

    cells: int
    rate: float  # events a second and cell
    routers: int = 2


@dataclass(frozen=True, slots=True)
class Canary:
    """An event of fixed cost."""

    cost_s: float
    real_path: bool  # it does what events do, S3 among it; otherwise only the store's write


@dataclass(slots=True)
class Tenant:
    """One key."""

    key: str
    rate: float  # events a second
    log_s: float  # mean logarithm of its costs
    spread: float
    drift: float = 0.0

    def mean_s(self) -> float:
        """Of its costs."""
        return exp(self.log_s + self.spread**2 / 2)


Waiting = tuple[float, int]  # cost, router
Completion = tuple[float, int, str, float]  # when, router, key, latency


@dataclass(slots=True)
class SimulatedCell:
    """One cell: its instance, its tenants, what it has in flight."""

    cell_id: str
    tenants: list[Tenant]
    places: int
    random: Random
    routers: int
    slowness: float = 1.0  # of all that the instance does
    storage: float = 1.0  # of its calls to S3
    generation: int = 1
    _flying: list[Completion] = field(default_factory=list)  # a heap
    _waiting: dict[str, deque[Waiting]] = field(default_factory=dict)  # by key, in turn
    _backlog: int = 0

    def load(self) -> float:
        """Places that it needs on average."""
        return sum(tenant.rate * tenant.mean_s() for tenant in self.tenants)

    def stretch(self, *, storage: bool = True) -> float:
        """How much longer than it costs an event takes that begins now. `storage`: it has to do with S3."""
        crowd = max(1.0, len(self._flying) * PLACES_TO_CPU / self.places)
        calls = STORAGE_PART * self.storage if storage else STORAGE_PART
        return self.slowness * (CPU_PART * crowd + calls + 1 - CPU_PART - STORAGE_PART)

    def canary_s(self, canary: Canary) -> float:
        """What one takes now."""
        return canary.cost_s * exp(self.random.gauss(0, CANARY_SPREAD)) * self.stretch(storage=canary.real_path)

    def until(self, now: float, span_s: float = 1.0) -> list[Completion]:
        """The events that it has done within so many seconds that end now, in their order."""
        done: list[Completion] = []
        for at, tenant, cost_s, router in self._arrivals(now - span_s, span_s):
            self._finish(at, done)
            if len(self._flying) < self.places:
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
        heappush(self._flying, (at + latency_s, router, key, latency_s))

    def _finish(self, now: float, done: list[Completion]) -> None:
        """All that ends until then; places that get free go to whoever's turn it is."""
        flying = self._flying
        while flying and flying[0][0] <= now:
            ended = heappop(flying)
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
    """A world with nothing wrong in it. Every cell has a tenant at least."""
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
    """One that has costs of its own."""
    return Tenant(key, rate, log(TYPICAL_COST_S) + draw.gauss(0, TENANT_SPREAD), draw.uniform(*EVENT_SPREAD))


def _poisson(draw: Random, mean: float) -> int:
    """How many arrive."""
    if mean > 50:
        return max(0, round(draw.gauss(mean, mean**0.5)))
    limit, count, product = exp(-mean), 0, draw.random()
    while product > limit:
        count += 1
        product *= draw.random()
    return count
