"""How one cell is, in one word for its colour and one sentence for people. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from router.core.detection.assessment import SICK, Verdict
from router.core.models import CellRecord, CellState, Reason, Rung
from router.core.views import CellView

LAUNCHES_FAILED: Final = 3  # in a row: from then on a person should look, though launches are tried again


class CellHealth(StrEnum):
    """How a cell is, from the worst to the best."""

    GIVEN_UP = "given up"  # a person has to look
    UNTREATED = "untreated"  # sick or down, and nothing is done about it
    TREATED = "treated"  # sick or down, and something is done about it
    BY_HAND = "by hand"  # a person keeps it as it is: frozen or ejected
    CHANGING = "changing"  # an order or a release is carried out; or it starts for the first time
    WATCHED = "watched"  # slower or busier than usual, and that is not held against it
    UNKNOWN = "unknown"  # nothing fresh is known of it
    WELL = "well"


BAD: Final = frozenset({CellHealth.GIVEN_UP, CellHealth.UNTREATED, CellHealth.TREATED})
_TREATMENTS: Final = frozenset({Rung.MENDING, Rung.RESTARTING, Rung.REPLACING, Rung.REPROVISIONING})


def judged(view: CellView, record: CellRecord) -> tuple[CellHealth, Reason | None]:
    """Say how a cell is, and why it is not well."""
    if view.rung is Rung.GIVEN_UP:
        return CellHealth.GIVEN_UP, view.why
    if view.rung in _TREATMENTS:
        return CellHealth.TREATED, f"{view.rung}: {view.why}"
    sick = view.verdict in SICK or view.rung is Rung.GUARDED
    if view.frozen or (view.ejected and not record.treatment.ejected):
        kept = "a person has frozen it" if view.frozen else "a person has ejected it: its events wait"
        return CellHealth.BY_HAND, f"{kept}; {view.verdict}: {view.rule}" if sick else kept
    if sick:
        return _sick(view, record)
    if view.state in (CellState.DOWN, CellState.STARTING):
        return _away(view, record)
    return _serving(view)


def _sick(view: CellView, record: CellRecord) -> tuple[CellHealth, Reason | None]:
    is_sick = view.verdict in SICK
    found = f"{view.verdict}: {view.rule}" if is_sick else f"was {record.treatment.verdict or 'sick'} a moment ago"
    if (kept := view.why_untreated or (view.why if view.rung is Rung.GUARDED else None)) is not None:
        return CellHealth.UNTREATED, f"{found}. Nothing is done: {kept}"
    return CellHealth.TREATED, found


def _away(view: CellView, record: CellRecord) -> tuple[CellHealth, Reason | None]:
    if record.launch_failures >= LAUNCHES_FAILED:
        why = record.why_launch_failed or "no reason is known"
        return CellHealth.UNTREATED, f"{record.launch_failures} launches in a row have failed, the last: {why}"
    if view.state is CellState.STARTING:
        return CellHealth.CHANGING, "starting: its first instance is on its way"
    on_its_way = f"generation {view.launching} is on its way" if view.launching else "the next is due"
    return CellHealth.TREATED, f"down: its instance does not serve; {on_its_way}"


def _serving(view: CellView) -> tuple[CellHealth, Reason | None]:
    if view.order is not None:
        return CellHealth.CHANGING, f"a person ordered: {view.order}"
    if view.launching:
        return CellHealth.CHANGING, f"generation {view.launching} starts beside generation {view.generation}"
    if view.verdict in (Verdict.WATCHED, Verdict.WORKLOAD):
        return CellHealth.WATCHED, f"{view.verdict}: {view.rule}"
    if said := (*view.slow_paths, *(each.said for each in view.observations)):
        return CellHealth.WATCHED, "; ".join(said)
    if not view.verdict:
        return CellHealth.UNKNOWN, "the leader has said nothing of it lately"
    return CellHealth.WELL, None
