"""What is done about a sick cell, rung by rung. Pure: record, evidence and time in, the next treatment out.

    WELL ──► MENDING ──► RESTARTING ──► REPLACING ◄──► REPROVISIONING ──► GIVEN_UP
      ▲         components   instance       another       what is missing      a person
      │         restarted    ends first     beside it     is made anew         has to look
      └── from every rung, when the cell has recovered or another generation has the traffic

A guard keeps a sick cell on GUARDED, before the first rung. An instance that answers, if slowly, keeps its traffic
until another one has shown, in a trial beside it, that it is faster. RESTARTING leaves a gap, so it is only for
instances that fail or hang, and for places where nothing can be launched. An instance that fails or hangs is ejected
at once: its events wait instead of failing. Each rung has its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from router.core.control.records import ON_THE_LADDER, Transition, made_anew
from router.core.detection.assessment import SICK, Assessment, Verdict
from router.core.models import NO_TREATMENT, CellRecord, ComponentView, Reason, Rung, Treatment, age_ms

RUNG_MS: Final[Mapping[Rung, int]] = {
    Rung.MENDING: 10_000,  # a restarted component shows within two windows whether it helped
    Rung.RESTARTING: 20_000,  # a drain, and a start
    Rung.REPROVISIONING: 30_000,
    Rung.GIVEN_UP: 15 * 60_000,  # then treatment begins again
}
RECOVERED_MS: Final = 10_000  # without any sign of sickness, until a cell counts as well again
LAUNCHES: Final = 3  # failed ones in a row until the cell is reprovisioned; after as many more it is given up
AGAIN_MS: Final = 15 * 60_000  # sick again so soon after a replacement: the instance is not what is wrong
WORKER: Final = "worker"  # the component that is the instance itself: restarting it is a rung of its own

FOLLOWS: Final[Mapping[Rung, frozenset[Rung]]] = {
    Rung.WELL: frozenset({Rung.GUARDED, Rung.MENDING, Rung.GIVEN_UP}),
    Rung.GUARDED: frozenset({Rung.WELL, Rung.MENDING, Rung.GIVEN_UP}),
    Rung.MENDING: frozenset({Rung.WELL, Rung.GUARDED, Rung.RESTARTING, Rung.REPLACING}),
    Rung.RESTARTING: frozenset({Rung.WELL, Rung.GUARDED, Rung.REPLACING, Rung.GIVEN_UP}),
    Rung.REPLACING: frozenset({Rung.WELL, Rung.GUARDED, Rung.REPROVISIONING, Rung.GIVEN_UP}),
    Rung.REPROVISIONING: frozenset({Rung.WELL, Rung.GUARDED, Rung.REPLACING}),
    Rung.GIVEN_UP: frozenset({Rung.WELL, Rung.GUARDED, Rung.MENDING}),
}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """One cell, with everything that decides which rung it gets onto."""

    record: CellRecord
    assessment: Assessment
    now_ms: int
    well_ms: int  # for how long nothing has been wrong with the cell
    why_suspended: Reason | None = None  # automation does nothing about any cell, or a person has this one in hand
    why_guarded: Reason | None = None  # a guard keeps this cell from the first rung
    can_launch: bool = True


@dataclass(frozen=True, slots=True)
class ComponentRestart:
    """A sick component that its instance was asked to restart, and why that failed if it did."""

    component: ComponentView
    why_failed: Reason | None = None


@dataclass(frozen=True, slots=True)
class TreatmentResult:
    """What is written once a rung's work is done, and the treatment that follows at once when the work is no use."""

    written: Transition | None = None
    then: Treatment | None = None


def next_treatment(given: Circumstances) -> Treatment | None:
    """Decide the cell's next treatment by the circumstances; None when nothing changes."""
    found = _next_treatment(given)
    before = given.record.treatment.rung
    assert found is None or found.rung is before or found.rung in FOLLOWS[before], f"{before} → {found}"
    return found


def after_mending(record: CellRecord, now_ms: int, *, can_launch: bool) -> Treatment:
    """Choose the rung after MENDING: a slow instance goes on serving while another is launched, any other restarts."""
    restart = record.treatment.verdict != Verdict.SLOW or not can_launch
    return _moved(record.treatment, Rung.RESTARTING if restart else Rung.REPLACING, now_ms)


def after_restarting(record: CellRecord, now_ms: int, *, can_launch: bool) -> Treatment:
    """Choose the rung after RESTARTING when the instance can't even be asked to end."""
    return _moved(record.treatment, Rung.REPLACING if can_launch else Rung.GIVEN_UP, now_ms)


def sick_components(components: Sequence[ComponentView]) -> list[ComponentView]:
    """Pick the components that MENDING restarts: those that say they are sick, except the instance itself."""
    return [component for component in components if not component.healthy and component.name != WORKER]


def components_unknown(record: CellRecord, why: Reason, now_ms: int, *, can_launch: bool) -> TreatmentResult:
    """Conclude MENDING when the instance did not say how its components are: the next rung follows at once."""
    written = Transition(record, "ask for components", f"no answer: {why}")
    return TreatmentResult(written, after_mending(record, now_ms, can_launch=can_launch))


def mended(
    record: CellRecord, restarts: Sequence[ComponentRestart], now_ms: int, *, can_launch: bool
) -> TreatmentResult:
    """Conclude MENDING: with no sick component it is no use, so the next rung follows at once."""
    if not restarts:
        return TreatmentResult(then=after_mending(record, now_ms, can_launch=can_launch))
    return TreatmentResult(Transition(record, "restart components", "; ".join(map(_described, restarts))))


def restarted(record: CellRecord, why_failed: Reason | None, now_ms: int, *, can_launch: bool) -> TreatmentResult:
    """Conclude RESTARTING: when the instance could not be asked to end, the next rung follows at once."""
    if why_failed is None:
        return TreatmentResult()
    written = Transition(record, "restart failed", why_failed)
    return TreatmentResult(written, after_restarting(record, now_ms, can_launch=can_launch))


def reprovisioned(record: CellRecord, missing: Sequence[str], now_ms: int) -> TreatmentResult:
    """Conclude REPROVISIONING: what was `missing` has been made, and the next instance is launched."""
    return TreatmentResult(Transition(_launched_again(record, now_ms), "reprovisioned", made_anew(missing)))


def reprovision_failed(record: CellRecord, why: Reason, now_ms: int) -> TreatmentResult:
    """Conclude REPROVISIONING that failed: the next instance is launched all the same, with what there is."""
    return TreatmentResult(Transition(_launched_again(record, now_ms), "reprovision failed", why))


def _launched_again(record: CellRecord, now_ms: int) -> CellRecord:
    treatment = _moved(record.treatment, Rung.REPLACING, now_ms)
    return replace(record, reprovisioned_at_ms=now_ms, treatment=treatment)


def _moved(treatment: Treatment, rung: Rung, now_ms: int) -> Treatment:
    """The same treatment, with its evidence, on another rung from now on."""
    return replace(treatment, rung=rung, since_ms=now_ms)


def _described(restart: ComponentRestart) -> str:
    named = f"{restart.component.name} ({restart.component.detail})"
    return f"{named}: {restart.why_failed}" if restart.why_failed is not None else named


def _next_treatment(given: Circumstances) -> Treatment | None:
    treatment = given.record.treatment
    if treatment.rung is not Rung.WELL and _is_over(given, treatment):
        return NO_TREATMENT
    sick = given.assessment.verdict in SICK
    if given.why_suspended is not None:
        return _guarded(given, given.why_suspended, eject=False) if sick or treatment.rung in ON_THE_LADDER else None
    if not sick:
        return None
    if treatment.rung in (Rung.WELL, Rung.GUARDED):
        return _first(given)
    return _next(given, treatment)


def _is_over(given: Circumstances, treatment: Treatment) -> bool:
    if given.record.generation != treatment.generation:
        return True
    if given.record.launching and treatment.rung is Rung.REPLACING:
        return False  # the replacement is on its way, and is not thrown away
    return given.assessment.verdict is Verdict.HEALTHY and given.well_ms >= RECOVERED_MS


def _first(given: Circumstances) -> Treatment | None:
    if _is_again(given):
        minutes = age_ms(given.record.replaced_at_ms, given.now_ms) // 60_000
        return _begun(given, Rung.GIVEN_UP, f"{minutes} min after a replacement: it is not the instance")
    if given.why_guarded is not None:
        return _guarded(given, given.why_guarded, eject=True)
    return _begun(given, Rung.MENDING)


def _next(given: Circumstances, treatment: Treatment) -> Treatment | None:
    """What follows on a rung whose time is up."""
    if treatment.rung is Rung.REPLACING:
        return _after_launches(given, treatment)
    if age_ms(treatment.since_ms, given.now_ms) < RUNG_MS[treatment.rung]:
        return None
    match treatment.rung:
        case Rung.MENDING:
            return after_mending(given.record, given.now_ms, can_launch=given.can_launch)
        case Rung.RESTARTING if not given.can_launch:
            return _begun(given, Rung.GIVEN_UP, "nothing has come in its place")
        case Rung.GIVEN_UP:
            return _first(given)
        case _:
            return _moved(treatment, Rung.REPLACING, given.now_ms)


def _after_launches(given: Circumstances, treatment: Treatment) -> Treatment | None:
    """What follows on REPLACING: it lasts until a new instance is admitted or too many launches have failed."""
    failures = given.record.launch_failures
    if failures >= 2 * LAUNCHES:
        return _begun(given, Rung.GIVEN_UP, f"{failures} launches in a row have failed")
    reprovisioned_at_ms = given.record.reprovisioned_at_ms
    lately = reprovisioned_at_ms and age_ms(reprovisioned_at_ms, given.now_ms) < AGAIN_MS
    if failures >= LAUNCHES and not lately:
        return _moved(treatment, Rung.REPROVISIONING, given.now_ms)
    return None


def _is_again(given: Circumstances) -> bool:
    replaced_at_ms = given.record.replaced_at_ms
    return bool(replaced_at_ms) and age_ms(replaced_at_ms, given.now_ms) < AGAIN_MS


def _begun(given: Circumstances, rung: Rung, why: Reason | None = None) -> Treatment:
    """A treatment of the present instance, with the detector's rule as its evidence."""
    assessment = given.assessment
    evidence = "; ".join(filter(None, [assessment.rule, why])) or None
    return Treatment(
        rung, given.now_ms, given.record.generation, assessment.verdict, evidence, ejected=_is_useless(given)
    )


def _guarded(given: Circumstances, why: Reason, *, eject: bool) -> Treatment | None:
    """Nothing is done. Only another reason, another verdict or an ejection is worth a new record."""
    before = given.record.treatment
    guarded = replace(_begun(given, Rung.GUARDED), why=why, ejected=eject and _is_useless(given))
    unchanged = replace(guarded, since_ms=before.since_ms, generation=before.generation) == before
    return None if unchanged else guarded


def _is_useless(given: Circumstances) -> bool:
    """Whether the instance's events had better wait: a slow instance still does them."""
    return given.assessment.verdict in (Verdict.FAILING, Verdict.HUNG)
