"""The ladder: which rung follows which, for how long, and what never happens on it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.control.ladder import (
    AGAIN_MS,
    FOLLOWS,
    LAUNCHES,
    ON_THE_LADDER,
    RECOVERED_MS,
    RUNG_MS,
    Case,
    admitted,
    after_mending,
    next_treatment,
)
from router.core.detection.assessment import SICK, Assessment, Verdict
from router.core.models import NO_TREATMENT, CellRecord, Rung, Treatment

NOW_MS = 10_000_000
verdicts = st.sampled_from(sorted(Verdict))
sick = st.sampled_from(sorted(SICK))
rungs = st.sampled_from(sorted(Rung))


def case(verdict: Verdict, treatment: Treatment = NO_TREATMENT, **more: object) -> Case:
    """A cell in generation 3 whose instance has been there for long."""
    fields = {name: more.pop(name) for name in list(more) if name in CellRecord.__dataclass_fields__}
    record = replace(CellRecord("cell-0001", generation=3, treatment=treatment), **fields)  # type: ignore[arg-type]
    assessment = Assessment("cell-0001", verdict, rule="is so")
    return Case(record, assessment, NOW_MS, **{"well_ms": 0, **more})  # type: ignore[arg-type]


def treatment_in(rung: Rung, since_ms: int = 0, verdict: Verdict = Verdict.SLOW) -> Treatment:
    """So long in that rung."""
    return NO_TREATMENT if rung is Rung.WELL else Treatment(rung, NOW_MS - since_ms, 3, verdict, "was so")


@given(
    verdicts, rungs, st.integers(0, 2**31), st.integers(0, 60_000), st.sampled_from(["", "why"]),
    st.sampled_from(["", "why"]), st.booleans(), st.integers(0, 9), st.integers(0, 2**21), st.integers(2, 4),
)  # fmt: skip
def test_only_the_tables_transitions_happen(
    verdict: Verdict, rung: Rung, since_ms: int, well_ms: int, frozen: str, waits: str, can_launch: bool,
    failures: int, ago_ms: int, generation: int,
) -> None:  # fmt: skip
    """Whatever the circumstances; and nobody gets onto the ladder who is well, frozen or has to wait."""
    found = next_treatment(
        case(
            verdict,
            treatment_in(rung, since_ms % NOW_MS),
            well_ms=well_ms,
            frozen=frozen,
            waits=waits,
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
        assert not frozen
        assert not waits
    if frozen:
        assert found.rung in (Rung.WELL, Rung.GUARDED)
        assert not found.ejected


@given(sick)
def test_another_generation_is_another_instance(verdict: Verdict) -> None:
    """What was wrong with the last one is over, on every rung."""
    for rung in Rung:
        if rung is not Rung.WELL:
            assert next_treatment(case(verdict, treatment_in(rung), generation=4)) == NO_TREATMENT


@pytest.mark.parametrize("verdict", [Verdict.FAILING, Verdict.HUNG])
def test_what_fails_or_hangs_is_ejected_even_while_it_has_to_wait(verdict: Verdict) -> None:
    """Its events would fail; but not when all cells fail alike, nor of an instance that is only slow."""
    held = next_treatment(case(verdict, waits="one at a time"))
    assert held is not None
    assert (held.rung, held.ejected, held.why) == (Rung.GUARDED, True, "one at a time")
    shared = next_treatment(case(verdict, frozen="all of them"))
    assert shared is not None
    assert (shared.rung, shared.ejected) == (Rung.GUARDED, False)
    slow = next_treatment(case(Verdict.SLOW))
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
    """Components first, for their time; then the rung that costs the cell least."""
    treatment = treatment_in(Rung.MENDING, RUNG_MS[Rung.MENDING] - 1, verdict)
    assert next_treatment(case(verdict, treatment, can_launch=can_launch)) is None
    treatment = treatment_in(Rung.MENDING, RUNG_MS[Rung.MENDING], verdict)
    found = next_treatment(case(verdict, treatment, can_launch=can_launch))
    assert found is not None
    assert (found.rung, found.since_ms) == (then, NOW_MS)
    assert found == after_mending(case(verdict, treatment).record, NOW_MS, can_launch=can_launch)


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
    """What the cell is made of is looked after once; afterwards somebody has to look."""
    at_ms = NOW_MS - reprovisioned_ago_ms if reprovisioned_ago_ms else 0
    found = next_treatment(
        case(Verdict.SLOW, treatment_in(Rung.REPLACING), launch_failures=failures, reprovisioned_at_ms=at_ms)
    )
    assert (found.rung if found is not None else None) is then


@given(st.integers(0, 2 * RECOVERED_MS), st.sampled_from(sorted(Rung)))
def test_it_has_recovered_when_nothing_was_wrong_for_long_enough(well_ms: int, rung: Rung) -> None:
    """Not before; and a launch that is under way is not thrown away for it."""
    if rung is Rung.WELL:
        return
    found = next_treatment(case(Verdict.HEALTHY, treatment_in(rung), well_ms=well_ms))
    assert (found == NO_TREATMENT) is (well_ms >= RECOVERED_MS)
    if rung is Rung.REPLACING:
        assert next_treatment(case(Verdict.HEALTHY, treatment_in(rung), well_ms=well_ms, launching=4)) is None


def test_a_cell_given_up_is_tried_again_after_a_quarter_of_an_hour() -> None:
    """Its circumstances may be others by then."""
    long_ago = NOW_MS - AGAIN_MS
    assert (
        next_treatment(case(Verdict.SLOW, treatment_in(Rung.GIVEN_UP, AGAIN_MS - 1), replaced_at_ms=long_ago)) is None
    )
    found = next_treatment(case(Verdict.SLOW, treatment_in(Rung.GIVEN_UP, AGAIN_MS), replaced_at_ms=long_ago))
    assert found is not None
    assert found.rung is Rung.MENDING


def test_a_guard_that_stays_the_same_is_written_down_once() -> None:
    """Another reason, verdict or ejection is news; the same again is not."""
    held = next_treatment(case(Verdict.SLOW, waits="one at a time"))
    assert held is not None
    assert next_treatment(case(Verdict.SLOW, held, waits="one at a time")) is None
    other = next_treatment(case(Verdict.SLOW, held, waits="three are enough"))
    assert other is not None
    assert other.why == "three are enough"
    failing = next_treatment(case(Verdict.FAILING, held, waits="one at a time"))
    assert failing is not None
    assert failing.ejected


@given(rungs)
def test_the_traffic_of_a_sick_instance_goes_to_another_with_a_clean_record(rung: Rung) -> None:
    """When it was replaced is remembered only if it was for a sickness."""
    record = CellRecord(
        "cell-0001", 3, launching=4, launch_failures=2, candidate_failures=1, treatment=treatment_in(rung)
    )
    after = admitted(record, 4, NOW_MS)
    assert (after.generation, after.verified, after.launching, after.admitted_at_ms) == (4, 4, 0, NOW_MS)
    assert (after.launch_failures, after.candidate_failures, after.treatment) == (0, 0, NO_TREATMENT)
    assert bool(after.replaced_at_ms) is (rung in ON_THE_LADDER)
