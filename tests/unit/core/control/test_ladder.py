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
    next_care,
)
from router.core.detection.assessment import SICK, Assessment, Verdict
from router.core.models import NO_CARE, Care, CellRecord, Phase

NOW_MS = 10_000_000
verdicts = st.sampled_from(sorted(Verdict))
sick = st.sampled_from(sorted(SICK))
phases = st.sampled_from(sorted(Phase))


def case(verdict: Verdict, care: Care = NO_CARE, **more: object) -> Case:
    """A cell in generation 3 whose instance has been there for long."""
    fields = {name: more.pop(name) for name in list(more) if name in CellRecord.__dataclass_fields__}
    record = replace(CellRecord("cell-0001", generation=3, care=care), **fields)  # type: ignore[arg-type]
    assessment = Assessment("cell-0001", verdict, rule="is so")
    return Case(record, assessment, NOW_MS, **{"well_ms": 0, **more})  # type: ignore[arg-type]


def care_in(phase: Phase, since_ms: int = 0, verdict: Verdict = Verdict.SLOW) -> Care:
    """So long in that phase."""
    return NO_CARE if phase is Phase.WELL else Care(phase, NOW_MS - since_ms, 3, verdict, "was so")


@given(
    verdicts, phases, st.integers(0, 2**31), st.integers(0, 60_000), st.sampled_from(["", "why"]),
    st.sampled_from(["", "why"]), st.booleans(), st.integers(0, 9), st.integers(0, 2**21), st.integers(2, 4),
)  # fmt: skip
def test_only_the_tables_transitions_happen(
    verdict: Verdict, phase: Phase, since_ms: int, well_ms: int, frozen: str, waits: str, can_launch: bool,
    failures: int, ago_ms: int, generation: int,
) -> None:  # fmt: skip
    """Whatever the circumstances; and nobody gets onto the ladder who is well, frozen or has to wait."""
    found = next_care(
        case(
            verdict,
            care_in(phase, since_ms % NOW_MS),
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
    assert found.phase is phase or found.phase in FOLLOWS[phase]
    if found.phase in ON_THE_LADDER and phase not in ON_THE_LADDER:
        assert verdict in SICK
        assert not frozen
        assert not waits
    if frozen:
        assert found.phase in (Phase.WELL, Phase.HELD)
        assert not found.ejected


@given(sick)
def test_another_generation_is_another_instance(verdict: Verdict) -> None:
    """What was wrong with the last one is over, on every rung."""
    for phase in Phase:
        if phase is not Phase.WELL:
            assert next_care(case(verdict, care_in(phase), generation=4)) == NO_CARE


@pytest.mark.parametrize("verdict", [Verdict.FAILING, Verdict.HUNG])
def test_what_fails_or_hangs_is_ejected_even_while_it_has_to_wait(verdict: Verdict) -> None:
    """Its events would fail; but not when all cells fail alike, nor of an instance that is only slow."""
    held = next_care(case(verdict, waits="one at a time"))
    assert held is not None
    assert (held.phase, held.ejected, held.why) == (Phase.HELD, True, "one at a time")
    shared = next_care(case(verdict, frozen="all of them"))
    assert shared is not None
    assert (shared.phase, shared.ejected) == (Phase.HELD, False)
    slow = next_care(case(Verdict.SLOW))
    assert slow is not None
    assert (slow.phase, slow.ejected) == (Phase.MENDING, False)


@pytest.mark.parametrize(
    ("verdict", "can_launch", "then"),
    [
        (Verdict.SLOW, True, Phase.REPLACING),
        (Verdict.SLOW, False, Phase.RESTARTING),
        (Verdict.FAILING, True, Phase.RESTARTING),
        (Verdict.HUNG, True, Phase.RESTARTING),
    ],
)
def test_a_slow_instance_is_ended_first_only_where_no_other_can_be_launched(
    verdict: Verdict, can_launch: bool, then: Phase
) -> None:
    """Components first, for their time; then the rung that costs the cell least."""
    care = care_in(Phase.MENDING, RUNG_MS[Phase.MENDING] - 1, verdict)
    assert next_care(case(verdict, care, can_launch=can_launch)) is None
    care = care_in(Phase.MENDING, RUNG_MS[Phase.MENDING], verdict)
    found = next_care(case(verdict, care, can_launch=can_launch))
    assert found is not None
    assert (found.phase, found.since_ms) == (then, NOW_MS)
    assert found == after_mending(case(verdict, care).record, NOW_MS, can_launch=can_launch)


@pytest.mark.parametrize(
    ("failures", "reprovisioned_ago_ms", "then"),
    [
        (0, 0, None),
        (LAUNCHES - 1, 0, None),
        (LAUNCHES, 0, Phase.REPROVISIONING),
        (LAUNCHES, 1000, None),
        (LAUNCHES, AGAIN_MS, Phase.REPROVISIONING),
        (2 * LAUNCHES, 1000, Phase.GIVEN_UP),
    ],
)
def test_launches_that_fail_lead_to_what_is_missing_and_then_to_a_person(
    failures: int, reprovisioned_ago_ms: int, then: Phase | None
) -> None:
    """What the cell is made of is looked after once; afterwards somebody has to look."""
    at_ms = NOW_MS - reprovisioned_ago_ms if reprovisioned_ago_ms else 0
    found = next_care(case(Verdict.SLOW, care_in(Phase.REPLACING), launch_failures=failures, reprovisioned_at_ms=at_ms))
    assert (found.phase if found is not None else None) is then


@given(st.integers(0, 2 * RECOVERED_MS), st.sampled_from(sorted(Phase)))
def test_it_has_recovered_when_nothing_was_wrong_for_long_enough(well_ms: int, phase: Phase) -> None:
    """Not before; and a launch that is under way is not thrown away for it."""
    if phase is Phase.WELL:
        return
    found = next_care(case(Verdict.HEALTHY, care_in(phase), well_ms=well_ms))
    assert (found == NO_CARE) is (well_ms >= RECOVERED_MS)
    if phase is Phase.REPLACING:
        assert next_care(case(Verdict.HEALTHY, care_in(phase), well_ms=well_ms, launching=4)) is None


def test_a_cell_given_up_is_tried_again_after_a_quarter_of_an_hour() -> None:
    """Its circumstances may be others by then."""
    long_ago = NOW_MS - AGAIN_MS
    assert next_care(case(Verdict.SLOW, care_in(Phase.GIVEN_UP, AGAIN_MS - 1), replaced_at_ms=long_ago)) is None
    found = next_care(case(Verdict.SLOW, care_in(Phase.GIVEN_UP, AGAIN_MS), replaced_at_ms=long_ago))
    assert found is not None
    assert found.phase is Phase.MENDING


def test_a_guard_that_stays_the_same_is_written_down_once() -> None:
    """Another reason, verdict or ejection is news; the same again is not."""
    held = next_care(case(Verdict.SLOW, waits="one at a time"))
    assert held is not None
    assert next_care(case(Verdict.SLOW, held, waits="one at a time")) is None
    other = next_care(case(Verdict.SLOW, held, waits="three are enough"))
    assert other is not None
    assert other.why == "three are enough"
    failing = next_care(case(Verdict.FAILING, held, waits="one at a time"))
    assert failing is not None
    assert failing.ejected


@given(phases)
def test_the_traffic_of_a_sick_instance_goes_to_another_with_a_clean_record(phase: Phase) -> None:
    """When it was replaced is remembered only if it was for a sickness."""
    record = CellRecord("cell-0001", 3, launching=4, launch_failures=2, candidate_failures=1, care=care_in(phase))
    after = admitted(record, 4, NOW_MS)
    assert (after.generation, after.verified, after.launching, after.admitted_at_ms) == (4, 4, 0, NOW_MS)
    assert (after.launch_failures, after.candidate_failures, after.care) == (0, 0, NO_CARE)
    assert bool(after.replaced_at_ms) is (phase in ON_THE_LADDER)
