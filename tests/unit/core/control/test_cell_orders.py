"""People's orders about cells: what the controller does for them, and what automation does no more."""

from __future__ import annotations

from dataclasses import replace

from router.core.control.actions import Action, Admit, GiveUpLaunch, Launch, Stop
from router.core.control.observed import Desired, Health, Observed, Suspension
from router.core.control.reconcile import reconcile
from router.core.control.treatment import conditions, why_left_to_people
from router.core.detection.assessment import Assessment, Verdict
from router.core.fleet.states import state_of
from router.core.models import CellRecord, CellState, InstanceView, LeaseView, Rung, Treatment
from router.core.policy import NO_POLICY, Policy, why_unlaunchable
from router.core.slot_map.slots import SlotMap, assign

CELL = "cell-0000"
RECORD = CellRecord(CELL, generation=3, launched=3, verified=3, admitted_at_ms=1)
FROZEN = NO_POLICY.with_frozen(CELL, frozen=True)
EVICT = NO_POLICY.with_order(CELL, 3, evict=True)
REPLACE = NO_POLICY.with_order(CELL, 3, evict=False)
USELESS = replace(RECORD, treatment=Treatment(Rung.GUARDED, 1, 3, "failing", "why", ejected=True))


def lease(generation: int) -> LeaseView:
    """The lease of a live, ready instance."""
    return LeaseView(CELL, generation, "i", "a:1", 8, ready=True, live=True)


def observed(policy: Policy, record: CellRecord, *alive: int, dead: tuple[int, ...] = ()) -> Observed:
    """One cell, and its instances by generation."""
    instances = [InstanceView(CELL, generation, running=True) for generation in alive]
    instances += [InstanceView(CELL, generation, running=False, detail="exit code 1") for generation in dead]
    leases = tuple(lease(generation) for generation in alive)
    slot_map = SlotMap(1, assign(None, {CELL: 1.0}))
    return Observed(100_000, {CELL: record}, leases, tuple(instances), slot_map, True, policy)


def actions(seen: Observed, *, can_launch: bool = True) -> list[Action]:
    """Reconcile the one cell with what is desired."""
    return reconcile(Desired((CELL,), can_launch), seen)


def test_nothing_is_launched_for_a_frozen_cell_whose_instance_died() -> None:
    """Until it is unfrozen, or a person orders another."""
    assert actions(observed(FROZEN, RECORD, dead=(3,))) == []
    assert [type(action) for action in actions(observed(NO_POLICY, RECORD, dead=(3,)))] == [Launch]
    for evict in (True, False):
        ordered = FROZEN.with_order(CELL, 3, evict=evict)
        assert [type(action) for action in actions(observed(ordered, RECORD, dead=(3,)))] == [Launch]


def test_the_first_instance_of_a_frozen_cell_is_launched() -> None:
    """Until then there is no instance that could be left as it is."""
    assert [type(a) for a in actions(observed(FROZEN, CellRecord(CELL)))] == [Launch]


def test_what_was_launched_before_its_cell_was_frozen_does_not_take_over() -> None:
    """Though it is ready, it is given up, not admitted, and ended, unless a person has ordered it."""
    launching = replace(RECORD, launching=4, launched=4, launched_at_ms=99_000)
    assert actions(observed(FROZEN, launching, 3, 4)) == [GiveUpLaunch(CELL, 4, "the cell is frozen by hand")]
    assert actions(observed(FROZEN, replace(launching, launching=0), 3, 4)) == [
        Stop(CELL, 4, "generation 3 serves the cell")
    ]
    assert Admit(CELL, 4) in actions(observed(FROZEN.with_order(CELL, 3, evict=False), launching, 3, 4))


def test_where_others_start_the_workers_a_new_one_of_a_frozen_cell_is_admitted() -> None:
    """A person, or what a person has set up, has started it."""
    assert actions(observed(FROZEN, RECORD, 4), can_launch=False) == [Admit(CELL, 4)]


def test_evict_ends_the_instance_at_once_and_replace_does_not() -> None:
    """Both launch one other instance, and none when one is being launched already."""
    assert [type(action) for action in actions(observed(EVICT, RECORD, 3))] == [Stop, Launch]
    assert [type(action) for action in actions(observed(REPLACE, RECORD, 3))] == [Launch]
    launching = replace(RECORD, launching=4, launched=4, launched_at_ms=99_000)
    assert actions(observed(EVICT, launching, 3)) == [Stop(CELL, 3, "evicted by hand")]
    assert actions(observed(REPLACE, launching, 3)) == []
    assert actions(observed(EVICT, replace(launching, generation=4, launching=0, verified=4), 4)) == []


def test_where_others_start_the_workers_evict_ends_the_one_that_serves() -> None:
    """Whatever has started it starts it again. A replacement can't be ordered there."""
    seen = replace(observed(EVICT, RECORD, 3), instances=())
    assert actions(seen, can_launch=False) == [Stop(CELL, 3, "evicted by hand")]
    assert "none can be launched beside its instance" in why_unlaunchable(REPLACE, NO_POLICY)[0]
    assert why_unlaunchable(EVICT, NO_POLICY) == why_unlaunchable(REPLACE, REPLACE) == ()


def test_an_order_is_done_when_a_later_generation_has_the_traffic() -> None:
    """Until then it is to be done, and an eviction counts for more than a replacement."""
    assert [policy.order_for(RECORD) for policy in (EVICT, REPLACE, NO_POLICY)] == ["evict", "replace", None]
    assert REPLACE.with_order(CELL, 3, evict=True).order_for(RECORD) == "evict"
    assert EVICT.order_for(replace(RECORD, generation=4)) is None
    assert EVICT.order_for(CellRecord(CELL)) is None


def test_a_frozen_cell_gets_its_events_though_automation_had_ejected_it() -> None:
    """A person's ejection counts nevertheless."""
    assert NO_POLICY.ejects(USELESS)
    assert not FROZEN.ejects(USELESS)
    assert FROZEN.with_ejected(CELL, ejected=True).ejects(USELESS)
    assert state_of(USELESS, lease(3)) is CellState.EJECTED
    assert state_of(USELESS, lease(3), FROZEN) is CellState.SERVING
    assert state_of(USELESS, None) is CellState.DOWN


def test_what_keeps_automation_from_a_cell_is_named() -> None:
    """A person's order keeps it from one cell; when it can't trust what it measures, it is suspended for all."""
    orders = (FROZEN, EVICT, REPLACE, NO_POLICY.with_ejected(CELL, ejected=True), NO_POLICY)
    assert [why_left_to_people(observed(policy, RECORD, 3), RECORD) for policy in orders] == [
        "frozen by hand",
        "a person wants to evict its instance",
        "a person wants to replace its instance",
        "ejected by hand",
        None,
    ]
    seen = observed(NO_POLICY, RECORD, 3)
    assert [seen.suspended_by, replace(seen, why_blind="late").suspended_by] == [None, Suspension.BLIND]


def test_people_are_told_why_nothing_is_done_about_a_cell() -> None:
    """A person's order comes before automation's suspension, and that before a guard; a healthy cell has no reason."""
    desired = Desired((CELL,), can_launch=True)

    def told(policy: Policy, verdict: Verdict, why_blind: str | None = None) -> str | None:
        seen = observed(policy, RECORD, 3)
        seen = replace(seen, health={CELL: Health(Assessment(CELL, verdict), 0)}, why_blind=why_blind)
        return conditions(desired, seen)[CELL].why_untreated

    assert told(FROZEN, Verdict.SLOW, "late") == "frozen by hand"
    assert told(NO_POLICY, Verdict.SLOW, "late") == told(NO_POLICY, Verdict.HEALTHY, "late") == "late"
    assert told(NO_POLICY, Verdict.SLOW) == "the only cell: there is nothing to compare it with"
    assert told(NO_POLICY, Verdict.HEALTHY) is told(NO_POLICY, Verdict.HUNG) is None
