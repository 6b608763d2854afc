"""`cellrouter where KEY`: all that decides about one key's events."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from router.cli.policy import by_hand, look
from router.core.control.reconcile import state_of
from router.core.errors import RegistryUnavailableError
from router.core.slot_map.slots import slot_of

if TYPE_CHECKING:
    from router.core.registry import Snapshot


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key's events go, and under which conditions."""

    key: str
    slot: int
    cell: str
    pinned: bool
    moving_to: str  # empty: stays
    state: str  # of the cell
    by_hand: str  # what people have decided about its instances; empty for nothing
    generation: int
    address: str  # of the instance; empty while there is none
    zone: str
    region: str
    rate_per_s: float  # 0: no limit; likewise below
    burst: int
    concurrency: int
    quarantine: str  # why; empty: not in quarantine
    epoch: int  # of the slot map


def place_of(key: str, snapshot: Snapshot) -> Place:
    """What the registry says. Raises RegistryUnavailableError without a slot map."""
    slot_map = snapshot.slot_map
    if slot_map is None:
        raise RegistryUnavailableError("there is no slot map yet: see whether a controller leads")
    cell_id = slot_map.cell_of(key)
    record, policy = snapshot.cells.get(cell_id), snapshot.policy
    lease = snapshot.lease(record.cell_id, record.generation) if record is not None else None
    limit, quarantine = policy.limit_of(key), policy.in_quarantine(key, snapshot.now_ms)
    return Place(
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
        epoch=slot_map.epoch,
    )


def where(
    key: Annotated[str, typer.Argument(help="The partition key.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show where a key's events go: slot, cell, instance, pin, limits, quarantine."""
    place = place_of(key, look())
    if as_json:
        typer.echo(json.dumps(asdict(place)))
        return
    table = Table(show_header=False)
    for name, text in _lines(place):
        table.add_row(name, text)
    Console().print(table)


def _lines(place: Place) -> list[tuple[str, str]]:
    limits = [f"{place.rate_per_s:g}/s, burst {place.burst}"] * bool(place.rate_per_s)
    limits += [f"{place.concurrency} at once"] * bool(place.concurrency)
    return [
        ("key", place.key),
        ("slot", str(place.slot)),
        ("cell", f"{place.cell}{', pinned' if place.pinned else ''}, {place.state}"),
        ("by hand", place.by_hand or "-"),
        ("moving to", place.moving_to or "-"),
        ("instance", f"generation {place.generation} at {place.address}" if place.address else "none"),
        ("zone, region", f"{place.zone or '-'}, {place.region or '-'}"),
        ("limits, per router", "; ".join(limits) or "none"),
        ("quarantine", place.quarantine or "no"),
        ("map", f"epoch {place.epoch}"),
    ]
