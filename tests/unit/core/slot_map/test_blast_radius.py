"""Blast radius: shares add up, and cells that are gone leave their part to the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.models import Traffic, cell_ids
from router.core.slot_map.blast_radius import blast_radii, combined_traffic, moved_traffic
from router.core.slot_map.slots import SLOTS, SlotMap, assign

MAP = SlotMap(1, assign(None, dict.fromkeys(cell_ids(4), 1.0)))
SEEN = {"cell-0000": Traffic(700, 10), "cell-0001": Traffic(100, 10), "cell-0002": Traffic(200, 20)}


def test_a_cell_takes_its_slots_its_events_and_its_tenants() -> None:
    """The largest comes first; a cell without traffic still has its keys."""
    found = blast_radii(MAP.counts(), SEEN, {cell_id: cell_id for cell_id in cell_ids(4)})
    assert [(r.name, r.keys, r.events, r.tenants) for r in found] == [
        ("cell-0000", 0.25, 0.7, 0.25),
        ("cell-0002", 0.25, 0.2, 0.5),
        ("cell-0001", 0.25, 0.1, 0.25),
        ("cell-0003", 0.25, 0, 0),
    ]


def test_zones_take_what_their_cells_have() -> None:
    """Cells whose zone is not known are counted together."""
    found = blast_radii(MAP.counts(), SEEN, {"cell-0000": "a", "cell-0001": "a", "cell-0002": "b"})
    assert [(r.name, r.keys, r.largest) for r in found] == [
        ("a", 0.5, 0.8),
        ("b", 0.25, 0.5),
        ("(not known)", 0.25, 0.25),
    ]


def test_routers_add_up_their_events_and_share_their_tenants() -> None:
    """Events add up; tenants don't, since every router sees nearly every tenant."""
    assert combined_traffic([SEEN, {"cell-0001": Traffic(5, 30)}])["cell-0001"] == Traffic(105, 30)
    assert combined_traffic([]) == {}


@given(st.integers(0, 3))
def test_what_is_gone_leaves_all_it_had_to_the_others(gone: int) -> None:
    """No events are lost but for rounding, and the other slots keep their owners."""
    left = [cell_id for number, cell_id in enumerate(cell_ids(4)) if number != gone]
    owners = assign(MAP.owners, dict.fromkeys(left, 1.0))
    then = moved_traffic(MAP, owners, SEEN)
    assert sum(seen.events for seen in then.values()) == pytest.approx(1000, abs=3)
    assert sum(r.keys for r in blast_radii(SlotMap(2, owners).counts(), then, {c: c for c in left})) == 1
    assert set(then) == set(left)
    assert len(owners) == SLOTS
