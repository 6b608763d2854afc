"""The ladder: which rung follows which, when, and what never happens on it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.control.ladder import (
    AGAIN_MS,
    FOLLOWS,
    LAUNCHES,
    RECOVERED_MS,
    RUNG_MS,
    WORKER,
    Circumstances,
    ComponentRestart,
    after_mending,
    components_unknown,
    mended,
    next_treatment,
    reprovision_failed,
    reprovisioned,
    restarted,
    sick_components,
)
from router.core.control.records import ON_THE_LADDER
from router.core.detection.assessment import SICK, Assessment, Verdict
from router.core.models import NO_TREATMENT, CellRecord, ComponentView, Rung, Treatment

NOW_MS = 10_000_000
verdicts = st.sampled_from(sorted(Verdict))
sick = st.sampled_from(sorted(SICK))
rungs = st.sampled_from(sorted(Rung))


def cell(verdict: Verdict, treatment: Treatment = NO_TREATMENT, **more: object) -> Circumstances:
    """The circumstances of a cell in generation 3 whose instance has been there for long."""
    fields = {name: more.pop(name) for name in list(more) if name in CellRecord.__dataclass_fields__}
    record = replace(CellRecord("cell-0001", generation=3, treatment=treatment), **fields)  # type: ignore[arg-type]
    assessment = Assessment("cell-0001", verdict, rule="is so")
    return Circumstances(record, assessment, NOW_MS, **{"well_ms": 0, **more})  # type: ignore[arg-type]


def treatment_in(rung: Rung, since_ms: int = 0, verdict: Verdict = Verdict.SLOW) -> Treatment:
    """A treatment that has been on that rung for so long."""
    return NO_TREATMENT if rung is Rung.WELL else Treatment(rung, NOW_MS - since_ms, 3, verdict, "was so")


@given(
    verdicts, rungs, st.integers(0, 2**31), st.integers(0, 60_000), st.sampled_from([None, "why"]),
    st.sampled_from([None, "why"]), st.booleans(), st.integers(0, 9), st.integers(0, 2**21), st.integers(2, 4),
)  # fmt: skip
def test_only_the_tables_transitions_happen(
    verdict: Verdict, rung: Rung, since_ms: int, well_ms: int, suspended: str | None, guarded: str | None,
    can_launch: bool, failures: int, ago_ms: int, generation: int,
) -> None:  # fmt: skip
    """No cell gets onto the ladder that is well or guarded, or while automation is suspended."""
    found = next_treatment(
        cell(
            verdict,
            treatment_in(rung, since_ms % NOW_MS),
            well_ms=well_ms,
            why_suspended=suspended,
            why_guarded=guarded,
            can_launch=can_launch,
            launch_failures=failures,
            replaced_at_ms=NOW_MS - ago_ms,
            generation=generation,
        )
    )
    if found is None:
        return
    assert found.rung is rung or found.rung in FOLLOWS[rung]
    if found.rung in ON_THE_LADDER and rung not in ON_THE_LADDER:
        assert verdict in SICK
        assert suspended is None
        assert guarded is None
    if suspended is not None:
        assert found.rung in (Rung.WELL, Rung.GUARDED)
        assert not found.ejected


@given(sick)
def test_another_generation_is_another_instance(verdict: Verdict) -> None:
    """Whatever was wrong with the instance before is over, on every rung."""
    for rung in Rung:
        if rung is not Rung.WELL:
            assert next_treatment(cell(verdict, treatment_in(rung), generation=4)) == NO_TREATMENT


@pytest.mark.parametrize("verdict", [Verdict.FAILING, Verdict.HUNG])
def test_what_fails_or_hangs_is_ejected_even_while_it_has_to_wait(verdict: Verdict) -> None:
    """Its events would fail. It is not ejected when all cells fail alike, nor when it is only slow."""
    guarded = next_treatment(cell(verdict, why_guarded="one at a time"))
    assert guarded is not None
    assert (guarded.rung, guarded.ejected, guarded.why) == (Rung.GUARDED, True, "one at a time")
    shared = next_treatment(cell(verdict, why_suspended="all of them"))
    assert shared is not None
    assert (shared.rung, shared.ejected) == (Rung.GUARDED, False)
    slow = next_treatment(cell(Verdict.SLOW))
    assert slow is not None
    assert (slow.rung, slow.ejected) == (Rung.MENDING, False)


@pytest.mark.parametrize(
    ("verdict", "can_launch", "then"),
    [
        (Verdict.SLOW, True, Rung.REPLACING),
        (Verdict.SLOW, False, Rung.RESTARTING),
        (Verdict.FAILING, True, Rung.RESTARTING),
        (Verdict.HUNG, True, Rung.RESTARTING),
    ],
)
def test_a_slow_instance_is_ended_first_only_where_no_other_can_be_launched(
    verdict: Verdict, can_launch: bool, then: Rung
) -> None:
    """Its components come first and have their time; then follows the rung that costs the cell least."""
    treatment = treatment_in(Rung.MENDING, RUNG_MS[Rung.MENDING] - 1, verdict)
    assert next_treatment(cell(verdict, treatment, can_launch=can_launch)) is None
    treatment = treatment_in(Rung.MENDING, RUNG_MS[Rung.MENDING], verdict)
    found = next_treatment(cell(verdict, treatment, can_launch=can_launch))
    assert found is not None
    assert (found.rung, found.since_ms) == (then, NOW_MS)
    assert found == after_mending(cell(verdict, treatment).record, NOW_MS, can_launch=can_launch)


@pytest.mark.parametrize(
    ("failures", "reprovisioned_ago_ms", "then"),
    [
        (0, 0, None),
        (LAUNCHES - 1, 0, None),
        (LAUNCHES, 0, Rung.REPROVISIONING),
        (LAUNCHES, 1000, None),
        (LAUNCHES, AGAIN_MS, Rung.REPROVISIONING),
        (2 * LAUNCHES, 1000, Rung.GIVEN_UP),
    ],
)
def test_launches_that_fail_lead_to_what_is_missing_and_then_to_a_person(
    failures: int, reprovisioned_ago_ms: int, then: Rung | None
) -> None:
    """The cell is reprovisioned once; when launches go on failing, a person has to look."""
    at_ms = NOW_MS - reprovisioned_ago_ms if reprovisioned_ago_ms else 0
    found = next_treatment(
        cell(Verdict.SLOW, treatment_in(Rung.REPLACING), launch_failures=failures, reprovisioned_at_ms=at_ms)
    )
    assert (found.rung if found is not None else None) is then


@given(st.integers(0, 2 * RECOVERED_MS), st.sampled_from(sorted(Rung)))
def test_it_has_recovered_when_nothing_was_wrong_for_long_enough(well_ms: int, rung: Rung) -> None:
    """A cell has not recovered before that, and a launch that is under way is not thrown away for a recovery."""
    if rung is Rung.WELL:
        return
    found = next_treatment(cell(Verdict.HEALTHY, treatment_in(rung), well_ms=well_ms))
    assert (found == NO_TREATMENT) is (well_ms >= RECOVERED_MS)
    if rung is Rung.REPLACING:
        assert next_treatment(cell(Verdict.HEALTHY, treatment_in(rung), well_ms=well_ms, launching=4)) is None


def test_a_cell_given_up_is_tried_again_after_a_quarter_of_an_hour() -> None:
    """Its circumstances may have changed by then."""
    long_ago = NOW_MS - AGAIN_MS
    assert (
        next_treatment(cell(Verdict.SLOW, treatment_in(Rung.GIVEN_UP, AGAIN_MS - 1), replaced_at_ms=long_ago)) is None
    )
    found = next_treatment(cell(Verdict.SLOW, treatment_in(Rung.GIVEN_UP, AGAIN_MS), replaced_at_ms=long_ago))
    assert found is not None
    assert found.rung is Rung.MENDING


def test_a_guard_that_stays_the_same_is_written_down_once() -> None:
    """Another reason, verdict or ejection is written down again; the same guard is not."""
    guarded = next_treatment(cell(Verdict.SLOW, why_guarded="one at a time"))
    assert guarded is not None
    assert next_treatment(cell(Verdict.SLOW, guarded, why_guarded="one at a time")) is None
    other = next_treatment(cell(Verdict.SLOW, guarded, why_guarded="three are enough"))
    assert other is not None
    assert other.why == "three are enough"
    failing = next_treatment(cell(Verdict.FAILING, guarded, why_guarded="one at a time"))
    assert failing is not None
    assert failing.ejected


SICK_STORE = ComponentView("store", healthy=False, detail="is locked")


def on_rung(rung: Rung, verdict: Verdict = Verdict.SLOW) -> CellRecord:
    """The record of a cell that has just got onto that rung."""
    return CellRecord("cell-0001", 3, treatment=treatment_in(rung, verdict=verdict))


def test_mending_restarts_the_components_that_say_they_are_sick() -> None:
    """The worker component is the instance itself, which has a rung of its own."""
    components = [ComponentView("sink", healthy=True), SICK_STORE, ComponentView(WORKER, healthy=False)]
    assert sick_components(components) == [SICK_STORE]


@given(st.booleans())
def test_mending_without_a_sick_component_is_followed_by_the_next_rung_at_once(can_launch: bool) -> None:
    """Nothing was done, so nothing is written; with a component restarted, the rung keeps its time."""
    record = on_rung(Rung.MENDING)
    result = mended(record, [], NOW_MS, can_launch=can_launch)
    assert (result.written, result.then) == (None, after_mending(record, NOW_MS, can_launch=can_launch))
    restarts = [ComponentRestart(SICK_STORE), ComponentRestart(replace(SICK_STORE, name="s3"), "no answer")]
    result = mended(record, restarts, NOW_MS, can_launch=can_launch)
    assert result.then is None
    assert result.written is not None
    assert result.written.record == record
    assert (result.written.action, result.written.why) == (
        "restart components",
        "store (is locked); s3 (is locked): no answer",
    )


def test_an_instance_that_does_not_say_how_its_components_are_goes_to_the_next_rung() -> None:
    """That it did not answer is written down."""
    record = on_rung(Rung.MENDING, Verdict.HUNG)
    result = components_unknown(record, "timed out", NOW_MS, can_launch=True)
    assert result.written is not None
    assert (result.written.action, result.written.why) == ("ask for components", "no answer: timed out")
    assert result.then == replace(record.treatment, rung=Rung.RESTARTING, since_ms=NOW_MS)


@pytest.mark.parametrize(("can_launch", "then"), [(True, Rung.REPLACING), (False, Rung.GIVEN_UP)])
def test_an_instance_that_cannot_be_asked_to_end_goes_to_the_next_rung(can_launch: bool, then: Rung) -> None:
    """An instance that will end keeps the rung for its time, and nothing more is written."""
    record = on_rung(Rung.RESTARTING, Verdict.HUNG)
    result = restarted(record, None, NOW_MS, can_launch=can_launch)
    assert (result.written, result.then) == (None, None)
    result = restarted(record, "refused", NOW_MS, can_launch=can_launch)
    assert result.written is not None
    assert (result.written.action, result.written.why) == ("restart failed", "refused")
    assert result.then == replace(record.treatment, rung=then, since_ms=NOW_MS)


def test_after_reprovisioning_the_next_instance_is_launched_whether_it_worked_or_not() -> None:
    """When it was done is remembered, so that it is done once; the result is in the audit."""
    record = on_rung(Rung.REPROVISIONING)
    found = [
        reprovisioned(record, ["queue", "bucket"], NOW_MS),
        reprovisioned(record, [], NOW_MS),
        reprovision_failed(record, "denied", NOW_MS),
    ]
    said = [(each.written.action, each.written.why) for each in found if each.written is not None]
    assert said == [
        ("reprovisioned", "made anew: queue, bucket"),
        ("reprovisioned", "nothing was missing"),
        ("reprovision failed", "denied"),
    ]
    for each in found:
        assert each.then is None
        assert each.written is not None
        assert each.written.record.reprovisioned_at_ms == NOW_MS
        assert each.written.record.treatment == replace(record.treatment, rung=Rung.REPLACING, since_ms=NOW_MS)
