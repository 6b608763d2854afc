"""What is done about a sick cell, rung by rung. Pure: state, evidence and time in, the next state out.

    WELL ──► MENDING ──► RESTARTING ──► REPLACING ◄──► REPROVISIONING ──► GIVEN_UP
      ▲         components   instance       another       what is missing      somebody
      │         restarted    ends first     beside it     made anew            has to look
      └── recovered, or another generation has the traffic: from everywhere

A guard keeps a sick cell in GUARDED, before the first rung. Of an instance that answers, if slowly, the traffic stays
where it is until another is verified. RESTARTING leaves a gap, so it is only for what fails or hangs, and for where
nothing can be launched. What fails or hangs is ejected at once: its events wait, instead of failing. Each rung has its
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from router.core.detection.assessment import SICK, Assessment, Verdict
from router.core.models import NO_TREATMENT, CellRecord, Rung, Treatment

RUNG_MS: Final[Mapping[Rung, int]] = {
    Rung.MENDING: 10_000,  # a restarted component shows within two windows whether it helped
    Rung.RESTARTING: 20_000,  # a drain, and a start
    Rung.REPROVISIONING: 30_000,
    Rung.GIVEN_UP: 15 * 60_000,  # then it is tried again
}
RECOVERED_MS: Final = 10_000  # without any sign of sickness
LAUNCHES: Final = 3  # that fail, until what the cell is made of is looked at, and again until it is given up
AGAIN_MS: Final = 15 * 60_000  # sick again so soon after a replacement: it is not the instance

FOLLOWS: Final[Mapping[Rung, frozenset[Rung]]] = {
    Rung.WELL: frozenset({Rung.GUARDED, Rung.MENDING, Rung.GIVEN_UP}),
    Rung.GUARDED: frozenset({Rung.WELL, Rung.MENDING, Rung.GIVEN_UP}),
    Rung.MENDING: frozenset({Rung.WELL, Rung.GUARDED, Rung.RESTARTING, Rung.REPLACING}),
    Rung.RESTARTING: frozenset({Rung.WELL, Rung.GUARDED, Rung.REPLACING, Rung.GIVEN_UP}),
    Rung.REPLACING: frozenset({Rung.WELL, Rung.GUARDED, Rung.REPROVISIONING, Rung.GIVEN_UP}),
    Rung.REPROVISIONING: frozenset({Rung.WELL, Rung.GUARDED, Rung.REPLACING}),
    Rung.GIVEN_UP: frozenset({Rung.WELL, Rung.GUARDED, Rung.MENDING}),
}
ON_THE_LADDER: Final = frozenset({Rung.MENDING, Rung.RESTARTING, Rung.REPLACING, Rung.REPROVISIONING})


@dataclass(frozen=True, slots=True)
class Case:
    """One cell, all that bears on it."""

    record: CellRecord
    assessment: Assessment
    now_ms: int
    well_ms: int  # for how long nothing has been wrong with it
    frozen: str = ""  # why nothing may be done about any cell, or this one; empty when something may
    waits: str = ""  # why this one has to wait before the first rung
    can_launch: bool = True


def next_treatment(case: Case) -> Treatment | None:
    """The cell's next state; None for no change."""
    found = _next_treatment(case)
    before = case.record.treatment.rung
    assert found is None or found.rung is before or found.rung in FOLLOWS[before], f"{before} → {found}"
    return found


def _next_treatment(case: Case) -> Treatment | None:
    treatment = case.record.treatment
    if treatment.rung is not Rung.WELL and _is_over(case, treatment):
        return NO_TREATMENT
    sick = case.assessment.verdict in SICK
    if case.frozen:
        return _held(case, case.frozen, eject=False) if sick or treatment.rung in ON_THE_LADDER else None
    if not sick:
        return None
    if treatment.rung in (Rung.WELL, Rung.GUARDED):
        return _first(case)
    return _next(case, treatment)


def after_mending(record: CellRecord, now_ms: int, *, can_launch: bool) -> Treatment:
    """The rung after the first: what hangs or fails is restarted, what is slow is not, as long as another can come."""
    restart = record.treatment.verdict != Verdict.SLOW or not can_launch
    return replace(record.treatment, rung=Rung.RESTARTING if restart else Rung.REPLACING, since_ms=now_ms)


def after_restarting(record: CellRecord, now_ms: int, *, can_launch: bool) -> Treatment:
    """The rung after the second, when the instance can't even be asked to end."""
    return replace(record.treatment, rung=Rung.REPLACING if can_launch else Rung.GIVEN_UP, since_ms=now_ms)


def after_reprovisioning(record: CellRecord, now_ms: int) -> Treatment:
    """Back to where another instance is launched."""
    return replace(record.treatment, rung=Rung.REPLACING, since_ms=now_ms)


def admitted(record: CellRecord, generation: int, now_ms: int) -> CellRecord:
    """The record once a verified instance has the traffic."""
    replaced = record.treatment.rung in ON_THE_LADDER
    return replace(
        record,
        generation=generation,
        verified=generation,
        launching=0,
        launch_failures=0,
        canary_failures=0,
        candidate_failures=0,
        admitted_at_ms=now_ms,
        replaced_at_ms=now_ms if replaced else record.replaced_at_ms,
        treatment=NO_TREATMENT,
    )


def _is_over(case: Case, treatment: Treatment) -> bool:
    if case.record.generation != treatment.generation:
        return True
    if case.record.launching and treatment.rung is Rung.REPLACING:
        return False  # it comes anyway
    return case.assessment.verdict is Verdict.HEALTHY and case.well_ms >= RECOVERED_MS


def _first(case: Case) -> Treatment | None:
    if _is_again(case):
        minutes = (case.now_ms - case.record.replaced_at_ms) // 60_000
        return _begun(case, Rung.GIVEN_UP, f"{minutes} min after a replacement: it is not the instance")
    if case.waits:
        return _held(case, case.waits, eject=True)
    return _begun(case, Rung.MENDING, "")


def _next(case: Case, treatment: Treatment) -> Treatment | None:
    """What follows on a rung whose time is up."""
    since_ms = case.now_ms - treatment.since_ms
    if treatment.rung is Rung.REPLACING:
        return _other_way(case, treatment)
    if since_ms < RUNG_MS[treatment.rung]:
        return None
    match treatment.rung:
        case Rung.MENDING:
            return after_mending(case.record, case.now_ms, can_launch=case.can_launch)
        case Rung.RESTARTING if not case.can_launch:
            return _begun(case, Rung.GIVEN_UP, "nothing has come in its place")
        case Rung.GIVEN_UP:
            return _first(case)
        case _:
            return replace(treatment, rung=Rung.REPLACING, since_ms=case.now_ms)


def _other_way(case: Case, treatment: Treatment) -> Treatment | None:
    failures = case.record.launch_failures
    if failures >= 2 * LAUNCHES:
        return _begun(case, Rung.GIVEN_UP, f"{failures} launches in a row have failed")
    reprovisioned_at_ms = case.record.reprovisioned_at_ms
    reprovisioned = reprovisioned_at_ms and case.now_ms - reprovisioned_at_ms < AGAIN_MS
    if failures >= LAUNCHES and not reprovisioned:
        return replace(treatment, rung=Rung.REPROVISIONING, since_ms=case.now_ms)
    return None


def _is_again(case: Case) -> bool:
    replaced_at_ms = case.record.replaced_at_ms
    return bool(replaced_at_ms) and case.now_ms - replaced_at_ms < AGAIN_MS


def _begun(case: Case, rung: Rung, why: str) -> Treatment:
    assessment = case.assessment
    evidence = "; ".join(filter(None, [assessment.rule, why]))
    return Treatment(rung, case.now_ms, case.record.generation, assessment.verdict, evidence, ejected=_is_useless(case))


def _held(case: Case, why: str, *, eject: bool) -> Treatment | None:
    """Nothing is done. Only another guard, another verdict or an ejection is worth a record."""
    treatment = case.record.treatment
    held = replace(_begun(case, Rung.GUARDED, ""), why=why, ejected=eject and _is_useless(case))
    same = (treatment.rung, treatment.verdict, treatment.why, treatment.ejected) == (
        held.rung,
        held.verdict,
        held.why,
        held.ejected,
    )
    return None if same else held


def _is_useless(case: Case) -> bool:
    """Whether its events had better wait: what is slow still does them."""
    return case.assessment.verdict in (Verdict.FAILING, Verdict.HUNG)
