"""Cells as JSON: what the router sees of its lanes, what the controller sees in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.core.control.reconcile import state_of
from router.core.models import CellRecord, CellState, Reason
from router.core.registry import CONDITION_FRESH_MS, Condition, Snapshot
from router.services.data_plane.dispatcher import CellPath, Dispatcher


@dataclass(frozen=True, slots=True)
class LaneView:
    """One entry of a router's GET /cells."""

    cell_id: str
    state: str  # serving, ejected, or down while no instance can be reached
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
    verdict: str  # the leader's on this instance; empty when it says nothing of now, likewise below
    rule: str  # in words, what the verdict is by
    verdict_for_s: float  # for how long it has been so
    shift: float | None  # D: the log of its latency beside the other cells'
    canary_s: float | None
    rung: str  # on the ladder
    why: str  # it is there
    why_untreated: Reason | None  # why nothing is done about it, or would be if it were sick
    ejected: bool  # its events wait, by hand or by the ladder
    frozen: bool  # by hand
    order: str  # a person's that isn't done yet: evict, replace


def fresh(condition: Condition | None, record: CellRecord, now_ms: int) -> Condition | None:
    """What the leader says of the cell's present instance, if it says something of now."""
    if condition is None or condition.generation != record.generation or now_ms - condition.at_ms > CONDITION_FRESH_MS:
        return None
    return condition


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One entry of a controller's GET /targets, as Prometheus' http_sd_configs wants it."""

    targets: list[str]
    labels: dict[str, str]


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
                state=_state(path),
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


def cell_views(snapshot: Snapshot, conditions: Mapping[str, Condition]) -> list[CellView]:
    """What the registry holds."""
    slots = snapshot.slot_map.counts() if snapshot.slot_map else {}
    return [
        _cell_view(cell, snapshot, slots.get(cell.cell_id, 0), conditions.get(cell.cell_id))
        for cell in sorted(snapshot.cells.values(), key=lambda cell: cell.cell_id)
    ]


def _cell_view(cell: CellRecord, snapshot: Snapshot, slots: int, said: Condition | None) -> CellView:
    policy, condition = snapshot.policy, fresh(said, cell, snapshot.now_ms)
    lease = snapshot.lease(cell.cell_id, cell.generation)
    found = condition.assessment if condition is not None else None
    return CellView(
        cell_id=cell.cell_id,
        state=state_of(cell, lease, policy),
        generation=cell.generation,
        launching=cell.launching,
        address=lease.address if lease is not None else "",
        slots=slots,
        verdict=found.verdict if found is not None else "",
        rule=(found.rule or "") if found is not None else "",
        verdict_for_s=round(found.lasted_s, 1) if found is not None else 0.0,
        shift=found.shift if found is not None else None,
        canary_s=found.canary_s if found is not None else None,
        rung=cell.treatment.rung,
        why=cell.treatment.why,
        why_untreated=condition.why_untreated if condition is not None else None,
        ejected=policy.ejects(cell),
        frozen=cell.cell_id in policy.frozen,
        order=policy.order_for(cell) or "",
    )


def _state(path: CellPath) -> CellState:
    if path.lane.ejected:
        return CellState.EJECTED
    return CellState.SERVING if path.lane.passable() else CellState.DOWN


def scrape_targets(snapshot: Snapshot) -> list[ScrapeTarget]:
    """The admitted instances, those that have lost their lease too: Prometheus shall see that they are gone."""
    admitted = sorted((cell for cell in snapshot.cells.values() if not cell.retired), key=lambda cell: cell.cell_id)
    # The label is as on the routers' own series, so that the two can be joined.
    return [
        ScrapeTarget([lease.address], {"cell": cell.cell_id})
        for cell in admitted
        if (lease := snapshot.lease(cell.cell_id, cell.generation))
    ]
