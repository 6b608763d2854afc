"""What a controller remembers for a registry that has lost it."""

from __future__ import annotations

from router.core.control.recollection import Recollection, why_restored
from router.core.models import CellRecord
from router.core.policy import NO_POLICY, Policy
from router.core.registry import Change, Snapshot
from router.core.slot_map.slots import SlotMap, assign

CELL = "cell-0000"
MAP = SlotMap(7, assign(None, {CELL: 1.0}))
RECORD = CellRecord(CELL, generation=2, launched=3, fence=5)
KNOWN = Recollection().with_map(MAP).with_policy(Policy(version=4)).with_cells({CELL: RECORD})


def snapshot(slot_map: SlotMap | None, policy: Policy, cells: dict[str, CellRecord]) -> Snapshot:
    """A registry that holds these."""
    return Snapshot(1, slot_map, cells, (), "c", policy)


def test_an_emptied_registry_has_lost_everything() -> None:
    """All of it is written again, and the audit says what it was."""
    lost = KNOWN.lost_by(snapshot(None, NO_POLICY, {}))
    assert lost == Change([RECORD], MAP, Policy(version=4))
    assert why_restored(lost) == "the registry had lost 1 cells, the map, the policy"


def test_a_registry_that_is_up_to_date_has_lost_nothing() -> None:
    """Nor has one that is newer than what the controller remembers."""
    assert KNOWN.lost_by(snapshot(MAP, Policy(version=4), {CELL: RECORD})) is None
    newer = CellRecord(CELL, generation=3, launched=3, fence=5)
    assert KNOWN.lost_by(snapshot(SlotMap(8, MAP.owners), Policy(version=5), {CELL: newer})) is None


def test_only_what_is_older_is_written_again() -> None:
    """A replica that lagged at a failover has an older record, and the newest map."""
    lagging = CellRecord(CELL, generation=2, launched=2, fence=5)
    lost = KNOWN.lost_by(snapshot(MAP, Policy(version=4), {CELL: lagging}))
    assert lost == Change([RECORD])
    assert why_restored(lost) == "the registry had lost 1 cells"
