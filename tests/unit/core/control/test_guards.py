"""What holds the controller back, and what happens where it doesn't: on simulated cells, with the real detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random  # noqa: TID251 - seeded
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.control.guards import BUDGET, BUDGET_MS, shared_trouble, waits
from router.core.detection.assessment import Assessment, Verdict
from router.core.models import CellRecord, Rung
from tests.support import detector_simulation
from tests.support.detector_scenarios import SCENARIOS, Change, Scenario
from tests.support.detector_simulation import simulate
from tests.support.detector_world import Shape, SimulatedCell

SHAPES = (Shape(3, 10), Shape(5, 5), Shape(4, 20, 1))
RUNS = 2


def evicted(scenario: Scenario, runs: int = RUNS) -> list[tuple[set[str], dict[str, float]]]:
    """By run: the cells that are slow, and those that ours evicts, with the seconds that it took."""
    shapes = tuple(shape for shape in SHAPES if shape.cells > 2 * scenario.slow)
    small = replace(scenario, shapes=shapes, seconds=min(scenario.seconds, 75))
    found = []
    for number in range(runs):
        slow, evictions = simulate(small, number, f"test {number}")
        found.append((slow, dict(reversed(evictions["cellrouter"]))))
    return found


def nothing(*_: Any) -> str:
    """A guard that holds nobody back."""
    return ""


def half_slower(cells: Sequence[SimulatedCell], at: float, draw: Random) -> None:
    """Half of the cells: what they share is in trouble, the others come later."""
    for cell in cells[: (len(cells) + 1) // 2]:
        cell.slowness = 3


def assessments(verdicts: Sequence[Verdict], off: float | None = None) -> dict[str, Assessment]:
    """Of so many cells."""
    names = [f"cell-{number}" for number in range(len(verdicts))]
    return {name: Assessment(name, verdict=verdict, off=off) for name, verdict in zip(names, verdicts, strict=True)}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_slow_cell_is_found_and_no_other_evicted(name: str) -> None:
    """A few small worlds of each scenario of the simulator; script/bench detector runs hundreds."""
    limit_s = 70.5 if "creep" in name else 20.5
    for slow, found in evicted(SCENARIOS[name], runs=1 + bool(SCENARIOS[name].slow)):
        assert found.keys() == slow
        assert all(0 < seconds <= limit_s for seconds in found.values())


@pytest.mark.parametrize(
    ("guard", "change"),
    [("shared_trouble", half_slower), ("waits", SCENARIOS["deploy warm-up"].change)],
)
def test_without_a_guard_cells_are_evicted_that_should_not_be(
    monkeypatch: pytest.MonkeyPatch, guard: str, change: Change
) -> None:
    """With it, none is: where half of the cells get slow at once, and where an instance is still warming up."""
    scenario = Scenario(change)
    assert [found for _, found in evicted(scenario)] == [{}] * RUNS
    monkeypatch.setattr(detector_simulation, guard, nothing)
    assert all(found for _, found in evicted(scenario))


@given(st.lists(st.sampled_from(list(Verdict)), min_size=1, max_size=12))
def test_more_than_two_fifths_of_the_cells_do_not_fall_ill_each_by_itself(verdicts: list[Verdict]) -> None:
    """One always may. A cell with a heavy tenant is not ill."""
    ill = sum(verdict not in (Verdict.HEALTHY, Verdict.WORKLOAD) for verdict in verdicts)
    assert bool(shared_trouble(assessments(verdicts))) == (ill > 1 and ill > 0.4 * len(verdicts))


@pytest.mark.parametrize(
    ("offs", "shared"),
    [([2.0, 2.0, 0.0], True), ([2.0, 0.0, 0.0], False), ([2.0, 0.0], False), ([2.0, 2.0], True), ([2.0], False)],
)
def test_a_fleet_that_is_slow_as_a_whole_is_no_cells_fault(offs: list[float], shared: bool) -> None:
    """More than half of the cells, at more than twice their usual latency; of two cells one alone is not a fleet."""
    found = {str(number): Assessment(str(number), off=off) for number, off in enumerate(offs)}
    found["unknown"] = Assessment("unknown")
    assert bool(shared_trouble(found)) == shared


def ladder(record: CellRecord) -> CellRecord:
    """Another cell, being replaced."""
    return replace(record, cell_id="other", treatment=replace(record.treatment, rung=Rung.REPLACING))


def lately(record: CellRecord) -> CellRecord:
    """Another cell, replaced a moment ago."""
    return replace(record, cell_id="other", replaced_at_ms=BUDGET_MS)


RECORD = CellRecord("cell-0", 1, admitted_at_ms=1)
OTHER = CellRecord("other", 1, admitted_at_ms=1)


@pytest.mark.parametrize(
    ("others", "admitted_at_ms", "verdict", "why"),
    [
        ([OTHER], 1, Verdict.SLOW, ""),
        ([], 1, Verdict.SLOW, "the only cell"),
        ([], 1, Verdict.HUNG, ""),
        ([OTHER], BUDGET_MS, Verdict.SLOW, "its instance is new"),
        ([OTHER], BUDGET_MS, Verdict.FAILING, ""),
        ([ladder(OTHER)], 1, Verdict.HUNG, "one at a time"),
        ([lately(OTHER)] * (BUDGET - 1), 1, Verdict.HUNG, ""),
        ([lately(OTHER)] * BUDGET, 1, Verdict.HUNG, f"{BUDGET} replacements"),
    ],
)
def test_a_cell_waits_for_its_turn_its_warm_up_and_the_budget(
    others: list[CellRecord], admitted_at_ms: int, verdict: Verdict, why: str
) -> None:
    """What only slowness waits for, neither failures nor silence do."""
    found = waits(
        Assessment("cell-0", verdict=verdict),
        replace(RECORD, admitted_at_ms=admitted_at_ms),
        others,
        BUDGET_MS + 30_000,
        60.0,
    )
    assert found.startswith(why)
    assert bool(found) == bool(why)
