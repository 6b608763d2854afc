"""A cell that looks slow at a glance is told in three seconds: enough to send it less at once, and no verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log
from random import Random  # noqa: TID251 - seeded

import pytest
from msgspec.structs import replace

from router.core.detection.assessment import Verdict
from router.core.detection.samples import CellSample
from router.core.detection.thresholds import WINDOW_S
from tests.support.detector_costs import COSTS
from tests.support.detector_healthy import nothing
from tests.support.detector_scenarios import Scenario
from tests.support.detector_sick import slow
from tests.support.detector_simulation import ASSESS_S, CANARY, QUIET_S, Contestant, Done, RealDetector, simulate
from tests.support.detector_troubles import Trouble
from tests.support.detector_world import Shape, World
from tests.support.sampled_cells import CANARY_S, LATENCY_S, VICTIM, Fleet

SHAPES = (Shape(3, 10), Shape(5, 10), Shape(2, 30), Shape(5, 5, 3), Shape(3, 20, 3))
SEEDS = 20


@dataclass(slots=True)
class Looking(RealDetector):
    """The real detector, and when it found which cells to look slow."""

    looked: dict[str, list[float]] = field(default_factory=dict)  # cell → seconds since the trouble began

    def second(self, now: float, world: World, done: Done) -> dict[str, Verdict]:
        called = RealDetector.second(self, now, world, done)
        for cell_id, each in self._found.items():
            if each.looks_slow is not None:
                self.looked.setdefault(cell_id, []).append(now + ASSESS_S - QUIET_S)
        return dict(called)


def played(trouble: Trouble, seconds: int, number: int) -> tuple[set[str], dict[str, list[float]]]:
    """Return which cells are sick in a run, and when each cell looked slow."""
    found: list[Looking] = []

    def contestants_of(_: int, draw: Random) -> dict[str, Contestant]:
        found.append(Looking(draw, CANARY))
        return {"cellrouter": found[0]}

    scenario = Scenario(trouble, slow=int(trouble is not nothing), shapes=SHAPES, seconds=seconds, costs=COSTS)
    sick, _ = simulate(scenario, number, f"glance {number}", contestants_of)
    return sick, found[0].looked


def test_a_cell_that_is_three_times_as_slow_looks_so_within_three_seconds() -> None:
    """In 95 % of runs at least, of all models of cost; a verdict takes 13 s."""
    late = []
    for number in range(SEEDS):
        sick, looked = played(slow(3), 4, number)
        first = min((at for cell_id in sick for at in looked.get(cell_id, ()) if at > 0), default=99.0)
        late += [(number, first)] if first > 3 else []
    assert len(late) <= SEEDS // 20, late


def test_a_healthy_cell_looks_slow_for_a_hundredth_of_the_time_at_most() -> None:
    """Chance alone, of events whose costs vary by far."""
    seconds = cells = 0
    for number in range(SEEDS // 2):
        _, looked = played(nothing, 20, number)
        seconds += sum(map(len, looked.values()))
        cells += SHAPES[number % len(SHAPES)].cells
    assert seconds <= 0.01 * cells * (QUIET_S + 20)


def test_a_cell_that_looks_slow_is_called_nothing_and_looks_well_again_at_once() -> None:
    """Its tenants tell; its canaries are as ever."""
    fleet = Fleet(tenants=33)
    fleet.seconds(90)
    fleet.log_factor[VICTIM] = log(3)
    found = [fleet.seconds(1) for _ in range(3)]
    assert [each.verdict for each in found] == [Verdict.HEALTHY] * 3
    assert found[-1].looks_slow == "its last 66 events took 3.0 times as long as usual"
    fleet.log_factor[VICTIM] = 0.0
    assert fleet.seconds(2).looks_slow is None


@pytest.mark.parametrize(("points", "looks_slow"), [(1, False), (2, True), (3, True)])
def test_canaries_tell_where_there_are_few_events(points: int, *, looks_slow: bool) -> None:
    """Two vantage points at least, and most of them: one alone has a slow path."""
    fleet, idle = Fleet(routers=2), CellSample(1)
    fleet.seconds(90, cell_0=idle)
    for vantage in ("leader", "router-0", "router-1")[:points]:
        fleet.path_s[vantage, VICTIM] = 2 * CANARY_S
    found = fleet.seconds(2, cell_0=idle)
    assert (found.looks_slow is not None) is looks_slow
    assert (found.glance.points, found.glance.slow_points) == (3, points)


def test_a_glance_counts_for_one_window() -> None:
    """What is slow for the events' mean, and not for the cell's tenants, is no slow cell: the rules say so by then."""
    fleet = Fleet()
    fleet.seconds(90)
    few_dear = replace(fleet.sample(VICTIM), log_s=10 * log(3 * LATENCY_S), deviation=log(3))
    looked = [fleet.seconds(1, cell_0=few_dear).looks_slow is not None for _ in range(int(WINDOW_S) + 5)]
    first = looked.index(True)
    assert first < 2
    assert looked[first:] == [True] * int(WINDOW_S) + [False] * (5 - first)
    assert fleet.seconds(3).looks_slow is None
    assert fleet.seconds(3, cell_0=few_dear).looks_slow is not None


def test_a_cell_that_gets_far_more_than_usual_does_not_look_slow() -> None:
    """It has more to do, and must not get less of it."""
    fleet = Fleet(tenants=33)
    fleet.seconds(90)
    rush = CellSample(1, 70, 70, 70 * log(3 * LATENCY_S), busy_s=21.0, deviation=log(3))
    assert fleet.seconds(1, cell_0=rush).looks_slow is None
    usual = CellSample(1, 40, 40, 40 * log(3 * LATENCY_S), busy_s=12.0, deviation=log(3))
    assert fleet.seconds(3, cell_0=usual).looks_slow is not None
