"""A simulation of cells that become slow, to try detectors on. Time is virtual, and all draws are seeded.

Tenants are Zipf-distributed and hashed to cells; each has costs of its own, that drift. A cell has places, and a CPU
that does fewer things at once than it has places. In a full cell, all events slow each other. An event that finds no
place waits, tenants in turn; that time is not in its latency. When too many wait, more are shed.

What makes a cell slow is kept apart by who would have it too: the instance alone, any instance of the cell (what it is
asked to do, a dependency), or one vantage point (the path from one router, or from the leader). So the simulation knows
what a twin of the instance would show at the same moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import accumulate
from math import exp, log
from random import Random  # noqa: TID251 - seeded: the same world in every run
from typing import Final

from router.core.lanes.concurrency import SLOW_START
from router.core.slot_map.slots import SLOTS, slot_of
from tests.support.detector_costs import COSTS, CostModel

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
FAILING_PART: Final = 0.3  # share of an event's cost after which it fails, if it does
RETRANSMIT_S: Final = 0.2  # that a lost packet costs; twice as much when it is lost again
LEADER: Final = -1  # the vantage point of the controller that leads; routers count from 0


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
    log_s: float  # logarithm of the scale of its costs
    spread: float
    costs: CostModel
    drift: float = 0.0
    failing: bool = False  # whether its events fail
    idle: bool = False  # whether its events take no CPU: they wait for something else

    def mean_s(self) -> float:
        """Return the mean cost of its events, in seconds, without drift."""
        return exp(self.log_s) * self.costs.mean(self.spread)

    def cost_s(self, draw: Random) -> float:
        """Draw what its next event costs, in seconds."""
        return exp(self.log_s + self.drift) * self.costs.drawn(draw, self.spread)

    def is_dear(self, cost_s: float) -> bool:
        """Whether an event of this cost is of the dearest fifth of its tenant's."""
        return cost_s > exp(self.log_s + self.drift) * self.costs.dear(self.spread)


@dataclass(slots=True)
class Slowness:
    """How many times its usual time something takes, by what it does. A new one changes nothing."""

    everything: float = 1.0
    cpu: float = 1.0
    storage: float = 1.0  # calls to S3
    dear: float = 1.0  # the dearest fifth of each tenant's events
    canary: float = 1.0  # canaries alone
    component: float = 1.0  # the events of `keys` alone
    keys: frozenset[str] = frozenset()
    share: float = 0.0  # of events and canaries, whichever they are, that are hit
    hit: float = 1.0  # how many times as long those take
    hit_s: float = 0.0  # how many seconds longer those take

    def of_events(self, draw: Random, tenant: Tenant, cost_s: float) -> tuple[float, float]:
        """Return the factor for one event, and the seconds to add."""
        factor, late_s = self._struck(draw)
        if self.component != 1 and tenant.key in self.keys:
            factor *= self.component
        if self.dear != 1 and tenant.is_dear(cost_s):
            factor *= self.dear
        return factor, late_s

    def of_canaries(self, draw: Random) -> tuple[float, float]:
        """Return the factor for one canary, and the seconds to add. It is small, and uses no single component."""
        factor, late_s = self._struck(draw)
        return factor * self.canary, late_s

    def _struck(self, draw: Random) -> tuple[float, float]:
        if self.share and draw.random() < self.share:
            return self.everything * self.hit, self.hit_s
        return self.everything, 0.0


@dataclass(frozen=True, slots=True)
class Path:
    """The network between one vantage point and one cell, beyond what is usual."""

    delay_s: float = 0.0  # of an exchange
    loss: float = 0.0  # share of exchanges that lose a packet

    def late_s(self, draw: Random) -> float:
        """Draw how much longer an exchange takes on this path, in seconds."""
        late_s, wait_s = self.delay_s, RETRANSMIT_S
        while self.loss and draw.random() < self.loss:
            late_s, wait_s = late_s + wait_s, 2 * wait_s
        return late_s


USUAL_PATH: Final = Path()


@dataclass(frozen=True, slots=True)
class ColdStart:
    """How slow any new instance of a cell is until it is warm: its caches, its connections, its code."""

    times: float = 1.0  # as long as usual that everything takes, when it is coldest
    least_s: float = 0.0  # for which it is cold; each instance has its own time between these two
    most_s: float = 0.0
    after_s: float = 0.0  # before it gets cold: what it loads in the background begins so late
    sudden: bool = False  # it is as cold to the end, and then warm; else it warms little by little

    def drawn_s(self, draw: Random) -> float:
        """Draw for how many seconds an instance is cold; without a draw where none is."""
        return draw.uniform(self.least_s, self.most_s) if self.times != 1 else 0.0

    def times_at(self, age_s: float, cold_s: float) -> float:
        """Return how many times as long everything takes in an instance of this age, which is cold for `cold_s`."""
        passed_s = age_s - self.after_s
        if not 0 <= passed_s < cold_s:
            return 1.0
        return self.times if self.sudden else self.times ** (1 - passed_s / cold_s)


WARM: Final = ColdStart()
Waiting = tuple[float, int, float, Tenant]  # cost, router, when it was sent
Completion = tuple[float, int, str, float, bool]  # when, router, key, latency as the router sees it, answered well
Flight = tuple[float, int, str, float, bool, float]  # a completion to come, and the share of its time that is work


@dataclass(slots=True)
class SimulatedCell:
    """One cell: its instance, its tenants, and its events in flight and waiting."""

    cell_id: str
    tenants: list[Tenant]
    places: int
    random: Random  # of the events; canaries have their own, so that more of them don't change the events
    routers: int
    generation: int = 1
    down: bool = False
    demand: float = 1.0  # times as many events as usual
    instance: Slowness = field(default_factory=Slowness)  # what is wrong with the instance: a twin has none of it
    outside: Slowness = field(default_factory=Slowness)  # what any instance of the cell suffers from
    cold: ColdStart = WARM  # what each new instance of the cell is like
    paths: dict[int, Path] = field(default_factory=dict)  # by vantage point, where they are not as usual
    _cold_s: float = 0.0  # for how long this instance is cold
    _age_s: float = 0.0
    _coldness: float = 1.0  # how many times as long everything takes, since it is cold
    _in_flight: list[Flight] = field(default_factory=list)  # a heap
    _working: float = 0.0  # of these, those that work at a moment, and don't wait for something outside
    _waiting: dict[str, deque[Waiting]] = field(default_factory=dict)  # key → its waiting events; keys take turns
    _backlog: int = 0

    def load(self) -> float:
        """Return how many places its events occupy on average, while the cell is well."""
        return sum(tenant.rate * tenant.mean_s() for tenant in self.tenants)

    def replace(self) -> None:
        """Put another instance in the place of this one: what was wrong with the instance is gone."""
        self.generation += 1
        self.instance, self.down = Slowness(), False
        self.starts(self.cold)

    def starts(self, cold: ColdStart) -> None:
        """Say what each new instance of the cell is like; the present one has just started."""
        self.cold, self._age_s, self._cold_s = cold, 0.0, cold.drawn_s(self.random)

    def stop(self) -> None:
        """End the instance, and whatever it had in hand."""
        self.down = True
        self._in_flight, self._working, self._waiting, self._backlog = [], 0.0, {}, 0

    def canary_s(self, canary: Canary, vantage: int, draw: Random) -> float:
        """Return how many seconds a canary takes that is sent now from this vantage point."""
        return self._canary_s(canary, vantage, draw, self._causes(), self._crowd())

    def cushioned_canary_s(self, canary: Canary, vantage: int, draw: Random) -> float:
        """Return how many seconds it would take while all routers send the cell an eighth of its places at once."""
        return self._canary_s(canary, vantage, draw, self._causes(), self._cushioned_crowd())

    def twin_canary_s(self, canary: Canary, vantage: int, draw: Random, coldness: float = 1.0) -> float:
        """Return how many seconds it would take in a new instance of this cell, that has no events to work on."""
        return self._canary_s(canary, vantage, draw, self._causes_of_twin(coldness), 1.0)

    def rehearsed_s(self, draw: Random, coldness: float = 1.0) -> tuple[float, float, bool]:
        """Return what a copy of one of its events takes here and in a new instance, and whether it is a dear event."""
        tenant = draw.choices(self.tenants, [each.rate for each in self.tenants])[0]
        cost_s = tenant.cost_s(draw)
        own_s = self._rehearsal_s(tenant, cost_s, draw, self._causes(), self._cushioned_crowd())
        twin_s = self._rehearsal_s(tenant, cost_s, draw, self._causes_of_twin(coldness), 1.0)
        return own_s, twin_s, tenant.is_dear(cost_s)

    def until(self, now: float, span_s: float = 1.0) -> list[Completion]:
        """Run the `span_s` seconds that end at `now`; return the events that ended in them, in their order."""
        done: list[Completion] = []
        if self.down:
            return done
        self._age_s += span_s
        self._coldness = self.cold.times_at(self._age_s, self._cold_s)
        for at, tenant, cost_s, router in self._arrivals(now - span_s, span_s):
            self._finish(at, done)
            if len(self._in_flight) < self.places:
                self._begin(at, tenant, cost_s, router)
            elif self._backlog < WAITING:
                self._waiting.setdefault(tenant.key, deque()).append((cost_s, router, at, tenant))
                self._backlog += 1
        self._finish(now, done)
        return done

    def pending(self, router: int, now: float) -> tuple[float, int]:
        """Return the age of a router's oldest event that is in flight or waits, and of how many tenants there are."""
        sent = [(end - latency_s, key) for end, by, key, latency_s, _, _ in self._in_flight if by == router]
        sent += [(at, key) for key, turn in self._waiting.items() for _, by, at, _ in turn if by == router]
        return (now - min(sent)[0], len({key for _, key in sent})) if sent else (0.0, 0)

    def _causes(self) -> Sequence[Slowness]:
        return self.outside, self.instance, Slowness(everything=self._coldness)

    def _causes_of_twin(self, coldness: float) -> Sequence[Slowness]:
        return self.outside, Slowness(everything=coldness)

    def _rehearsal_s(
        self, tenant: Tenant, cost_s: float, draw: Random, causes: Sequence[Slowness], crowd: float
    ) -> float:
        late_s = 0.0
        for cause in causes:
            factor, later_s = cause.of_events(draw, tenant, cost_s)
            cost_s, late_s = cost_s * factor, late_s + later_s
        return cost_s * _stretch(causes, crowd) + late_s

    def _cushioned_crowd(self) -> float:
        return max(1.0, min(self._working, self.places / SLOW_START) * PLACES_TO_CPU / self.places)

    def _canary_s(self, canary: Canary, vantage: int, draw: Random, causes: Sequence[Slowness], crowd: float) -> float:
        factor, late_s = 1.0, self.paths.get(vantage, USUAL_PATH).late_s(draw)
        for cause in causes:
            more, later_s = cause.of_canaries(draw)
            factor, late_s = factor * more, late_s + later_s
        cost_s = canary.cost_s * exp(draw.gauss(0, CANARY_SPREAD))
        return cost_s * factor * _stretch(causes, crowd, storage=canary.real_path) + late_s

    def _crowd(self) -> float:
        """Return how many times its usual CPU time something takes because of what else the instance works on."""
        return max(1.0, self._working * PLACES_TO_CPU / self.places)

    def _arrivals(self, begin: float, span_s: float) -> Iterator[tuple[float, Tenant, float, int]]:
        draw, tenants = self.random, self.tenants
        sums = list(accumulate(tenant.rate for tenant in tenants))
        count = _poisson(draw, sums[-1] * self.demand * span_s) if sums else 0
        for tenant in tenants:
            tenant.drift += draw.gauss(-tenant.drift * span_s / DRIFT_S, DRIFT * (2 * span_s / DRIFT_S) ** 0.5)
        times = sorted([begin + span_s * draw.random() for _ in range(count)])
        chosen = draw.choices(tenants, cum_weights=sums, k=count) if count else ()
        for at, tenant in zip(times, chosen, strict=True):
            yield at, tenant, tenant.cost_s(draw), int(draw.random() * self.routers)

    def _begin(self, at: float, tenant: Tenant, cost_s: float, router: int) -> None:
        draw, crowd = self.random, self._crowd()
        factor, late_s = self.instance.of_events(draw, tenant, cost_s)
        factor *= self._coldness
        work_s = cost_s * factor * _stretch((self.instance,), crowd) + late_s
        more, later_s = self.outside.of_events(draw, tenant, cost_s)
        latency_s = cost_s * factor * more * _stretch((self.instance, self.outside), crowd) + late_s + later_s
        if tenant.failing:
            latency_s *= FAILING_PART
        end, share = at + latency_s, 0.0 if tenant.idle else min(1.0, work_s / latency_s)
        if self.paths:
            latency_s += self.paths.get(router, USUAL_PATH).late_s(draw)
        heappush(self._in_flight, (end, router, tenant.key, latency_s, not tenant.failing, share))
        self._working += share

    def _finish(self, now: float, done: list[Completion]) -> None:
        """End all events that are due; give each free place to the tenant whose turn it is."""
        in_flight = self._in_flight
        while in_flight and in_flight[0][0] <= now:
            end, by, key, latency_s, ok, share = heappop(in_flight)
            done.append((end, by, key, latency_s, ok))
            self._working = self._working - share if in_flight else 0.0
            if self._waiting:
                key = next(iter(self._waiting))
                turn = self._waiting.pop(key)
                cost_s, router, _, tenant = turn.popleft()
                self._backlog -= 1
                if turn:
                    self._waiting[key] = turn
                self._begin(end, tenant, cost_s, router)


@dataclass(slots=True)
class World:
    """All cells, and what else a trouble can change: the routers' reports, and who leads."""

    cells: list[SimulatedCell]
    routers: int
    draw: Random
    lost: dict[int, float] = field(default_factory=dict)  # router → share of its reports that are lost too
    leaders: int = 1  # so many there were up to now


def world_of(shape: Shape, draw: Random, costs: CostModel = COSTS[0]) -> World:
    """Return a world with nothing wrong in it. Its cells are shuffled: the first may be any of them."""
    count, zipf = TENANTS_A_CELL * shape.cells, draw.uniform(0.6, 1.1)
    weights = [1 / rank**zipf for rank in range(1, count + 1)]
    scale = shape.rate * shape.cells / sum(weights)
    owned: list[list[Tenant]] = [[] for _ in range(shape.cells)]
    for weight in weights:
        key = f"{draw.randrange(10**12):012d}"
        tenant = new_tenant(draw, key, weight * scale, costs)
        owned[slot_of(key) * shape.cells // SLOTS].append(tenant)
    cells = [new_cell(draw, f"cell-{index:04d}", tenants, 0, shape.routers) for index, tenants in enumerate(owned)]
    places = max(8, round(PLACES_TO_LOAD * max(cell.load() for cell in cells)))
    for cell in cells:
        cell.places = places
    draw.shuffle(cells)
    return World(cells, shape.routers, draw)


def new_cell(draw: Random, cell_id: str, tenants: list[Tenant], places: int, routers: int) -> SimulatedCell:
    """Return a cell with these tenants, with nothing wrong in it."""
    return SimulatedCell(cell_id, tenants, places, Random(draw.random()), routers)


def new_tenant(draw: Random, key: str, rate: float, costs: CostModel) -> Tenant:
    """Return a tenant with a mean cost and a spread of costs of its own."""
    log_s = log(TYPICAL_COST_S) + draw.gauss(0, TENANT_SPREAD)
    return Tenant(key, rate, log_s, draw.uniform(*EVENT_SPREAD), costs)


def _stretch(causes: Sequence[Slowness], crowd: float, *, storage: bool = True) -> float:
    """Return how many times its cost something takes whose CPU time and calls to S3 are slowed by all causes."""
    cpu, calls = CPU_PART * crowd, STORAGE_PART
    for cause in causes:
        cpu *= cause.cpu
        if storage:
            calls *= cause.storage
    return cpu + calls + 1 - CPU_PART - STORAGE_PART


def _poisson(draw: Random, mean: float) -> int:
    """Draw from a Poisson distribution; where the mean is large, from the normal one that is close to it."""
    if mean > 50:
        return max(0, round(draw.gauss(mean, mean**0.5)))
    limit, count, product = exp(-mean), 0, draw.random()
    while product > limit:
        count += 1
        product *= draw.random()
    return count
