"""All that decides about one key's events: what `where` and the dashboard's look-up show. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from router.core.errors import RegistryUnavailableError
from router.core.fairness.turns import AS_ALL
from router.core.fleet.explained import by_hand
from router.core.fleet.states import state_of
from router.core.models import cell_ids
from router.core.registry import Snapshot
from router.core.slot_map.slots import SlotMap, slot_of


@dataclass(frozen=True, slots=True)
class KeyRoute:
    """Where a key's events go, and under which conditions: the keys of `where --json`."""

    key: str
    slot: int
    cell: str
    pinned: bool
    moving_to: str  # a cell; empty when the key stays where it is
    state: str  # of the cell
    by_hand: str  # what people have decided about the cell's instances; empty for nothing
    generation: int  # of the instance that has the traffic; 0: none yet
    address: str  # of that instance; empty while there is none
    zone: str
    region: str
    rate_per_s: float  # per router; 0: no limit
    burst: int  # events
    concurrency: int  # events in flight, per router; 0: no limit
    weight: int  # events in one turn of the key
    priority: str  # high, normal or low
    quarantine: str  # why the key is in quarantine; empty when it is not
    killed: tuple[int, ...]  # generations of its cell that the key killed, as far as that is remembered
    epoch: int  # of the slot map


def route_of(key: str, snapshot: Snapshot) -> KeyRoute:
    """Read from a snapshot where a key's events go. Raises RegistryUnavailableError when there is no slot map yet."""
    slot_map = slot_map_of(snapshot)
    cell_id = slot_map.cell_of(key)
    record, policy = snapshot.cells.get(cell_id), snapshot.policy
    lease = snapshot.lease(record.cell_id, record.generation) if record is not None else None
    turns = policy.fairness.get(key, AS_ALL)
    limit, quarantine = policy.limit_of(key), policy.in_quarantine(key, snapshot.now_ms)
    return KeyRoute(
        key=key,
        slot=slot_of(key),
        cell=cell_id,
        pinned=key in slot_map.pins,
        moving_to=slot_map.destination_of(key) or "",
        state=state_of(record, lease, policy) if record is not None else "unknown",
        by_hand=by_hand(snapshot, cell_id),
        generation=record.generation if record is not None else 0,
        address=lease.address if lease is not None else "",
        zone=lease.zone if lease is not None else "",
        region=lease.region if lease is not None else "",
        rate_per_s=limit.rate_per_s,
        burst=limit.burst,
        concurrency=limit.concurrency,
        weight=turns.weight,
        priority=turns.priority,
        quarantine=quarantine.why if quarantine is not None else "",
        killed=policy.killed_by(key, snapshot.now_ms),
        epoch=slot_map.epoch,
    )


def slot_map_of(snapshot: Snapshot) -> SlotMap:
    """Return the snapshot's slot map. Raises RegistryUnavailableError when no controller has made one yet."""
    if snapshot.slot_map is None:
        raise RegistryUnavailableError("there is no slot map yet: see whether a controller leads")
    return snapshot.slot_map


def wanted_cells(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the cells that there shall be: the policy says how many, or else the controllers' own configuration."""
    if snapshot.policy.cells:
        return cell_ids(snapshot.policy.cells)
    return tuple(sorted(cell_id for cell_id, record in snapshot.cells.items() if not record.retired))


def route_rows(route: KeyRoute) -> list[tuple[str, str]]:
    """Name and describe where a key's events go, a row each."""
    limits = [f"{route.rate_per_s:g}/s, burst {route.burst}"] * bool(route.rate_per_s)
    limits += [f"{route.concurrency} at once"] * bool(route.concurrency)
    return [
        ("key", route.key),
        ("slot", str(route.slot)),
        ("cell", f"{route.cell}{', pinned' if route.pinned else ''}, {route.state}"),
        ("by hand", route.by_hand or "-"),
        ("moving to", route.moving_to or "-"),
        ("instance", f"generation {route.generation} at {route.address}" if route.address else "none"),
        ("zone, region", f"{route.zone or '-'}, {route.region or '-'}"),
        ("limits, per router", "; ".join(limits) or "none"),
        ("turns", f"weight {route.weight}, {route.priority} priority"),
        ("quarantine", route.quarantine or "no"),
        ("killed generations", ", ".join(map(str, route.killed)) or "none"),
        ("map", f"epoch {route.epoch}"),
    ]
