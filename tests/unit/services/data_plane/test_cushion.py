"""Routers send little at once to an instance that stands trial beside its twin."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.models import CellRecord, LeaseView
from router.core.registry import Snapshot
from router.core.slot_map.slots import SlotMap, assign
from router.services.data_plane.routing import routing_of

CELL = "cell-0000"
SLOT_MAP = SlotMap(1, assign(None, {CELL: 1}))
RECORD = CellRecord(CELL, generation=1, launching=2, launched=2, twin=2)
LEASES = tuple(LeaseView(CELL, generation, "i", "a:1", 8, ready=True, live=True) for generation in (1, 2))


@pytest.mark.parametrize(
    ("record", "leases", "cushioned"),
    [
        (RECORD, LEASES, True),
        (RECORD, LEASES[:1], False),
        (RECORD, (LEASES[0], replace(LEASES[1], ready=False)), False),
        (RECORD, (replace(LEASES[0], live=False), LEASES[1]), False),
        (replace(RECORD, twin=0), LEASES, False),
        (replace(RECORD, launching=0), LEASES, False),
    ],
    ids=["both ready", "no twin yet", "twin not ready", "instance gone", "no trial", "dismissed"],
)
def test_a_cell_is_cushioned_only_while_both_instances_are_ready(
    record: CellRecord, leases: tuple[LeaseView, ...], *, cushioned: bool
) -> None:
    """As long as the trial goes on, and no longer."""
    routing = routing_of(Snapshot(1, SLOT_MAP, {CELL: record}, leases, ""), None)
    assert routing is not None
    assert routing.cushioned == ({CELL} if cushioned else set())
