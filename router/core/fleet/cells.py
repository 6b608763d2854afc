"""The cells of the page: how each is, since when, and what routers see of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp

from router.core.detection.samples import CellSample, RouterSample
from router.core.fleet.cell_health import BAD, CellHealth, judged
from router.core.models import CellRecord, CellState, Reason
from router.core.registry import Snapshot
from router.core.views import CellView


@dataclass(frozen=True, slots=True)
class Load:
    """What routers saw of a cell, or of all cells, in their last second. Times are in seconds."""

    rate: float = 0.0  # events answered a second
    latency_s: float | None = None  # geometric mean of those answered well; None: there was none
    slowest_s: float = 0.0  # of late
    oldest_s: float = 0.0  # age of the oldest event in flight
    tenants: int = 0  # with events in flight, at the router that sees most
    failing: float = 0.0  # share of the events that were answered badly


@dataclass(frozen=True, slots=True)
class FleetCell:
    """One cell of the page."""

    view: CellView
    health: CellHealth
    says: Reason | None  # why it is not well
    since_ms: int  # since when it is so; 0: not known
    load: Load
    draining: bool


def fleet_cells(
    snapshot: Snapshot, cells: Sequence[CellView], samples: Mapping[str, RouterSample]
) -> tuple[FleetCell, ...]:
    """Judge every cell that is one of the cells, ordered by cell."""
    found = []
    for view in cells:
        if view.state is CellState.RETIRED:
            continue
        record = snapshot.cells[view.cell_id]
        health, says = judged(view, record)
        seen = [sample.cells[view.cell_id] for sample in samples.values() if view.cell_id in sample.cells]
        draining = view.cell_id in snapshot.policy.draining
        since_ms = _since(view, health, record, snapshot.now_ms)
        found.append(FleetCell(view, health, says, since_ms, load_of(seen), draining))
    return tuple(found)


def load_of(samples: Sequence[CellSample]) -> Load:
    """Add up what routers saw in their last second."""
    events, ok = sum(sample.events for sample in samples), sum(sample.ok for sample in samples)
    if not samples:
        return Load()
    return Load(
        rate=float(events),
        latency_s=exp(sum(sample.log_s for sample in samples) / ok) if ok else None,
        slowest_s=max(sample.slowest_s for sample in samples),
        oldest_s=max(sample.oldest_s for sample in samples),
        tenants=max(sample.waiting_tenants for sample in samples),
        failing=(events - ok) / events if events else 0.0,
    )


def _since(view: CellView, health: CellHealth, record: CellRecord, now_ms: int) -> int:
    """Since when a cell is as it is; 0: that is not known."""
    if health in BAD and record.treatment.since_ms:
        return record.treatment.since_ms
    if view.verdict_for_s:
        return now_ms - round(view.verdict_for_s * 1000)
    if view.launching:
        return record.launched_at_ms
    return record.admitted_at_ms if health is CellHealth.WELL else 0
