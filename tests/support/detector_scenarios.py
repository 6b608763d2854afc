"""The scenarios that detectors are tried in: each a trouble, the worlds that it comes to, and which cells are sick.

MADE_FOR are those that the thresholds were chosen by. BEYOND were made afterwards, without a look at the rules: what
happens to healthy cells, and in how many ways an instance can be slow. RATIOS ask how slow it must be to be found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded: the same worlds in every run
from typing import Final

from tests.support import detector_healthy as healthy
from tests.support import detector_healthy_days as days
from tests.support import detector_sick as sick
from tests.support.detector_costs import COSTS, CostModel
from tests.support.detector_troubles import Trouble
from tests.support.detector_world import ColdStart, Shape, World

_SHAPES: Final = (
    *(Shape(5, 10), Shape(10, 5), Shape(3, 30), Shape(5, 30), Shape(2, 10), Shape(30, 2), Shape(5, 2), Shape(10, 20))
    * 4,
    *(Shape(3, 10, 1), Shape(10, 2, 3), Shape(5, 5, 3), Shape(2, 30, 1), Shape(8, 1, 3), Shape(3, 100, 3)) * 4,
    *(Shape(5, 100), Shape(2, 100), Shape(10, 50), Shape(2, 2, 1), Shape(2, 1), Shape(3, 1, 1)) * 2,
    *(Shape(5, 200, 3), Shape(30, 10, 3)),
)
SHAPES: Final = tuple(Random(0).sample(_SHAPES, len(_SHAPES)))
"""Runs take the shapes in turn. Large worlds are rarer: one run of a hundred has one of LARGEST."""
LARGEST: Final = (Shape(300, 1), Shape(2, 1000), Shape(30, 50, 3), Shape(5, 300, 3), Shape(100, 3, 3))
FIVE: Final = tuple(Shape(5, shape.rate, shape.routers) for shape in SHAPES if shape.rate <= 100)
LOW: Final = tuple(Shape(min(10, shape.cells), 2, shape.routers) for shape in SHAPES)
SMALL: Final = (Shape(5, 10), Shape(3, 10, 3), Shape(5, 5), Shape(2, 10), Shape(10, 2))
"""For what takes long: these can be simulated for half an hour."""
FEW: Final = (Shape(2, 10), Shape(3, 10), Shape(3, 30, 1), Shape(2, 30), Shape(2, 5), Shape(3, 5, 3))
"""For what happens when a cell has hardly any others to be compared with."""
ROUTERS: Final = (Shape(5, 10, 3), Shape(10, 5, 3), Shape(3, 30, 3), Shape(5, 30, 3), Shape(10, 20, 3), Shape(2, 10, 3))


@dataclass(frozen=True, slots=True)
class Scenario:
    """One trouble: in which worlds, for how many seconds, and how many cells are sick in it: the first ones."""

    trouble: Trouble
    slow: int = 0
    shapes: Sequence[Shape] = SHAPES
    seconds: int = 90
    costs: Sequence[CostModel] = COSTS
    prepare: Callable[[World], None] | None = None  # changes the world before anything is learned

    def shape(self, number: int) -> Shape:
        """Return how large the world of this run is."""
        if self.shapes is SHAPES and number % 100 == 99:
            return LARGEST[number // 100 % len(LARGEST)]
        return self.shapes[number % len(self.shapes)]


MADE_FOR: Final[Mapping[str, Scenario]] = {
    "healthy": Scenario(healthy.nothing, seconds=180),
    "slow x3": Scenario(sick.slow(3), slow=1, seconds=60),
    "heavy tenant": Scenario(healthy.costly, seconds=180),
    "saturating tenant": Scenario(healthy.flood, seconds=120),
    "creep x1 to x5": Scenario(sick.creep(5, 60), slow=1),
    "two slow of five": Scenario(sick.slow(3, 2), slow=2, shapes=FIVE, seconds=60),
    "all slow x5": Scenario(healthy.all_slower, seconds=60),
    "low traffic": Scenario(healthy.nothing, shapes=LOW, seconds=180),
    "low traffic, slow x3": Scenario(sick.slow(3), slow=1, shapes=LOW, seconds=60),
    "new tenants": Scenario(healthy.newcomers, seconds=180),
    "deploy warm-up": Scenario(healthy.warm_up),
    "S3 x10 in one cell": Scenario(sick.storage, slow=1, seconds=60),
}
BEYOND: Final[Mapping[str, Scenario]] = {
    # No instance is to blame
    "leader's path +100 ms": Scenario(healthy.path_of_the_leader),
    "one router's path +700 ms": Scenario(healthy.path_of_a_router, shapes=ROUTERS),
    "cold caches": Scenario(healthy.cold_caches),
    "dependency slows": Scenario(healthy.dependency_slows, seconds=120),
    "dependency recovers": Scenario(healthy.dependency_recovers, seconds=150),
    "a customer's release": Scenario(healthy.customers_release),
    "peers restart, host busy": Scenario(healthy.peers_restart, shapes=FEW),
    "30 s jobs": Scenario(healthy.long_jobs),
    "eight tenants fail": Scenario(healthy.failing_tenants),
    "deploy: all x2 in turn": Scenario(healthy.rolling_deploy, seconds=150),
    "3 % loss everywhere": Scenario(days.lossy_network),
    "leader's path loses": Scenario(days.lossy_path_of_the_leader),
    "garbage collections": Scenario(days.collections),
    "morning ramp": Scenario(days.morning_ramp, seconds=240),
    "hot cell, ramp x4": Scenario(days.hot_ramp),
    "growing payload": Scenario(days.growing_payload, seconds=150),
    "herd after a pause": Scenario(days.herd),
    "hold queue emptied": Scenario(days.emptied_hold_queue),
    "stalled look-ups": Scenario(days.stalled_lookups),
    "slow zone": Scenario(days.slow_zone),
    "a cell's own table x4": Scenario(days.own_shard),
    "its own table stalls": Scenario(days.own_shard_stalls),
    "late router": Scenario(days.late_router, shapes=ROUTERS),
    "clock of a router jumps": Scenario(days.clock_step, shapes=ROUTERS),
    "only canaries x4": Scenario(days.canaries_object),
    "reports lost": Scenario(days.lost_reports),
    "lone tenant x5": Scenario(days.lone_tenant, prepare=days.lone),
    "tenants move": Scenario(days.moving_tenants),
    "nightly jobs": Scenario(days.nightly_jobs, seconds=180),
    "a new cell": Scenario(days.healthy_newcomer(3, 30), seconds=120),
    "a new cell, cold caches": Scenario(days.healthy_newcomer(8, 60), seconds=120),
    "a new cell, cold": Scenario(days.cold_newcomer(ColdStart(4, 20, 55, sudden=True)), seconds=120),
    "a new cell warms slowly": Scenario(days.cold_newcomer(ColdStart(8, 40, 60)), seconds=120),
    "a new cell loads late": Scenario(days.cold_newcomer(ColdStart(4, 30, 40, 6, sudden=True)), seconds=120),
    "replacement, cold": Scenario(days.cold_replacement(ColdStart(4, 20, 55, sudden=True)), seconds=120),
    "new leaders": Scenario(days.new_leaders, seconds=100),
    "release, new leaders": Scenario(days.new_leader_in_trouble),
    "cold morning": Scenario(days.cold_morning, seconds=150),
    "dead webhook": Scenario(days.dead_webhook),
    "one tenant's retries": Scenario(days.retried_failures),
    "outage": Scenario(days.outage, seconds=60),
    "back-ups in turn": Scenario(days.backups, seconds=170),
    "long tail": Scenario(days.long_tail),
    # One is
    "a new cell x3": Scenario(sick.newcomer(3), slow=1, seconds=150),
    "a new cell x10": Scenario(sick.newcomer(10), slow=1, seconds=150),
    "a new cell x3, cold 3 s": Scenario(sick.newcomer(3, ColdStart(4, 2, 4)), slow=1, seconds=150),
    "replacement x3": Scenario(sick.bad_replacement, slow=1, seconds=120),
    "creep x5 in 20 min": Scenario(sick.creep(5, 1200), slow=1, shapes=SMALL, seconds=900),
    "creep x10 in 60 min": Scenario(sick.creep(10, 3600), slow=1, shapes=SMALL, seconds=1500),
    "x3, load doubles": Scenario(sick.under_load(0, 2), slow=1, seconds=60),
    "x3, load ramps x5": Scenario(sick.under_load(60, 5), slow=1, seconds=60),
    "dearest fifth x10": Scenario(sick.dear_events, slow=1),
    "component: 40 % x10": Scenario(sick.component, slow=1),
    "flapping x4": Scenario(sick.flapping, slow=1, seconds=180),
    "bad thread: 30 % x10": Scenario(sick.bad_thread, slow=1),
    "CPU throttled": Scenario(sick.throttled, slow=1),
    "interface loses 10 %": Scenario(sick.lossy_interface, slow=1),
    "noisy host, two cells": Scenario(sick.noisy_host, slow=2, shapes=tuple(s for s in SHAPES if 5 <= s.cells <= 10)),
    "leak": Scenario(sick.leak, slow=1, seconds=120),
    "stalls 2 s of 6 s": Scenario(sick.stalling, slow=1),
    "x3, all x1.4": Scenario(sick.in_a_slow_fleet, slow=1, seconds=60),
    "x3, new leader": Scenario(sick.before_a_new_leader, slow=1, seconds=60),
    "x3, a slow path": Scenario(sick.beside_a_slow_path, slow=1, shapes=ROUTERS, seconds=60),
    "x3, lone tenant": Scenario(sick.slow(3), slow=1, prepare=days.lone, seconds=60),
}
RATIOS: Final[Mapping[str, tuple[float, Scenario]]] = {
    f"slow x{ratio:g}": (ratio, Scenario(sick.slow(ratio), slow=1, seconds=60))
    for ratio in (1.5, 1.75, 2.0, 2.25, 2.5, 4.0, 5.0)
}
"""Beside "slow x3", to see what the smallest ratio is that is found."""
SCENARIOS: Final[Mapping[str, Scenario]] = {**MADE_FOR, **BEYOND, **{name: each for name, (_, each) in RATIOS.items()}}
