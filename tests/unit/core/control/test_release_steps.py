"""Which cells a release changes next, and what speaks against it: decisions alone, without a world."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.control.actions import Launch, StepRelease
from router.core.control.observed import Desired, Health, Observed
from router.core.control.reconcile import reconcile
from router.core.control.release_evidence import why_events_slower, why_failing_more, why_slower
from router.core.control.releases import members, release_steps
from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.baseline import Baseline
from router.core.detection.window import AnsweredSums
from router.core.models import CellRecord, InstanceView, LeaseView, Rung, Treatment, cell_ids
from router.core.policy import NO_POLICY, Policy
from router.core.release import Phase, Release, Wave, progress
from router.core.slot_map.slots import SlotMap, assign

OLD, NEW = "worker:1", "worker:2"
NOW = 10_000_000
RELEASE = Release(
    NEW, (Wave(cells=1), Wave(percent=50.0), Wave(percent=100.0)), before=OLD, number=7, phase=Phase.CHANGING
)
CELLS = cell_ids(4)
DESIRED = Desired(CELLS, can_launch=True)


def record(cell_id: str, image: str = OLD, **changes: object) -> CellRecord:
    """A cell that serves with this image, admitted long ago."""
    made = CellRecord(
        cell_id, 1, launched=1, verified=1, address="a:1", admitted_at_ms=1, image=image, launched_image=image
    )
    return replace(made, **changes)  # type: ignore[arg-type] # a test's own


def observed(
    release: Release, *records: CellRecord, policy: Policy = NO_POLICY, verdicts: dict[str, Verdict] | None = None
) -> Observed:
    """Cells that serve, measured for an hour, with these verdicts; healthy where none is named."""
    found = verdicts or {}
    return Observed(
        now_ms=NOW,
        cells={each.cell_id: each for each in records},
        leases=tuple(LeaseView(r.cell_id, 1, "i", "a:1", 8, ready=True, live=True) for r in records),
        instances=tuple(InstanceView(r.cell_id, 1, running=True, image=r.image) for r in records),
        slot_map=SlotMap(1, assign(None, {each.cell_id: 1.0 for each in records})),
        leases_trusted=True,
        policy=replace(policy, release=release, version=9),
        health={
            r.cell_id: Health(
                Assessment(r.cell_id, found.get(r.cell_id, Verdict.HEALTHY), "a rule", 10.0), 1, 3_600_000
            )
            for r in records
        },
    )


def steps(seen: Observed) -> list[Launch | StepRelease]:
    """What is done next."""
    return list(release_steps(DESIRED, seen))


def step(seen: Observed) -> Release:
    """The release after the only step that is taken."""
    [found] = steps(seen)
    assert isinstance(found, StepRelease)
    return found.release


def names(records: list[CellRecord]) -> list[str]:
    """The cells' numbers."""
    return [each.cell_id[-1] for each in records]


def test_a_release_notes_what_most_cells_run_before_it_begins() -> None:
    """By the record of a cell, and where that says nothing by the word of what launched it."""
    records = [record(CELLS[0], "odd:1"), record(CELLS[1]), record(CELLS[2], ""), record(CELLS[3])]
    seen = observed(replace(RELEASE, phase=Phase.PROPOSED, before=""), *records)
    assert (step(seen).before, step(seen).phase) == (OLD, Phase.CHANGING)
    same = observed(replace(RELEASE, phase=Phase.PROPOSED, before="", image=OLD), *map(record, CELLS))
    assert step(same).phase is Phase.DONE


def test_a_wave_takes_the_well_cells_of_least_weight() -> None:
    """Those that were changed stay in it; a sick or draining one comes last, one in a person's hand not at all."""
    policy = NO_POLICY.with_weight(CELLS[2], 0.5)
    seen = observed(RELEASE, *map(record, CELLS), policy=policy)
    all_of = list(seen.cells.values())
    assert names(members(RELEASE, Wave(cells=1), seen, all_of)) == ["2"]
    assert names(members(RELEASE, Wave(percent=50.0), seen, all_of)) == ["2", "0"]
    assert names(members(RELEASE, Wave(percent=1.0), seen, all_of)) == ["2"]
    assert names(members(RELEASE, Wave(percent=100.0), seen, all_of)) == ["2", "0", "1", "3"]
    sick = replace(seen.cells[CELLS[0]], treatment=Treatment(Rung.MENDING, 1, 1, "slow"))
    mixed = [record(CELLS[3], NEW), record(CELLS[2]), sick, record(CELLS[1])]
    for policy, order in (
        (NO_POLICY, ["3", "1", "2", "0"]),
        (NO_POLICY.with_cordon(CELLS[1], drain=True), ["3", "2", "1", "0"]),
        (NO_POLICY.with_frozen(CELLS[1], frozen=True).with_ejected(CELLS[2], ejected=True), ["3", "0"]),
    ):
        seen = observed(RELEASE, *mixed, policy=policy)
        assert names(members(RELEASE, Wave(cells=4), seen, mixed)) == order


def test_so_many_cells_are_changed_at_once_as_are_wanted() -> None:
    """What is being launched counts, whoever leads."""
    last = replace(RELEASE, wave=2, at_once=2)
    launching = record(CELLS[0], launching=2, launched=2, launched_image=NEW)
    seen = observed(last, launching, *map(record, CELLS[1:]))
    assert steps(seen) == [Launch(CELLS[1], "release 7 wave 3", 1, NEW)]
    assert [type(s) for s in steps(observed(replace(last, at_once=1), launching, *map(record, CELLS[1:])))] == []


def test_a_dead_instance_of_the_image_takes_the_release_back_and_is_not_launched_again() -> None:
    """The next tick launches the image before in its place."""
    seen = observed(replace(RELEASE, phase=Phase.BAKING), record(CELLS[0], NEW), *map(record, CELLS[1:]))
    dead = replace(
        seen, instances=(InstanceView(CELLS[0], 1, running=False, detail="exit code 1"), *seen.instances[1:])
    )
    done = reconcile(DESIRED, dead)
    assert not any(isinstance(action, Launch) for action in done)
    [rolled] = [action for action in done if isinstance(action, StepRelease)]
    assert rolled.release.phase is Phase.ROLLING_BACK
    assert "cell-0000: generation 1 exited: exit code 1" in rolled.why
    next_tick = replace(dead, policy=replace(dead.policy, release=rolled.release))
    assert [a.image for a in reconcile(DESIRED, next_tick) if isinstance(a, Launch)] == [OLD]


def test_sick_cells_of_the_image_are_its_fault_unless_the_rest_is_sick_too() -> None:
    """However many they are, and though automation is suspended."""
    baking = replace(RELEASE, phase=Phase.BAKING, wave=1)
    records = [record(CELLS[0], NEW), record(CELLS[1], NEW), record(CELLS[2]), record(CELLS[3])]
    sick = dict.fromkeys(CELLS[:2], Verdict.FAILING)
    seen = observed(baking, *records, verdicts=sick)
    assert seen.why_suspended is not None
    assert step(seen).phase is Phase.ROLLING_BACK
    shared = step(observed(baking, *records, verdicts=sick | {CELLS[2]: Verdict.FAILING}))
    assert (shared.phase, bool(shared.waits)) == (Phase.BAKING, True)
    assert step(replace(seen, why_blind="late")).waits == "late"


def test_what_all_cells_suffer_shows_in_one_of_them_first() -> None:
    """So a verdict counts only once the rest has had three seconds to show the same."""
    baking = replace(RELEASE, phase=Phase.BAKING, since_ms=NOW)
    seen = observed(baking, record(CELLS[0], NEW), *map(record, CELLS[1:]))
    hung = Health(Assessment(CELLS[0], Verdict.HUNG, "a rule", lasted_s=2.0), 1, 3_600_000)
    assert steps(replace(seen, health={**seen.health, CELLS[0]: hung})) == []
    lasting = replace(hung, assessment=replace(hung.assessment, lasted_s=3.0))
    assert step(replace(seen, health={**seen.health, CELLS[0]: lasting})).phase is Phase.ROLLING_BACK


def test_a_new_instance_may_be_slow_but_not_failing() -> None:
    """Its caches are cold for `cells.warm_up_s`."""
    baking = replace(RELEASE, phase=Phase.BAKING, since_ms=NOW)
    cold = record(CELLS[0], NEW, admitted_at_ms=NOW - 1000)
    rest = list(map(record, CELLS[1:]))
    assert steps(observed(baking, cold, *rest, verdicts={CELLS[0]: Verdict.SLOW})) == []
    assert step(observed(baking, cold, *rest, verdicts={CELLS[0]: Verdict.HUNG})).phase is Phase.ROLLING_BACK
    warm = replace(cold, admitted_at_ms=1)
    assert step(observed(baking, warm, *rest, verdicts={CELLS[0]: Verdict.SLOW})).phase is Phase.ROLLING_BACK


def test_a_wave_is_good_only_when_one_leader_has_watched_it_for_long_enough() -> None:
    """A new leader has seen nothing yet, whatever time has passed."""
    baking = replace(RELEASE, phase=Phase.BAKING, since_ms=NOW - 200_000)
    seen = observed(baking, record(CELLS[0], NEW), *map(record, CELLS[1:]))
    assert (step(seen).phase, step(seen).wave) == (Phase.CHANGING, 1)
    young = Health(Assessment(CELLS[0]), 1, 1000)
    assert steps(replace(seen, health={**seen.health, CELLS[0]: young})) == []
    watched = Health(Assessment(CELLS[0], Verdict.WATCHED), 1, 3_600_000)
    assert steps(replace(seen, health={**seen.health, CELLS[0]: watched})) == []


def test_a_wave_waits_for_cells_that_are_sick_and_says_so() -> None:
    """Once all others of it are changed."""
    last = replace(RELEASE, wave=2)
    sick = record(CELLS[3], treatment=Treatment(Rung.GUARDED, 1, 1, "slow"))
    waits = step(observed(last, *(record(cell, NEW) for cell in CELLS[:3]), sick)).waits
    assert waits == "cell-0003 (it is slow (guarded))"


def test_a_rollback_ends_when_no_cell_has_the_image_but_a_frozen_one() -> None:
    """What is being launched is given up; the frozen cell keeps the image, which is said."""
    back = replace(RELEASE, phase=Phase.ROLLING_BACK, why="bad", at_once=1)
    policy = NO_POLICY.with_frozen(CELLS[0], frozen=True)
    records = [record(CELLS[0], NEW), record(CELLS[1], NEW), *map(record, CELLS[2:])]
    assert [s.image for s in steps(observed(back, *records, policy=policy)) if isinstance(s, Launch)] == [OLD]
    ended = step(observed(back, records[0], *map(record, CELLS[1:]), policy=policy))
    assert ended.phase is Phase.ROLLED_BACK
    assert ended.why == f"bad; cell-0000 (frozen by hand): keeps {NEW} until its next instance"


@pytest.mark.parametrize(
    ("answered", "bad", "usual", "is_bad"),
    [(200, 40, 0.0, True), (20, 4, 0.0, True), (20, 2, 0.0, False), (1000, 30, 0.02, False), (1000, 60, 0.02, True),
     (225, 45, 0.2, False), (100, 2, 0.0, False), (0, 0, 0.0, False)],
)  # fmt: skip
def test_a_share_of_failures_is_bad_beyond_margin_and_chance(
    answered: int, bad: int, usual: float, is_bad: bool
) -> None:
    """Three events at least, and four standard deviations above what is usual."""
    assert (why_failing_more(AnsweredSums.of(answered, bad, 0.1), usual, 0.02) is not None) is is_bad


@pytest.mark.parametrize(
    ("canary_s", "rest_s", "before_s", "is_bad"),
    [(0.3, 0.1, 0.1, True), (0.3, 0.1, 0.25, False), (0.3, 0.25, 0.1, False), (0.02, 0.01, 0.01, False),
     (0.3, None, 0.1, True), (0.3, None, None, False)],
)  # fmt: skip
def test_a_canary_is_slower_only_beside_the_rest_and_beside_its_own_past(
    canary_s: float, rest_s: float | None, before_s: float | None, is_bad: bool
) -> None:
    """And by 25 ms at least: less is noise."""
    found = Assessment(CELLS[0], canary_s=canary_s, baseline=Baseline(canary_s=before_s))
    assert (why_slower(found, rest_s, 1.5) is not None) is is_bad


@pytest.mark.parametrize(
    ("latency_s", "rest_s", "before_s", "answered", "is_bad"),
    [(0.6, 0.01, 0.01, 20, True), (0.6, 0.01, 0.2, 20, False), (0.6, 0.2, 0.01, 20, False),
     (0.6, 0.01, 0.01, 19, False), (0.05, 0.01, 0.01, 99, False), (0.6, None, 0.1, 20, True),
     (0.6, 0.1, None, 20, True), (0.6, None, None, 99, False)],
)  # fmt: skip
def test_events_are_slower_only_beside_all_the_rest_and_beside_their_own_past(
    latency_s: float, rest_s: float | None, before_s: float | None, answered: int, is_bad: bool
) -> None:
    """Four times, by 50 ms at least, and only where enough were answered."""
    assert (why_events_slower(AnsweredSums.of(answered, 0, latency_s), rest_s, before_s) is not None) is is_bad


def test_progress_is_told_in_words() -> None:
    """An operator reads where it is, how long it bakes, and what it waits for."""
    baking = replace(RELEASE, phase=Phase.BAKING, wave=1, since_ms=NOW - 40_000)
    assert progress(baking, NOW) == "wave 2 of 3, baking 40 s of 120 s"
    assert progress(replace(baking, waits="Redis"), NOW) == "wave 2 of 3, baking 0 s of 120 s; waits: Redis"
    assert progress(replace(RELEASE, phase=Phase.ROLLED_BACK, why="slow"), NOW) == f"rolled back to {OLD}: slow"
