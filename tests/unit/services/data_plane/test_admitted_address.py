"""Events go only where the controller's own canary was answered, whatever a lease says of its address."""

from __future__ import annotations

from dataclasses import replace

from router.core.control.lease_trust import Doubt
from router.core.control.observed import Desired, Observed
from router.core.control.reconcile import reconcile
from router.core.models import CellRecord, LeaseView
from router.core.registry import Snapshot
from router.core.slot_map.slots import SlotMap, assign
from router.services.data_plane.routing import routing_of

CELL = "cell-0000"
HERE, ELSEWHERE = "10.0.0.1:80", "10.6.6.6:80"
RECORD = CellRecord(CELL, 3, launched=3, verified=3, address=HERE)
LEASE = LeaseView(CELL, 3, "i", HERE, 8, ready=True, live=True)
SLOT_MAP = SlotMap(1, assign(None, {CELL: 1}))


def targets(record: CellRecord, lease: LeaseView, doubted: Doubt) -> dict[str, str]:
    """Return the address of each cell's target."""
    found = routing_of(Snapshot(1, SLOT_MAP, {CELL: record}, (lease,), ""), None, doubted)
    assert found is not None
    return {cell_id: target.address for cell_id, target in found.targets.items()}


def test_a_lease_from_elsewhere_than_was_admitted_makes_no_target() -> None:
    """It may be signed with the cell's own key: somebody who has taken the cell over has that."""
    for doubted in (Doubt(), Doubt(frozenset({CELL}), "why")):
        assert targets(RECORD, LEASE, doubted) == {CELL: HERE}
        assert targets(RECORD, replace(LEASE, address=ELSEWHERE), doubted) == {}
        assert targets(replace(RECORD, address=""), LEASE, doubted) == {CELL: HERE}


def test_an_instance_that_came_up_elsewhere_is_verified_there() -> None:
    """A container that was started again has another address; then its canary decides."""
    desired = Desired((CELL,), can_launch=True)
    for address, actions in ((HERE, []), (ELSEWHERE, ["Verify"])):
        lease = replace(LEASE, address=address)
        observed = Observed(1, {CELL: RECORD}, (lease,), (), SLOT_MAP, leases_trusted=True)
        assert [type(action).__name__ for action in reconcile(desired, observed)] == actions
