"""Makes the views of cells that people and Prometheus are shown: of a router's lanes, and of the registry."""

from __future__ import annotations

from collections.abc import Mapping

from router.core.addresses import host_of
from router.core.fleet.routes import wanted_cells
from router.core.fleet.states import state_of
from router.core.models import CellRecord, CellState
from router.core.registry import CONDITION_FRESH_MS, Condition, Snapshot
from router.core.release import progress
from router.core.views import CellView, FleetView, LaneView, ScalingView, ScrapeTarget
from router.services.control_plane.controller import LeaderView
from router.services.data_plane.dispatcher import CellPath, Dispatcher


def lane_views(dispatcher: Dispatcher) -> tuple[LaneView, ...]:
    """Show every lane of a router, ordered by cell."""
    slots = dispatcher.slot_map.counts() if dispatcher.slot_map else {}
    return tuple(
        _lane_view(path, slots.get(cell_id, 0), dispatcher.blocked_s(cell_id))
        for cell_id, path in sorted(dispatcher.paths.items())
    )


def fleet_view(view: LeaderView | None) -> FleetView | None:
    """Show what the leader sees; None while this controller does not lead."""
    if view is None:
        return None
    policy, decision = view.snapshot.policy, view.scaling
    scaling = None
    if policy.scaling is not None and decision is not None:
        used_share = view.load.used if view.load is not None else None
        scaling = ScalingView(len(wanted_cells(view.snapshot)), used_share, decision.short)
    used = tuple(lease.secret_id for lease in view.snapshot.leases if lease.live)
    cells = cell_views(view.snapshot, view.conditions)
    return FleetView(cells, view.suspended_by, policy.release, used, scaling)


def cell_views(snapshot: Snapshot, conditions: Mapping[str, Condition]) -> tuple[CellView, ...]:
    """Show every cell of the registry, ordered by cell; `conditions` are the leader's, by cell."""
    slots = snapshot.slot_map.counts() if snapshot.slot_map else {}
    return tuple(
        _cell_view(cell, snapshot, slots.get(cell_id, 0), conditions.get(cell_id))
        for cell_id, cell in sorted(snapshot.cells.items())
    )


def scrape_targets(snapshot: Snapshot, *own: ScrapeTarget) -> list[ScrapeTarget]:
    """List what Prometheus shall scrape: `own`, the live routers, and the admitted instances of cells.

    Instances that have lost their lease are among them: Prometheus shall see that they are gone.
    """
    routers = [view.report for view in snapshot.routers if view.live and host_of(view.report.address) is not None]
    admitted = [
        lease
        for cell_id, cell in sorted(snapshot.cells.items())
        if not cell.retired and (lease := snapshot.lease(cell_id, cell.generation))
    ]
    # The label `cell` is that of the routers' own series, so that the two can be joined.
    return [
        *own,
        *(scrape_target("router", router.router_id, router.address, router.zone) for router in routers),
        *(
            scrape_target("cell", f"{lease.cell_id}/{lease.generation}", lease.address, lease.zone, cell=lease.cell_id)
            for lease in admitted
        ),
    ]


def scrape_target(job: str, instance: str, address: str, zone: str, **labels: str) -> ScrapeTarget:
    """Make a target that is named by its instance: another one may have its address by the next scrape."""
    return ScrapeTarget([address], labels | {"job": job, "instance": instance} | ({"zone": zone} if zone else {}))


def _fresh(condition: Condition | None, record: CellRecord, now_ms: int) -> Condition | None:
    """Return the condition if it is of the cell's admitted instance and recent enough; else None."""
    if condition is None or condition.generation != record.generation or now_ms - condition.at_ms > CONDITION_FRESH_MS:
        return None
    return condition


def _lane_view(path: CellPath, slots: int, blocked_s: float) -> LaneView:
    lane, target = path.lane, path.lane.target
    p50_s, p99_s = lane.latency.quantiles(0.5, 0.99)
    return LaneView(
        cell_id=lane.cell_id,
        state=_state(path),
        generation=target.generation if target else 0,
        address=target.address if target else "",
        slots=slots,
        waiting=lane.waiting,
        in_flight=lane.in_flight,
        window=lane.window,
        answered=lane.answered,
        p50_ms=round(p50_s * 1000, 1),
        p99_ms=round(p99_s * 1000, 1),
        blocked_s=round(blocked_s, 1),
    )


def _state(path: CellPath) -> CellState:
    if path.lane.ejected:
        return CellState.EJECTED
    return CellState.SERVING if path.lane.passable() else CellState.DOWN


def _cell_view(cell: CellRecord, snapshot: Snapshot, slots: int, newest: Condition | None) -> CellView:
    policy, condition = snapshot.policy, _fresh(newest, cell, snapshot.now_ms)
    lease = snapshot.lease(cell.cell_id, cell.generation)
    found = condition.assessment if condition is not None else None
    release = policy.release if policy.release is not None and policy.release.runs else None
    return CellView(
        cell_id=cell.cell_id,
        state=state_of(cell, lease, policy),
        generation=cell.generation,
        launching=cell.launching,
        address=lease.address if lease is not None else "",
        zone=lease.zone if lease is not None else "",
        slots=slots,
        verdict=found.verdict if found is not None else "",
        rule=(found.rule or "") if found is not None else "",
        verdict_for_s=round(found.lasted_s, 1) if found is not None else 0.0,
        shift=found.shift if found is not None else None,
        canary_s=found.canary_s if found is not None else None,
        slow_paths=found.slow_paths if found is not None else (),
        observations=found.observations if found is not None else (),
        rung=cell.treatment.rung,
        why=cell.treatment.why,
        why_untreated=condition.why_untreated if condition is not None else None,
        cushion=condition.cushion if condition is not None else None,
        ejected=policy.ejects(cell),
        frozen=cell.cell_id in policy.frozen,
        order=policy.order_for(cell),
        image=cell.image,
        release=progress(release, snapshot.now_ms) if release is not None else "",
    )
