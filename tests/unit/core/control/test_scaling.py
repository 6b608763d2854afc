"""What the leader reads of the load, and what keeps it from changing the number of cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from router.core.control.actions import ChangeCells, MoveSlot
from router.core.control.moves import with_change
from router.core.control.observed import Desired, Observed
from router.core.control.reconcile import reconcile
from router.core.control.scaling import measured, scaling_decision, why_not_seen
from router.core.detection.samples import CellSample, RouterSample
from router.core.models import CellRecord, LeaseView, RouterReport, RouterView, Rung, Treatment, Vitals, cell_ids
from router.core.policy import MAX_HOMES, NO_POLICY, Policy, judge
from router.core.release import Phase, Release, Wave
from router.core.scaling.hot import CellUse, SlotUse
from router.core.scaling.seen import CellShares, LoadReading, LoadSeen
from router.core.scaling.wanted import Scaling
from router.core.slot_map.slots import SlotMap, assign

CELLS = cell_ids(3)
DESIRED = Desired(CELLS, can_launch=True)
FULL = LoadSeen(
    whole_s=1000,
    floor=0.9,
    sure_floor=0.9,
    used=0.9,
    sure=0.9,
    places=0.9,
    cpu=0.9,
    behind=False,
    peak=0.9,
    was_behind=False,
)
EMPTY = replace(FULL, used=0.1, sure=0.1, places=0.1, cpu=0.1, peak=0.1)
POLICY = Policy(scaling=Scaling(2, 4))
RELEASE = Release("new", (Wave(percent=100.0),), number=3, phase=Phase.BAKING)


def vitals(cpu: float, cpus: float = 1.0) -> Vitals:
    """What a worker that uses so much of its CPU says."""
    return Vitals(cpus, cpu, waited=0, throttled=None, lag_s=0, gc=0, write_s=0, slowest_write_s=0)


def lease(cell_id: str, **fields: Any) -> LeaseView:
    """A live lease with 16 places."""
    made = LeaseView(cell_id, 1, "i", f"{cell_id}:1", 16, ready=True, live=True, vitals=vitals(0.2))
    return replace(made, **fields)


def router(name: str, *, hold: int = 0, age_s: int = 0) -> RouterView:
    """A live router that says so much of its queues."""
    report = RouterReport(name, 1, quiet=True, queues={"hold": hold}, ages={"source": age_s})
    return RouterView(report, live=True)


OBSERVED = Observed(
    now_ms=1_700_000_000_000,
    cells={cell_id: CellRecord(cell_id, 1, launched=1, verified=1, address=f"{cell_id}:1") for cell_id in CELLS},
    leases=tuple(map(lease, CELLS)),
    instances=(),
    slot_map=SlotMap(1, assign(None, dict.fromkeys(CELLS, 1.0))),
    leases_trusted=True,
    policy=POLICY,
    routers=(router("a"), router("b")),
    load=FULL,
)
HALF = {cell_id: CellSample(1, events=10, ok=10, busy_s=4.0) for cell_id in CELLS}
SAMPLES = {"a": RouterSample(1, 0.0, HALF), "b": RouterSample(1, 0.0, HALF)}


def record_with(observed: Observed, cell_id: str, **fields: Any) -> Observed:
    """Change one cell's record."""
    return replace(observed, cells={**observed.cells, cell_id: replace(observed.cells[cell_id], **fields)})


def policy_with(observed: Observed, **fields: Any) -> Observed:
    """Change the policy in force."""
    return replace(observed, policy=replace(observed.policy, **fields))


def test_quiet_cells_get_one_more_or_one_fewer_and_nothing_else() -> None:
    """The action says how many there are, how many there shall be, and why."""
    (more,) = reconcile(DESIRED, OBSERVED)
    assert isinstance(more, ChangeCells)
    assert (more.now, more.cells) == (3, 4)
    (fewer,) = reconcile(DESIRED, replace(OBSERVED, load=EMPTY))
    assert isinstance(fewer, ChangeCells)
    assert (fewer.now, fewer.cells) == (3, 2)
    assert reconcile(DESIRED, policy_with(OBSERVED, scaling=None)) == []


KEPT: dict[str, tuple[Callable[[Observed], Observed], str]] = {
    "a release": (lambda found: policy_with(found, release=RELEASE), "a release runs"),
    "another scaling": (lambda found: policy_with(found, scaling_from=2), "is being changed"),
    "a launch": (lambda found: record_with(found, "cell-0001", launching=2, launched=2), "is being launched"),
    "a treatment": (
        lambda found: record_with(found, "cell-0001", treatment=Treatment(Rung.REPLACING)),
        "cell-0001 is treated",
    ),
    "an ejection": (lambda found: policy_with(found, ejected=frozenset({"cell-0002"})), "cell-0002 is ejected"),
    "a dead instance": (lambda found: replace(found, leases=found.leases[:2]), "cell-0002 does not serve"),
    "a cell that goes": (
        lambda found: replace(found, cells={**found.cells, "cell-0003": CellRecord("cell-0003", 1)}),
        "cell-0003 is being taken away",
    ),
    "slots on their way": (lambda found: policy_with(found, weights={"cell-0000": 2.0}), "on their way"),
    "nothing seen": (lambda found: replace(found, load=None), "nothing is seen"),
    "a gap": (lambda found: replace(found, why_load_unknown="no router lives"), "no router lives"),
}


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("load", [FULL, EMPTY], ids=["full", "empty"])
def test_nothing_is_changed_while_something_else_goes_on(kept: str, load: LoadSeen) -> None:
    """Whatever the load is; and what it waits for is said."""
    change, says = KEPT[kept]
    observed = change(replace(OBSERVED, load=load))
    assert not [action for action in reconcile(DESIRED, observed) if isinstance(action, ChangeCells)]
    why = why_not_seen(DESIRED, observed)
    found = scaling_decision(DESIRED, replace(observed, why_load_unknown=why or observed.why_load_unknown))
    assert found is not None
    assert found.change == 0
    assert says in found.why


def test_a_hot_slot_is_moved_while_the_cells_as_a_whole_are_enough() -> None:
    """Not where one more cell is wanted, and not while something else may be to blame."""
    steady = replace(EMPTY, peak=0.5)
    hot = CellUse(0.9, (SlotUse(7, 0.3, "acme", 0.3),))
    uses = {"cell-0000": hot, "cell-0001": CellUse(0.2, ()), "cell-0002": CellUse(0.1, ())}
    observed = replace(OBSERVED, load=steady, uses=uses)
    (move,) = reconcile(DESIRED, observed)
    assert isinstance(move, MoveSlot)
    assert (move.slot, move.cell_id) == (7, "cell-0002")
    assert with_change(observed.policy, move).homes == {7: "cell-0002"}
    (more,) = reconcile(DESIRED, replace(observed, load=FULL))
    assert isinstance(more, ChangeCells)
    for kept in (
        policy_with(observed, cordoned=frozenset({"cell-0001", "cell-0002"})),
        policy_with(observed, homes=dict.fromkeys(range(MAX_HOMES), "cell-0001")),
        record_with(observed, "cell-0001", treatment=Treatment(Rung.GUARDED)),
        replace(observed, why_blind="the routers are late"),
        replace(observed, why_load_unknown="no router lives"),
    ):
        assert not [each for each in reconcile(DESIRED, kept) if isinstance(each, MoveSlot)]


def test_what_was_moved_to_a_cell_that_goes_is_let_go() -> None:
    """The slot goes where the others go, and stays in no cell that there is no more."""
    policy = replace(POLICY, homes={7: "cell-0002", 8: "cell-0001"})
    assert with_change(policy, ChangeCells(2, 3, "why")).homes == {8: "cell-0001"}


def test_a_cell_with_a_pinned_key_stays_and_the_key_is_named() -> None:
    """What a person has decided about the last cell is not thrown over by the load."""
    slot_map = replace(SlotMap(1, assign(None, dict.fromkeys(CELLS, 1.0))), pins={"acme": "cell-0002"})
    observed = replace(policy_with(OBSERVED, pins={"acme": "cell-0002"}), slot_map=slot_map, load=EMPTY)
    found = scaling_decision(DESIRED, observed)
    assert found is not None
    assert found.change == 0
    assert "'acme' is pinned to cell-0002" in found.why


def test_no_cell_is_taken_away_while_another_one_is_not_well() -> None:
    """A guarded cell keeps none from being added, but the others may have to bear its load."""
    guarded = record_with(OBSERVED, "cell-0000", treatment=Treatment(Rung.GUARDED))
    found = [scaling_decision(DESIRED, replace(guarded, load=load)) for load in (FULL, EMPTY)]
    assert [each.change for each in found if each is not None] == [1, 0]


def shares(found: LoadReading | str) -> CellShares:
    """Return what is in use of every cell: all are alike here."""
    assert isinstance(found, LoadReading)
    assert found.by_cell.keys() == set(CELLS)
    (same,) = set(found.by_cell.values())
    return same


def test_what_is_in_use_is_what_a_cell_has_least_of() -> None:
    """Two routers with 4 s of work a second each fill half of 16 places; CPU counts by the core that Python has."""
    assert shares(measured(DESIRED, OBSERVED, SAMPLES)) == (0.5, 0.2, 0.0)
    busy = replace(OBSERVED, leases=tuple(lease(cell_id, vitals=vitals(0.2, cpus=4)) for cell_id in CELLS))
    assert shares(measured(DESIRED, busy, SAMPLES)) == (0.5, 0.8, 0.0)
    rated = policy_with(OBSERVED, scaling=replace(POLICY.scaling, cell_rate=25.0))  # type: ignore[type-var]
    assert shares(measured(DESIRED, rated, SAMPLES)) == (0.5, 0.2, 0.8)


@pytest.mark.parametrize(
    ("routers", "behind"),
    [
        ((router("a", age_s=60), router("b")), False),
        ((router("a", age_s=61), router("b")), True),
        ((router("a", hold=3600), router("b")), False),
        ((router("a", hold=3601), router("b")), True),
    ],
)
def test_events_that_wait_for_more_than_a_minute_wait_too_long(routers: tuple[RouterView, ...], behind: bool) -> None:
    """In the source by their age, in hold queues by the time to empty them, at 60 events a second."""
    found = measured(DESIRED, replace(OBSERVED, routers=routers), SAMPLES)
    assert isinstance(found, LoadReading)
    assert found.behind is behind


def test_what_is_not_known_is_no_reading() -> None:
    """An idle cell is left out of samples and counts as idle; a silent router or worker is something else."""
    idle = {"a": SAMPLES["a"], "b": RouterSample(1, 0.0, {})}
    assert shares(measured(DESIRED, OBSERVED, idle)) == (0.25, 0.2, 0.0)
    missing = replace(OBSERVED, leases=(*OBSERVED.leases[:2], lease("cell-0002", vitals=None)))
    unasked = RouterView(RouterReport("b", 1, quiet=True), live=True)
    for observed, samples in (
        (OBSERVED, {"a": SAMPLES["a"]}),
        (replace(OBSERVED, routers=()), SAMPLES),
        (replace(OBSERVED, routers=(OBSERVED.routers[0], unasked)), SAMPLES),
        (replace(OBSERVED, why_blind="late"), SAMPLES),
        (missing, SAMPLES),
    ):
        assert isinstance(measured(DESIRED, observed, samples), str)


def test_the_leader_refuses_bounds_that_the_cells_are_outside_of() -> None:
    """Both ways: bounds around another number of cells, and another number of cells than the bounds allow."""

    def reasons(wanted: Policy, current: Policy, cells: int, *, can_launch: bool = True) -> str:
        ruling, _ = judge("p", wanted, current, cell_ids(cells), CELLS, can_launch=can_launch, generations={})
        return "; ".join(ruling.reasons)

    assert reasons(POLICY, NO_POLICY, 3) == ""
    assert "not 3" in reasons(Policy(scaling=Scaling(4, 8)), NO_POLICY, 3)
    assert "not 6" in reasons(POLICY.with_cells(6, 3), POLICY, 6)
    assert "can't follow the load" in reasons(POLICY, NO_POLICY, 3, can_launch=False)
