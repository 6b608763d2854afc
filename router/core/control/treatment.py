"""Which sick cells are treated now, and why the others are not: the ladder, the guards and people's orders. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from router.core.control.actions import Treat
from router.core.control.guards import why_guarded, why_not_for_slowness, why_renewed
from router.core.control.ladder import Circumstances, next_treatment
from router.core.control.observed import Desired, Observed
from router.core.control.records import ON_THE_LADDER
from router.core.control.releases import why_in_release
from router.core.control.scaling import scaling_decision
from router.core.detection.assessment import SICK, Assessment, Verdict
from router.core.models import CellRecord, Reason, Rung
from router.core.registry import Condition

WATCHED: Final = SICK | {Verdict.WATCHED}


def treatments(desired: Desired, observed: Observed) -> Iterator[Treat]:
    """Move each cell that is on the ladder to its next rung, and let at most one other cell get onto it."""
    cells = _cells(desired, observed)
    begun = False
    for record in sorted(cells, key=lambda record: (record.treatment.rung not in ON_THE_LADDER, record.cell_id)):
        treat = _one(desired, observed, record, cells)
        if treat is None or (
            begun and treat.treatment.rung in ON_THE_LADDER and record.treatment.rung not in ON_THE_LADDER
        ):
            continue
        begun = begun or treat.treatment.rung in ON_THE_LADDER
        yield treat


def conditions(desired: Desired, observed: Observed) -> dict[str, Condition]:
    """Tell, for people, how each cell is that something is measured of, and why nothing is done about it."""
    scaling = scaling_decision(desired, observed)
    return {
        cell_id: Condition(
            observed.now_ms,
            record.generation,
            health.assessment,
            why_untreated(desired, observed, record),
            f"generation {trial.twin}: {trial.result}" if (trial := observed.trials.get(cell_id)) else None,
            why_cushioned(desired, observed, record),
            scaling,
        )
        for cell_id, health in observed.health.items()
        if (record := observed.cells.get(cell_id)) is not None
    }


def why_untreated(desired: Desired, observed: Observed, record: CellRecord) -> Reason | None:
    """Say why nothing is done about this cell, or would not be if it were sick; None when nothing prevents it."""
    health = observed.health.get(record.cell_id)
    if why := why_left_to_people(observed, record) or observed.why_suspended:
        return why
    if health is None or health.assessment.verdict not in WATCHED:
        return None
    return _why_guarded(desired, observed, record, _cells(desired, observed), health.assessment)


def why_cushioned(desired: Desired, observed: Observed, record: CellRecord) -> Reason | None:
    """Say why the cell shall get no more at once than usual: it looks slow; None where it shall get all it can take.

    Not where its instance is not to blame or has to warm up, nor where many cells look slow at once.
    """
    health = observed.health.get(record.cell_id)
    if health is None or health.assessment.looks_slow is None or observed.many_look_slow:
        return None
    if record.treatment.rung is Rung.GIVEN_UP or observed.why_suspended or why_left_to_people(observed, record):
        return None
    others = [other for other in _cells(desired, observed) if other is not record]
    if why_not_for_slowness(record, others, observed.now_ms, desired.warm_up_s) is not None:
        return None
    return health.assessment.looks_slow


def why_left_to_people(observed: Observed, record: CellRecord) -> Reason | None:
    """Say why automation leaves this cell to a person; None when no person has decided anything about it."""
    policy = observed.policy
    if record.cell_id in policy.frozen:
        return "frozen by hand"
    if record.cell_id in policy.ejected:
        return "ejected by hand"
    if order := policy.order_for(record):
        return f"a person wants to {order} its instance"
    return None


def _cells(desired: Desired, observed: Observed) -> list[CellRecord]:
    return [observed.cells[cell_id] for cell_id in desired.cells if cell_id in observed.cells]


def _one(desired: Desired, observed: Observed, record: CellRecord, cells: Sequence[CellRecord]) -> Treat | None:
    health = observed.health.get(record.cell_id)
    if health is None or not record.generation:
        return None
    why_suspended = why_left_to_people(observed, record) or observed.why_suspended
    may_begin = health.assessment.verdict in SICK and why_suspended is None
    treatment = next_treatment(
        Circumstances(
            record=record,
            assessment=health.assessment,
            now_ms=observed.now_ms,
            well_ms=health.well_ms,
            why_suspended=why_suspended,
            why_guarded=_why_guarded(desired, observed, record, cells, health.assessment) if may_begin else None,
            can_launch=desired.can_launch,
        )
    )
    return Treat(record.cell_id, treatment) if treatment is not None else None


def _why_guarded(
    desired: Desired, observed: Observed, record: CellRecord, cells: Sequence[CellRecord], assessment: Assessment
) -> Reason | None:
    others = [other for other in cells if other is not record]
    assessments = {cell_id: health.assessment for cell_id, health in observed.health.items()}
    return (
        why_in_release(observed.policy, record)
        or why_renewed(assessment, assessments)
        or why_guarded(assessment, record, others, observed.now_ms, desired.warm_up_s, can_launch=desired.can_launch)
    )
