"""An instance that will end, as is known in advance, is replaced as one that is dead: before it has ended. Pure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.control.actions import Action, Admit, GiveUpLaunch, Launch, Stop
from router.core.control.observed import Desired, Observed
from router.core.control.reconcile import reconcile
from router.core.models import CellRecord, InstanceView, LeaseView
from router.core.policy import Policy
from router.core.slot_map.slots import SlotMap, assign

CELL = "cell-0000"
RECORD = CellRecord(CELL, generation=3, launched=3, verified=3, address="10.0.0.3:8080")
ENDING = "spot, which may pass: Fargate Spot wants the capacity back"


def lease(generation: int, *, ready: bool = True) -> LeaseView:
    """The live lease of a generation."""
    return LeaseView(CELL, generation, f"i{generation}", f"10.0.0.{generation}:8080", 8, ready=ready, live=True)


def instance(generation: int, ending: str | None = None) -> InstanceView:
    """A running instance as its provisioner sees it."""
    return InstanceView(CELL, generation, running=True, address=f"10.0.0.{generation}:8080", ending=ending)


def decided(observed: Observed) -> list[Action]:
    """What is done about instances, with a launch's time of 90 s."""
    actions = reconcile(Desired((CELL,), can_launch=True, launch_timeout_s=90), observed)
    return [action for action in actions if isinstance(action, Launch | Admit | GiveUpLaunch | Stop)]


def seen(record: CellRecord, *instances: InstanceView, leases: tuple[LeaseView, ...] = ()) -> Observed:
    """One cell, at one moment."""
    return Observed(
        now_ms=1_000_000,
        cells={CELL: record},
        leases=leases or (lease(3),),
        instances=instances,
        slot_map=SlotMap(1, assign(None, {CELL: 1.0})),
        leases_trusted=True,
    )


def test_its_replacement_is_launched_while_it_serves() -> None:
    """Once: while one is being launched, no other is. What serves is not stopped before another is admitted."""
    [launch] = decided(seen(RECORD, instance(3, ENDING)))
    assert launch == Launch(CELL, f"generation 3 will end: {ENDING}", above=3)
    launching = replace(RECORD, launching=4, launched=4, launched_at_ms=999_000)
    assert decided(seen(launching, instance(3, ENDING), instance(4))) == []
    both = (lease(3), lease(4))
    assert decided(seen(launching, instance(3, ENDING), instance(4), leases=both)) == [Admit(CELL, 4)]
    admitted = replace(RECORD, generation=4, launched=4, verified=4, address="10.0.0.4:8080")
    [stop] = decided(seen(admitted, instance(3, ENDING), instance(4), leases=both))
    assert isinstance(stop, Stop)
    assert stop.generation == 3


def test_one_that_drains_is_replaced_too() -> None:
    """Its own lease says that it takes no more events: whoever has told it to end, it will."""
    [launch] = decided(seen(RECORD, instance(3), leases=(lease(3, ready=False),)))
    assert launch == Launch(CELL, "generation 3 drains and will end", above=3)
    assert decided(seen(RECORD, instance(3))) == []


def test_a_candidate_that_will_end_is_given_up() -> None:
    """However ready it is: it would have the traffic for a minute."""
    launching = replace(RECORD, launching=4, launched=4, launched_at_ms=999_000)
    actions = decided(seen(launching, instance(3), instance(4, ENDING), leases=(lease(3), lease(4))))
    assert actions == [GiveUpLaunch(CELL, 4, f"will end before it is ready: {ENDING}")]


@pytest.mark.parametrize("failures", [1, 5])
def test_after_failed_launches_it_waits_as_ever(failures: int) -> None:
    """A notice is no reason to hurry on: there may be no capacity."""
    failed = replace(RECORD, launch_failures=failures, launched_at_ms=1_000_000)
    assert decided(seen(failed, instance(3, ENDING))) == []


def test_a_frozen_cell_is_left_alone() -> None:
    """A person has it in hand."""
    frozen = replace(seen(RECORD, instance(3, ENDING)), policy=Policy(frozen=frozenset({CELL})))
    assert decided(frozen) == []


def test_the_last_word_of_a_candidate_is_told_where_its_log_can_not_be_read() -> None:
    """ECS gives an exit code alone. What the log has said already is not told twice; a note of the living is none."""
    why = "CELL_HANDLER=orders:handle: ModuleNotFoundError: No module named 'orders'"
    launching = replace(RECORD, launching=4, launched=4, launched_at_ms=999_000)
    word = replace(lease(4, ready=False), live=False, released=True, note=why)
    for detail, note, said in (
        ("exit code 1", word, f"exit code 1: {why}"),
        (
            f"exit code 1; its last words:\ncell-worker: {why}",
            word,
            f"exit code 1; its last words:\ncell-worker: {why}",
        ),
        ("exit code 1", replace(word, released=False), "exit code 1"),
    ):
        ended = InstanceView(CELL, 4, running=False, detail=detail)
        actions = decided(seen(launching, instance(3), ended, leases=(lease(3), note)))
        assert actions == [GiveUpLaunch(CELL, 4, f"exited before it was ready: {said}")]
