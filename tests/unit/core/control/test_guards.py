"""What the guards prevent, and what happens without them: on simulated cells, with the real detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.control.guards import BUDGET, BUDGET_MS, PEERS_S, why_blind, why_guarded, why_shared
from router.core.control.records import admitted, put_on_rung, twin_dismissed
from router.core.control.twins import AGAIN_MS, COMES_AND_GOES, NOT_THE_INSTANCE, comes_and_goes, why_no_trial
from router.core.detection.assessment import Assessment, Verdict
from router.core.models import NO_TREATMENT, CellRecord, Rung
from tests.support import detector_simulation
from tests.support.detector_healthy_days import cold_replacement
from tests.support.detector_scenarios import MADE_FOR, Scenario
from tests.support.detector_simulation import simulate
from tests.support.detector_troubles import Trouble
from tests.support.detector_world import ColdStart, Shape, World

SHAPES = (Shape(4, 20, 1), Shape(5, 5), Shape(3, 10))
RUNS = 2
LEFT_TO_A_TRIAL = "deploy warm-up"  # it is slow from its first moment on: a trial shows that any would be


def evicted(
    scenario: Scenario, runs: int = RUNS, *, after_trial: bool = False
) -> list[tuple[set[str], dict[str, float]]]:
    """For each run: the cells that are slow, and those that cellrouter calls so, with the seconds that it took.

    With `after_trial`, those that have lost their trial too.
    """
    shapes = tuple(shape for shape in SHAPES if shape.cells > 2 * scenario.slow)
    small = replace(scenario, shapes=shapes, seconds=min(scenario.seconds, 75))
    found = []
    for number in range(runs):
        slow, outcomes = simulate(small, number, f"test {number}")
        outcome = outcomes["cellrouter"]
        found.append((slow, dict(reversed(outcome.treated if after_trial else outcome.called))))
    return found


def no_reason(*_: Any, **__: Any) -> None:
    """A guard that lets every cell be treated."""


def half_slower(world: World) -> Iterator[None]:
    """Make half of the cells slow: what they share is in trouble, and has not reached the others yet."""
    for cell in world.cells[: (len(world.cells) + 1) // 2]:
        cell.outside.everything = 3
    yield


def assessments(verdicts: Sequence[Verdict], deviation: float | None = None) -> dict[str, Assessment]:
    """Assess as many cells as there are verdicts."""
    names = [f"cell-{number}" for number in range(len(verdicts))]
    named = zip(names, verdicts, strict=True)
    return {name: Assessment(name, verdict=verdict, deviation=deviation) for name, verdict in named}


@pytest.mark.parametrize("name", MADE_FOR)
def test_the_slow_cell_is_found_and_no_other_evicted(name: str) -> None:
    """A few small worlds of each scenario of the simulator; script/bench detector runs hundreds."""
    limit_s = 70.5 if "creep" in name else 20.5
    runs = 1 + bool(MADE_FOR[name].slow)
    for slow, found in evicted(MADE_FOR[name], runs, after_trial=name == LEFT_TO_A_TRIAL):
        assert found.keys() == slow
        assert all(0 < seconds <= limit_s for seconds in found.values())


@pytest.mark.parametrize(
    ("guard", "trouble"),
    [("why_shared", half_slower), ("why_guarded", cold_replacement(ColdStart(3, 30, 45, 8, sudden=True)))],
)
def test_without_a_guard_cells_are_evicted_that_should_not_be(
    monkeypatch: pytest.MonkeyPatch, guard: str, trouble: Trouble
) -> None:
    """With the guard none is: neither when half of the cells get slow at once, nor while an instance warms up.

    Where the cells' median moves as well, the detector itself waits until they have settled.
    """
    scenario = Scenario(trouble, seconds=60)
    assert [found for _, found in evicted(scenario)] == [{}] * RUNS
    monkeypatch.setattr(detector_simulation, guard, no_reason)
    assert any(found for _, found in evicted(scenario))


@pytest.mark.parametrize(
    ("lag_s", "late_routers", "why"),
    [
        (0.2, 0, None),
        (0.3, 0, "the controller's own event loop was 0.3 s late"),
        (0.0, 2, None),
        (0.0, 3, "the event loops of 3 of 4 routers are late"),
    ],
)
def test_what_late_event_loops_measure_is_not_trusted(lag_s: float, late_routers: int, why: str | None) -> None:
    """The controller's own loop counts, and those of more than half of the routers."""
    found = why_blind(lag_s, 0.2, late_routers, 4)
    assert (found is None) == (why is None)
    assert (found or "").startswith(why or "")


@given(st.lists(st.sampled_from(list(Verdict)), min_size=1, max_size=12))
def test_more_than_two_fifths_of_the_cells_do_not_fall_ill_each_by_itself(verdicts: list[Verdict]) -> None:
    """A single cell always may be ill by itself. A cell with a heavy tenant is not ill."""
    ill = sum(verdict not in (Verdict.HEALTHY, Verdict.WORKLOAD) for verdict in verdicts)
    assert bool(why_shared(assessments(verdicts))) == (ill > 1 and ill > 0.4 * len(verdicts))


@pytest.mark.parametrize(
    ("deviations", "shared"),
    [([2.0, 2.0, 0.0], True), ([2.0, 0.0, 0.0], False), ([2.0, 0.0], False), ([2.0, 2.0], True), ([2.0], False)],
)
def test_a_fleet_that_is_slow_as_a_whole_is_no_cells_fault(deviations: list[float], shared: bool) -> None:
    """More than half of the cells, at more than twice their usual latency; of two cells one alone is not a fleet."""
    found = {str(number): Assessment(str(number), deviation=deviation) for number, deviation in enumerate(deviations)}
    found["unknown"] = Assessment("unknown")
    assert bool(why_shared(found)) == shared


def ladder(record: CellRecord) -> CellRecord:
    """Turn the record into that of another cell, which is being replaced."""
    return replace(record, cell_id="other", treatment=replace(record.treatment, rung=Rung.REPLACING))


def lately(record: CellRecord) -> CellRecord:
    """Turn the record into that of another cell, which was replaced a moment ago."""
    return replace(record, cell_id="other", replaced_at_ms=BUDGET_MS)


RECORD = CellRecord("cell-0", 1, admitted_at_ms=1)
OTHER = CellRecord("other", 1, admitted_at_ms=1)


@pytest.mark.parametrize(
    ("others", "admitted_at_ms", "verdict", "why"),
    [
        ([OTHER], 1, Verdict.SLOW, None),
        ([], 1, Verdict.SLOW, "the only cell"),
        ([], 1, Verdict.HUNG, None),
        ([OTHER], BUDGET_MS, Verdict.SLOW, "its instance is new"),
        ([OTHER], BUDGET_MS, Verdict.FAILING, None),
        ([ladder(OTHER)], 1, Verdict.HUNG, "one at a time"),
        ([lately(OTHER)] * (BUDGET - 1), 1, Verdict.HUNG, None),
        ([lately(OTHER)] * BUDGET, 1, Verdict.HUNG, f"{BUDGET} replacements"),
    ],
)
def test_a_cell_waits_for_its_turn_its_warm_up_and_the_budget(
    others: list[CellRecord], admitted_at_ms: int, verdict: Verdict, why: str | None
) -> None:
    """A slow cell waits for more than one that fails or hangs."""
    found = why_guarded(
        Assessment("cell-0", verdict=verdict, lasted_s=PEERS_S),
        replace(RECORD, admitted_at_ms=admitted_at_ms),
        others,
        BUDGET_MS + 30_000,
        60.0,
        can_launch=True,
    )
    assert (found is None) == (why is None)
    assert (found or "").startswith(why or "")


@pytest.mark.parametrize(
    ("lasted_s", "slow_points", "can_launch", "guarded"),
    [(16.0, 2, True, False), (14.0, 2, True, True), (16.0, 1, True, True), (16.0, 2, False, True)],
    ids=["from its first moment", "since later", "one sees it", "no twin can be launched"],
)
def test_an_instance_that_is_slow_from_its_first_moment_stands_trial_before_it_had_time_to_warm_up(
    lasted_s: float, slow_points: int, *, can_launch: bool, guarded: bool
) -> None:
    """It is 20 s old; its twin will show whether it is cold. What its tenants see of it shows nothing."""
    found = Assessment(
        "cell-0", verdict=Verdict.SLOW, lasted_s=lasted_s, slow_points=slow_points, canary_points=3, shift=1.0
    )
    why = why_guarded(found, RECORD, [OTHER], RECORD.admitted_at_ms + 20_000, 60.0, can_launch=can_launch)
    assert (why is not None) is guarded
    assert why is None or why.startswith("its instance is new")


def test_a_cell_that_hangs_waits_for_what_the_others_show() -> None:
    """A cell without others has none to wait for."""
    found = Assessment("cell-0", verdict=Verdict.HUNG, lasted_s=1.0)
    assert "a dependency that they share" in (
        why_guarded(found, RECORD, [OTHER], BUDGET_MS, 60.0, can_launch=True) or ""
    )
    assert why_guarded(found, RECORD, [], BUDGET_MS, 60.0, can_launch=True) is None


NOW_MS = 10 * AGAIN_MS
TRIED = replace(RECORD, launching=2, launched=2, twin=2)


def test_a_cell_that_was_well_since_its_trial_gets_a_second_one_and_no_third() -> None:
    """It comes and goes: in the first one it may have been well. Then it waits as long as any other."""
    first = twin_dismissed(TRIED, 2, NOW_MS, "3 ms, its twin 3 ms").record
    assert why_no_trial(first, NOW_MS + 60_000) == NOT_THE_INSTANCE
    well = put_on_rung(first, NO_TREATMENT, NOW_MS + 30_000).record
    assert comes_and_goes(well, NOW_MS + 60_000)
    assert why_no_trial(well, NOW_MS + 60_000) is None
    second = twin_dismissed(well, 3, NOW_MS + 120_000, "3 ms, its twin 3 ms").record
    for again in (second, put_on_rung(second, NO_TREATMENT, NOW_MS + 150_000).record):
        assert why_no_trial(again, NOW_MS + 180_000) == COMES_AND_GOES
        assert why_no_trial(again, NOW_MS + 120_000 + AGAIN_MS) is None
        assert not comes_and_goes(again, NOW_MS + 120_000 + AGAIN_MS), "its next trial is a first one"


def test_a_trial_long_after_the_last_is_a_first_one() -> None:
    """What was tried hours ago counts for nothing, and neither does what another instance was tried for."""
    once = twin_dismissed(TRIED, 2, NOW_MS, "").record
    assert twin_dismissed(once, 3, NOW_MS + AGAIN_MS, "").record.trials == 1
    after = admitted(once, 2, "", NOW_MS).record
    assert (after.trials, after.tried_at_ms) == (0, 0)
