"""Which cell a drill is done to, which drill goes on or was the last, and where none is done."""

from __future__ import annotations

import pytest

from router.core.drills.kinds import DrillKind, last_ms, noted, under_way, victim_of, why_not_well, why_refused
from router.core.models import CellRecord
from router.core.registry import AuditEntry, DrillAction, Snapshot
from router.core.slot_map.slots import SlotMap, assign

CELLS = ("cell-0000", "cell-0001", "cell-0002")
HOUR_MS = 3600_000


def entry(
    action: DrillAction, at_ms: int, drill_id: str, kind: DrillKind = DrillKind.KILL, cell: str = ""
) -> AuditEntry:
    """What the audit has of a drill."""
    return AuditEntry(at_ms, "me", action, cell, noted(kind, drill_id, "text"))


def snapshot(**weights: float) -> Snapshot:
    """Cells whose shares of the slots are these."""
    shares = {name.replace("_", "-"): weight for name, weight in weights.items()} or dict.fromkeys(CELLS, 1.0)
    return Snapshot(0, SlotMap(1, assign(None, shares)), {cell: CellRecord(cell, 1) for cell in CELLS}, (), "leader")


def test_each_cell_has_its_turn() -> None:
    """The largest comes first, then each that had none yet, then the one whose drill is longest ago."""
    found, audit = snapshot(cell_0000=1, cell_0001=3, cell_0002=2), list[AuditEntry]()
    turns = []
    for at_ms in range(1, 6):
        turns.append(victim_of(found, audit))
        audit.append(entry(DrillAction.BEGUN, at_ms, f"{at_ms:08x}", cell=turns[-1]))
    assert turns == ["cell-0001", "cell-0002", "cell-0000", "cell-0001", "cell-0002"]


def test_a_drill_goes_on_until_the_audit_tells_its_end_or_for_an_hour() -> None:
    """Of two, only the one that began first keeps the other from going on."""
    first, second = entry(DrillAction.BEGUN, 1, "0000000a"), entry(DrillAction.BEGUN, 2, "0000000b")
    assert under_way([], 3) is None
    assert under_way([first, second], 3) is first
    assert under_way([first, second], 3, "0000000b") is first
    assert under_way([first, second], 3, "0000000a") is None
    for over in (DrillAction.ENDED, DrillAction.REFUSED):
        assert under_way([first, second, entry(over, 3, "0000000a")], 3) is second
        assert under_way([first, entry(over, 3, "0000000a")], 3) is None
    assert under_way([first], HOUR_MS + 1) is None
    assert under_way([AuditEntry(1, "me", "drill", "", "somebody's words")], 2) is not None


def test_a_drill_that_was_refused_or_of_another_kind_was_none() -> None:
    """One that was killed in the middle was one: it is not done again at each restart."""
    audit = [
        entry(DrillAction.BEGUN, 1, "0000000a"),
        entry(DrillAction.BEGUN, 2, "0000000b"),
        entry(DrillAction.REFUSED, 3, "0000000b"),
        entry(DrillAction.BEGUN, 4, "0000000c", DrillKind.SLOW),
    ]
    assert last_ms(audit, DrillKind.KILL) == 1
    assert last_ms(audit, DrillKind.SLOW) == 4
    assert last_ms(audit, DrillKind.EVACUATE) is None


@pytest.mark.parametrize(
    ("environment", "kind", "in_live", "chaos", "why"),
    [
        ("live", DrillKind.EVACUATE, False, True, "drills.in_live"),
        ("live", DrillKind.KILL, True, False, "cells.chaos"),
        ("live", DrillKind.EVACUATE, True, False, None),
        ("stress", DrillKind.KILL, False, True, None),
        ("replay", DrillKind.SLOW, False, False, "cells.chaos"),
    ],
)
def test_where_drills_are_done(environment: str, kind: DrillKind, in_live: bool, chaos: bool, why: str | None) -> None:
    """Not in live unless switched on, and no fault where instances take none; the text names the setting."""
    found = why_refused(environment, kind, in_live=in_live, chaos=chaos)
    assert (found is None) == (why is None)
    assert why is None or why in str(found)


def test_what_is_missing_is_not_well() -> None:
    """Without a router, a leader or a map nothing is judged to be well."""
    assert why_not_well(snapshot(), {}) == "no router lives"
    assert why_not_well(Snapshot(0, None, {}, (), ""), {}) == "no controller leads"
