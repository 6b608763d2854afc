"""What is done about a sick cell, rung by rung. Pure: state, evidence and time in, the next state out.

    WELL ──► MENDING ──► RESTARTING ──► REPLACING ◄──► REPROVISIONING ──► GIVEN_UP
      ▲         components   instance       another       what is missing      somebody
      │         restarted    ends first     beside it     made anew            has to look
      └── recovered, or another generation has the traffic: from everywhere

A guard keeps a sick cell in HELD before the first rung. Of an instance that answers, if slowly, the traffic stays where
it is until another is verified: RESTARTING, which leaves a gap, is only for what fails or hangs, and where nothing can
be launched. What fails or hangs is ejected at once: its events wait, instead of failing. Each rung has its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from router.core.detection.assessment import SICK, Assessment, Verdict
from router.core.models import NO_CARE, Care, CellRecord, Phase

RUNG_MS: Final[Mapping[Phase, int]] = {
    Phase.MENDING: 10_000,  # a restarted component shows within two windows whether it helped
    Phase.RESTARTING: 20_000,  # a drain, and a start
    Phase.REPROVISIONING: 30_000,
    Phase.GIVEN_UP: 15 * 60_000,  # then it is tried again
}
RECOVERED_MS: Final = 10_000  # without any sign of sickness
LAUNCHES: Final = 3  # that fail, until what the cell is made of is looked at, and again until it is given up
AGAIN_MS: Final = 15 * 60_000  # sick again so soon after a replacement: it is not the instance

FOLLOWS: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.WELL: frozenset({Phase.HELD, Phase.MENDING, Phase.GIVEN_UP}),
    Phase.HELD: frozenset({Phase.WELL, Phase.MENDING, Phase.GIVEN_UP}),
    Phase.MENDING: frozenset({Phase.WELL, Phase.HELD, Phase.RESTARTING, Phase.REPLACING}),
    Phase.RESTARTING: frozenset({Phase.WELL, Phase.HELD, Phase.REPLACING, Phase.GIVEN_UP}),
    Phase.REPLACING: frozenset({Phase.WELL, Phase.HELD, Phase.REPROVISIONING, Phase.GIVEN_UP}),
    Phase.REPROVISIONING: frozenset({Phase.WELL, Phase.HELD, Phase.REPLACING}),
    Phase.GIVEN_UP: frozenset({Phase.WELL, Phase.HELD, Phase.MENDING}),
}
ON_THE_LADDER: Final = frozenset({Phase.MENDING, Phase.RESTARTING, Phase.REPLACING, Phase.REPROVISIONING})


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


def next_care(case: Case) -> Care | None:
    """The cell's next state; None for no change."""
    found = _next_care(case)
    before = case.record.care.phase
    assert found is None or found.phase is before or found.phase in FOLLOWS[before], f"{before} → {found}"
    return found


def _next_care(case: Case) -> Care | None:
    care = case.record.care
    if care.phase is not Phase.WELL and _is_over(case, care):
        return NO_CARE
    sick = case.assessment.verdict in SICK
    if case.frozen:
        return _held(case, case.frozen, eject=False) if sick or care.phase in ON_THE_LADDER else None
    if not sick:
        return None
    if care.phase in (Phase.WELL, Phase.HELD):
        return _first(case)
    return _next(case, care)


def after_mending(record: CellRecord, now_ms: int, *, can_launch: bool) -> Care:
    """The rung after the first: what hangs or fails is restarted, what is slow is not, as long as another can come."""
    restart = record.care.verdict != Verdict.SLOW or not can_launch
    return replace(record.care, phase=Phase.RESTARTING if restart else Phase.REPLACING, since_ms=now_ms)


def after_restarting(record: CellRecord, now_ms: int, *, can_launch: bool) -> Care:
    """The rung after the second, when the instance can't even be asked to end."""
    return replace(record.care, phase=Phase.REPLACING if can_launch else Phase.GIVEN_UP, since_ms=now_ms)


def after_reprovisioning(record: CellRecord, now_ms: int) -> Care:
    """Back to where another instance is launched."""
    return replace(record.care, phase=Phase.REPLACING, since_ms=now_ms)


def admitted(record: CellRecord, generation: int, now_ms: int) -> CellRecord:
    """The record once a verified instance has the traffic."""
    replaced = record.care.phase in ON_THE_LADDER
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
        care=NO_CARE,
    )


def _is_over(case: Case, care: Care) -> bool:
    if case.record.generation != care.generation:
        return True
    if case.record.launching and care.phase is Phase.REPLACING:
        return False  # it comes anyway
    return case.assessment.verdict is Verdict.HEALTHY and case.well_ms >= RECOVERED_MS


def _first(case: Case) -> Care | None:
    if _is_again(case):
        minutes = (case.now_ms - case.record.replaced_at_ms) // 60_000
        return _begun(case, Phase.GIVEN_UP, f"{minutes} min after a replacement: it is not the instance")
    if case.waits:
        return _held(case, case.waits, eject=True)
    return _begun(case, Phase.MENDING, "")


def _next(case: Case, care: Care) -> Care | None:
    """What follows on a rung whose time is up."""
    since_ms = case.now_ms - care.since_ms
    if care.phase is Phase.REPLACING:
        return _other_way(case, care)
    if since_ms < RUNG_MS[care.phase]:
        return None
    match care.phase:
        case Phase.MENDING:
            return after_mending(case.record, case.now_ms, can_launch=case.can_launch)
        case Phase.RESTARTING if not case.can_launch:
            return _begun(case, Phase.GIVEN_UP, "nothing has come in its place")
        case Phase.GIVEN_UP:
            return _first(case)
        case _:
            return replace(care, phase=Phase.REPLACING, since_ms=case.now_ms)


def _other_way(case: Case, care: Care) -> Care | None:
    failures = case.record.launch_failures
    if failures >= 2 * LAUNCHES:
        return _begun(case, Phase.GIVEN_UP, f"{failures} launches in a row have failed")
    reprovisioned_at_ms = case.record.reprovisioned_at_ms
    reprovisioned = reprovisioned_at_ms and case.now_ms - reprovisioned_at_ms < AGAIN_MS
    if failures >= LAUNCHES and not reprovisioned:
        return replace(care, phase=Phase.REPROVISIONING, since_ms=case.now_ms)
    return None


def _is_again(case: Case) -> bool:
    replaced_at_ms = case.record.replaced_at_ms
    return bool(replaced_at_ms) and case.now_ms - replaced_at_ms < AGAIN_MS


def _begun(case: Case, phase: Phase, why: str) -> Care:
    assessment = case.assessment
    evidence = "; ".join(filter(None, [assessment.rule, why]))
    return Care(phase, case.now_ms, case.record.generation, assessment.verdict, evidence, ejected=_is_useless(case))


def _held(case: Case, why: str, *, eject: bool) -> Care | None:
    """Nothing is done. Only another guard, another verdict or an ejection is worth a record."""
    care = case.record.care
    held = replace(_begun(case, Phase.HELD, ""), why=why, ejected=eject and _is_useless(case))
    same = (care.phase, care.verdict, care.why, care.ejected) == (held.phase, held.verdict, held.why, held.ejected)
    return None if same else held


def _is_useless(case: Case) -> bool:
    """Whether its events had better wait: what is slow still does them."""
    return case.assessment.verdict in (Verdict.FAILING, Verdict.HUNG)
