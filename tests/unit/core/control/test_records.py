"""A cell's record, transition by transition: what each changes, what it leaves, and what the audit says of it."""

from __future__ import annotations

from dataclasses import asdict, replace

from hypothesis import given
from hypothesis import strategies as st

from router.core.control import records
from router.core.control.records import ON_THE_LADDER, RUNG_ACTIONS
from router.core.models import NO_TREATMENT, CellRecord, Rung, Treatment

CELL = "cell-0001"
NOW_MS = 10_000_000
ADDRESS = "10.0.0.1:8080"
counts = st.integers(0, 9)
cell_records = st.builds(
    CellRecord,
    cell_id=st.just(CELL),
    generation=counts,
    launching=counts,
    launched=counts,
    launched_at_ms=counts,
    launch_failures=counts,
    canary_failures=counts,
    candidate_failures=counts,
    verified=counts,
    fence=counts,
    retired=st.booleans(),
    admitted_at_ms=counts,
    replaced_at_ms=counts,
    reprovisioned_at_ms=counts,
    treatment=st.builds(Treatment, rung=st.sampled_from(Rung), why=st.just("slow"), ejected=st.booleans()),
)


def changed(before: CellRecord, after: CellRecord) -> set[str]:
    """Name the fields in which the two differ."""
    old, new = asdict(before), asdict(after)
    return {name for name in old if old[name] != new[name]}


@given(cell_records, st.integers(1, 9))
def test_generations_and_fences_only_grow(before: CellRecord, more: int) -> None:
    """Whatever happens to a cell, none of its instances ever gets an older one's generation."""
    newer = max(before.generation, before.launched) + more
    for transition in (
        records.created(CELL, before),
        records.retired(before),
        records.launched(before, newer, NOW_MS, "why"),
        records.adopted(before, newer, NOW_MS),
        records.launch_failed(before, "why"),
        records.launch_given_up(before, newer, "why"),
        records.tried(before, newer, ADDRESS, NOW_MS, "no answer"),
        records.tried(before, newer, ADDRESS, NOW_MS, None),
        records.verified(before, ADDRESS, "no answer"),
        records.verified(before, ADDRESS, None),
        records.fenced(before, before.fence + more),
        records.put_on_rung(before, NO_TREATMENT, 1),
    ):
        if transition is None:
            continue
        after = transition.record
        assert after.cell_id == CELL
        assert after.generation >= before.generation
        assert after.launched >= before.launched
        assert after.fence >= before.fence
        assert transition.action
        assert transition.why


@given(cell_records)
def test_an_admitted_instance_starts_with_a_clean_record(before: CellRecord) -> None:
    """No failure is counted any more and nothing is done about the cell; only a sick cell's instance was replaced."""
    after = records.admitted(before, 12, ADDRESS, NOW_MS).record
    assert (after.generation, after.verified, after.launching, after.admitted_at_ms) == (12, 12, 0, NOW_MS)
    assert after.address == ADDRESS
    assert (after.launch_failures, after.canary_failures, after.candidate_failures) == (0, 0, 0)
    assert after.treatment == NO_TREATMENT
    on_the_ladder = before.treatment.rung in ON_THE_LADDER
    assert after.replaced_at_ms == (NOW_MS if on_the_ladder else before.replaced_at_ms)


@given(cell_records)
def test_a_candidate_is_admitted_only_when_its_canary_was_answered_well(before: CellRecord) -> None:
    """Any other is counted as a failure, and whoever has the traffic keeps it."""
    assert records.tried(before, 12, ADDRESS, NOW_MS, None) == records.admitted(before, 12, ADDRESS, NOW_MS)
    failed = records.tried(before, 12, ADDRESS, NOW_MS, "no answer")
    assert changed(before, failed.record) == {"candidate_failures"}
    assert failed.record.candidate_failures == before.candidate_failures + 1
    assert (failed.action, failed.why) == ("verify failed", "generation 12 gets no traffic yet: no answer")


@given(cell_records)
def test_a_canary_counts_failures_until_one_is_answered(before: CellRecord) -> None:
    """An answer that says nothing new is not written down."""
    failed = records.verified(before, ADDRESS, "no answer")
    assert failed is not None
    assert failed.record == replace(before, canary_failures=before.canary_failures + 1)
    answered = records.verified(failed.record, ADDRESS, None)
    assert answered is not None
    assert answered.record == replace(before, verified=before.generation, address=ADDRESS, canary_failures=0)
    assert records.verified(answered.record, ADDRESS, None) is None


@given(cell_records)
def test_a_launch_is_counted_when_it_fails_and_remembered_when_it_begins(before: CellRecord) -> None:
    """A generation that runs already is adopted in the same way. A failed launch leaves nothing being launched."""
    begun = records.launched(before, 12, NOW_MS, "first instance")
    assert begun.record == records.adopted(before, 12, NOW_MS).record
    assert (begun.record.launching, begun.record.launched, begun.record.launched_at_ms) == (12, 12, NOW_MS)
    assert (begun.action, begun.why) == ("launch", "generation 12: first instance")
    failed = records.launch_given_up(begun.record, 12, "not ready after 10 s")
    assert (failed.record.launching, failed.record.launched) == (0, 12)
    assert failed.record.launch_failures == before.launch_failures + 1
    assert failed.record.candidate_failures == 0
    assert (failed.action, failed.why) == ("give up launch", "generation 12: not ready after 10 s")
    assert records.launch_failed(begun.record, "denied").why == "denied"


@given(cell_records)
def test_a_retired_cell_comes_back_with_what_is_known_of_its_instances(before: CellRecord) -> None:
    """Its generations go on where they were; a cell that never was begins with nothing."""
    retired = records.retired(before).record
    assert retired == replace(before, retired=True, launching=0)
    assert records.created(CELL, retired).record == replace(before, retired=False, launching=0)
    assert records.created(CELL, None).record == CellRecord(CELL)


@given(cell_records)
def test_a_raised_fence_changes_nothing_else(before: CellRecord) -> None:
    """The instances learn of it by the record."""
    assert records.fenced(before, 77).record == replace(before, fence=77)


@given(cell_records, st.sampled_from(Rung), st.booleans())
def test_a_rung_is_written_down_with_its_evidence(before: CellRecord, rung: Rung, ejected: bool) -> None:
    """That the cell is ejected is said once, when it begins to be."""
    treatment = Treatment(rung, NOW_MS, before.generation, "failing", "5 failures in a row", ejected=ejected)
    found = records.put_on_rung(before, treatment, 1)
    recovered_at_ms = 1 if rung is Rung.WELL else before.recovered_at_ms
    assert found.record == replace(before, treatment=treatment, recovered_at_ms=recovered_at_ms)
    assert found.action == RUNG_ACTIONS[rung]
    news = ejected and not before.treatment.ejected
    assert found.why == ("ejected: 5 failures in a row" if news else "5 failures in a row")


def test_a_cell_that_leaves_the_ladder_has_recovered() -> None:
    """The audit says that nothing is wrong with it any more."""
    found = records.put_on_rung(CellRecord(CELL, treatment=Treatment(Rung.MENDING, why="slow")), NO_TREATMENT, 1)
    assert (found.action, found.why) == ("recovered", "nothing is wrong with it any more")


def test_the_audit_names_what_was_made_anew() -> None:
    """It says so too when nothing was missing."""
    assert records.made_anew(["hold queue", "stream"]) == "made anew: hold queue, stream"
    assert records.made_anew([]) == "nothing was missing"
