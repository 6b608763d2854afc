"""`cellrouter where KEY`: all that decides about one key's events."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from router.cli.options import AsJson, Key
from router.cli.policy import by_hand
from router.cli.registry import look, slot_map_of
from router.cli.texts import Screen
from router.core.control.reconcile import state_of
from router.core.slot_map.slots import slot_of

if TYPE_CHECKING:
    from router.core.registry import Snapshot


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
    quarantine: str  # why the key is in quarantine; empty when it is not
    killed: tuple[int, ...]  # generations of its cell that the key killed, as far as that is remembered
    epoch: int  # of the slot map


def route_of(key: str, snapshot: Snapshot) -> KeyRoute:
    """Read from a snapshot where a key's events go. Raises RegistryUnavailableError when there is no slot map yet."""
    slot_map = slot_map_of(snapshot)
    cell_id = slot_map.cell_of(key)
    record, policy = snapshot.cells.get(cell_id), snapshot.policy
    lease = snapshot.lease(record.cell_id, record.generation) if record is not None else None
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
        quarantine=quarantine.why if quarantine is not None else "",
        killed=policy.killed_by(key, snapshot.now_ms),
        epoch=slot_map.epoch,
    )


def where(
    key: Key,
    *,
    as_json: AsJson = False,
) -> None:
    """Show where a key's events go: slot, cell, instance, pin, limits, quarantine."""
    route = route_of(key, look())
    if as_json:
        typer.echo(json.dumps(asdict(route)))
        return
    table = Table(show_header=False)
    for name, text in _lines(route):
        table.add_row(name, text)
    Screen().print(table)


def _lines(route: KeyRoute) -> list[tuple[str, str]]:
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
        ("quarantine", route.quarantine or "no"),
        ("killed generations", ", ".join(map(str, route.killed)) or "none"),
        ("map", f"epoch {route.epoch}"),
    ]
