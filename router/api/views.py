"""Cells as JSON: what the router sees of its lanes, what the controller sees in the registry."""

from __future__ import annotations

from dataclasses import dataclass

from router.core.models import CellState
from router.core.reconcile import state_of
from router.ports import Snapshot
from router.services.dispatcher import Dispatcher


@dataclass(frozen=True, slots=True)
class LaneView:
    """One entry of a router's GET /cells."""

    cell_id: str
    state: str  # serving, or down while no instance can be reached
    generation: int
    address: str
    slots: int
    waiting: int
    in_flight: int
    window: int  # how many may be in flight
    answered: int  # events with outcome ok since this router started
    p50_ms: float
    p99_ms: float  # of the last 512 events


@dataclass(frozen=True, slots=True)
class CellView:
    """One entry of a controller's GET /cells."""

    cell_id: str
    state: str
    generation: int
    launching: int  # the generation being launched; 0 for none
    address: str
    slots: int


def lane_views(dispatcher: Dispatcher) -> list[LaneView]:
    """What the router knows."""
    slots = dispatcher.slot_map.counts() if dispatcher.slot_map else {}
    views = []
    for cell_id, path in sorted(dispatcher.paths.items()):
        lane = path.lane
        p50, p99 = lane.latency.quantiles(0.5, 0.99)
        views.append(
            LaneView(
                cell_id=cell_id,
                state=CellState.SERVING if lane.passable() else CellState.DOWN,
                generation=lane.target.generation if lane.target else 0,
                address=lane.target.address if lane.target else "",
                slots=slots.get(cell_id, 0),
                waiting=lane.waiting,
                in_flight=lane.in_flight,
                window=lane.window,
                answered=lane.answered,
                p50_ms=round(p50 * 1000, 1),
                p99_ms=round(p99 * 1000, 1),
            )
        )
    return views


def cell_views(snapshot: Snapshot) -> list[CellView]:
    """What the registry holds."""
    slots = snapshot.slot_map.counts() if snapshot.slot_map else {}
    leases = {(lease.cell_id, lease.generation): lease for lease in snapshot.leases}
    return [
        CellView(
            cell_id=cell.cell_id,
            state=state_of(cell, leases),
            generation=cell.generation,
            launching=cell.launching,
            address=lease.address if (lease := leases.get((cell.cell_id, cell.generation))) else "",
            slots=slots.get(cell.cell_id, 0),
        )
        for cell in sorted(snapshot.cells.values(), key=lambda cell: cell.cell_id)
    ]
