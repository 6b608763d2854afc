"""Which cells are cushioned: those that look slow, unless it can't be their instances, or others look so as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from router.core.control.observed import Desired, Health, Observed
from router.core.control.treatment import conditions
from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.minutes.observation import Observation, Pattern
from router.core.models import CellRecord, Rung, Treatment, cell_ids
from router.core.policy import NO_POLICY
from router.core.registry import FIGURES_EACH_TIME, Condition, worth_telling

CELL, *OTHERS = IDS = cell_ids(5)
NOW_MS = 10_000_000
WHY = "its last 40 events took 3.0 times as long as usual"
RECORDS = {cell_id: CellRecord(cell_id, generation=1, admitted_at_ms=1) for cell_id in IDS}


def seen(*slow: str) -> Observed:
    """Return five cells that serve, some of which look slow."""
    looks = {cell_id: Assessment(cell_id, looks_slow=WHY if cell_id in slow else None) for cell_id in IDS}
    health = {cell_id: Health(each, 0) for cell_id, each in looks.items()}
    return Observed(NOW_MS, RECORDS, (), (), None, True, health=health)


def cushioned(observed: Observed) -> set[str]:
    """Return the cells that shall be cushioned."""
    found = conditions(Desired(tuple(observed.cells), can_launch=True), observed)
    return {cell_id for cell_id, condition in found.items() if condition.cushion == WHY}


def with_record(**changes: object) -> Callable[[Observed], Observed]:
    """Return what changes the record of the cell that looks slow."""
    record = replace(RECORDS[CELL], **changes)  # type: ignore[arg-type] # fields of a record
    return lambda observed: replace(observed, cells=RECORDS | {CELL: record})


def test_cells_that_look_slow_are_cushioned_one_by_one_and_not_all_together() -> None:
    """More than 40 % of them share the cause."""
    assert cushioned(seen()) == set()
    assert cushioned(seen(CELL)) == {CELL}
    assert cushioned(seen(CELL, *OTHERS[:1])) == {CELL, OTHERS[0]}
    assert cushioned(seen(CELL, *OTHERS[:2])) == set()


@pytest.mark.parametrize(
    "change",
    [
        lambda observed: replace(observed, policy=NO_POLICY.with_frozen(CELL, frozen=True)),
        lambda observed: replace(observed, why_blind="late"),
        lambda observed: replace(observed, cells={CELL: RECORDS[CELL]}, health={CELL: observed.health[CELL]}),
        with_record(admitted_at_ms=NOW_MS - 1000),
        with_record(tried_at_ms=NOW_MS - 1000),
        with_record(treatment=Treatment(Rung.GIVEN_UP)),
    ],
    ids=["frozen", "blind", "alone", "warming up", "its twin was no faster", "given up"],
)
def test_a_cell_is_not_cushioned_where_it_would_do_harm_or_no_good(change: Callable[[Observed], Observed]) -> None:
    """Its instance is not to blame, or nothing is known, or a person has it in hand."""
    assert cushioned(change(seen(CELL))) == set()


def test_the_leader_writes_what_is_new_of_a_cell_and_figures_in_turns() -> None:
    """Of 1000 cells 50 a second: all of them are said anew within 20 s."""
    ids = cell_ids(20 * FIGURES_EACH_TIME)
    told = {cell_id: Condition(1, 1, Assessment(cell_id)) for cell_id in ids}
    now = {cell_id: Condition(2, 1, Assessment(cell_id, latency_s=0.1)) for cell_id in ids}
    assert worth_telling({}, now, 0) == now
    turns = [set(worth_telling(told, now, turn)) for turn in range(20)]
    assert {len(turn) for turn in turns} == {FIGURES_EACH_TIME}
    assert set.union(*turns) == set(ids)
    new = [
        Condition(2, 1, Assessment(CELL, Verdict.SLOW)),
        Condition(2, 2, Assessment(CELL)),
        Condition(2, 1, Assessment(CELL, slow_paths=("a path",))),
        Condition(2, 1, Assessment(CELL, observations=(Observation(Pattern.STALLS, "it stalls"),))),
        Condition(2, 1, Assessment(CELL), why_untreated="frozen by hand"),
        Condition(2, 1, Assessment(CELL), trial="open"),
        Condition(2, 1, Assessment(CELL), cushion=WHY),
    ]
    for condition in new:
        assert CELL in worth_telling(told, now | {CELL: condition}, 1)
        assert CELL in worth_telling(told | {CELL: condition}, now, 1)
    few = dict(list(now.items())[:FIGURES_EACH_TIME])
    assert worth_telling(told, few, 1) == few
