"""Which sick cells get which treatment now: the ladder of `lifecycle`, held back by `guards` and by people. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from router.core.control.actions import Desired, Observed, Treat
from router.core.control.guards import waits
from router.core.control.ladder import ON_THE_LADDER, Case, next_treatment
from router.core.detection.assessment import SICK, Assessment, Verdict
from router.core.models import CellRecord

WATCHED: Final = SICK | {Verdict.WATCHED}


def treatments(desired: Desired, observed: Observed) -> Iterator[Treat]:
    """At most one cell gets on the ladder, and each that is on it goes on."""
    cells = [observed.cells[cell_id] for cell_id in desired.cells if cell_id in observed.cells]
    begun = False
    for record in sorted(cells, key=lambda record: (record.treatment.rung not in ON_THE_LADDER, record.cell_id)):
        treat = _one(desired, observed, record, cells)
        if treat is None or (
            begun and treat.treatment.rung in ON_THE_LADDER and record.treatment.rung not in ON_THE_LADDER
        ):
            continue
        begun = begun or treat.treatment.rung in ON_THE_LADDER
        yield treat


def frozen_by(observed: Observed) -> str:
    """In a word, what says that nothing may be done about any cell: blind, shared; empty when something may."""
    return "blind" if observed.blind else "shared" if observed.trouble else ""


def held_back(desired: Desired, observed: Observed, record: CellRecord) -> str:
    """What holds the controller back from doing anything about this cell; empty for nothing."""
    health = observed.health.get(record.cell_id)
    if why := by_hand(observed, record) or observed.trouble:
        return why
    if health is None or health.assessment.verdict not in WATCHED:
        return ""
    cells = [observed.cells[cell_id] for cell_id in desired.cells if cell_id in observed.cells]
    return _waits(desired, observed, record, cells, health.assessment)


def by_hand(observed: Observed, record: CellRecord) -> str:
    """Why this cell is left to a person; empty when it isn't."""
    policy = observed.policy
    if record.cell_id in policy.frozen:
        return "frozen by hand"
    if record.cell_id in policy.ejected:
        return "ejected by hand"
    if order := policy.order_for(record):
        return f"a person wants to {order} its instance"
    return ""


def _one(desired: Desired, observed: Observed, record: CellRecord, cells: list[CellRecord]) -> Treat | None:
    health = observed.health.get(record.cell_id)
    if health is None or not record.generation:
        return None
    frozen = by_hand(observed, record) or observed.trouble
    sick = health.assessment.verdict in SICK
    case = Case(
        record=record,
        assessment=health.assessment,
        now_ms=observed.now_ms,
        well_ms=health.well_ms,
        frozen=frozen,
        waits=_waits(desired, observed, record, cells, health.assessment) if sick and not frozen else "",
        can_launch=desired.can_launch,
    )
    treatment = next_treatment(case)
    if treatment is None:
        return None
    ejected = "ejected: " if treatment.ejected and not record.treatment.ejected else ""
    return Treat(record.cell_id, treatment, f"{ejected}{treatment.why}" or "nothing is wrong with it any more")


def _waits(desired: Desired, observed: Observed, record: CellRecord, cells: list[CellRecord], found: Assessment) -> str:
    others = [other for other in cells if other is not record]
    return waits(found, record, others, observed.now_ms, desired.warm_up_s)
