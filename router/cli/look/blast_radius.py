"""`cellrouter blast-radius`: what each cell, zone or region would take with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from router.cli.options import AsJson
from router.cli.registry import ask
from router.cli.texts import Screen
from router.core.fleet.places import FailureDomain, domains
from router.core.fleet.routes import slot_map_of
from router.core.slot_map.blast_radius import BlastRadius, blast_radii, combined_traffic, moved_traffic
from router.core.slot_map.placement import wanted_owners
from router.core.slot_map.slots import SlotMap

if TYPE_CHECKING:
    from router.core.models import Traffic
    from router.core.registry import Snapshot
    from router.ports import OperatorReader


def blast_radius(
    *,
    by: Annotated[
        FailureDomain,
        typer.Option(help="What may fail as a whole. Workers say where they are by CELL_ZONE, CELL_REGION."),
    ] = FailureDomain.CELL,
    what_if: Annotated[
        str, typer.Option(metavar="WHAT=NAME", help="The shares without this cell, zone or region: cell=cell-0003.")
    ] = "",
    limit: Annotated[
        str, typer.Option("--assert", metavar="max=SHARE", help="Exit 1 when a share is larger: max=0.25.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show the share of keys, events and tenants that each cell, zone or region would take with it.

    Keys are counted by the slot map; events and tenants as the routers that run now have seen them since their start.
    """
    most, gone = _most(limit), _gone(what_if)
    snapshot, traffic = ask(_snapshot_and_traffic)
    slot_map = slot_map_of(snapshot)
    if gone is not None:
        slot_map, traffic = _without(gone, snapshot, slot_map, traffic)
    found = blast_radii(slot_map.counts(), traffic, domains(snapshot, by))
    if as_json:
        typer.echo(json.dumps([asdict(radius) for radius in found]))
    else:
        Screen().print(_table(found, by))
    over = [radius for radius in found if radius.largest > most]
    for radius in over:
        typer.echo(f"{radius.name} would take {radius.largest:.1%} with it, more than {most:.1%}", err=True)
    if over:
        raise typer.Exit(1)


def _most(limit: str) -> float:
    name, _, value = (limit or "max=1").partition("=")
    try:
        most = float(value)
    except ValueError:
        most = -1.0
    if name != "max" or not 0 < most <= 1:
        raise typer.BadParameter("give max=SHARE, a share above 0 and at most 1: max=0.25", param_hint="--assert")
    return most


def _gone(what_if: str) -> tuple[FailureDomain, str] | None:
    if not what_if:
        return None
    kind, _, name = what_if.partition("=")
    if kind not in list(FailureDomain) or not name:
        raise typer.BadParameter("give cell=NAME, zone=NAME or region=NAME: cell=cell-0003", param_hint="--what-if")
    return FailureDomain(kind), name


def _without(
    gone: tuple[FailureDomain, str], snapshot: Snapshot, slot_map: SlotMap, traffic: Mapping[str, Traffic]
) -> tuple[SlotMap, Mapping[str, Traffic]]:
    """The slot map and the traffic once the other cells have the slots of what is gone."""
    kind, name = gone
    places = domains(snapshot, kind)
    cells = [cell_id for cell_id, domain in places.items() if domain == name]
    left = [cell_id for cell_id in slot_map.counts() if cell_id not in cells]
    if not cells:
        raise typer.BadParameter(f"there is no {kind} {name}; there are {_names(places)}", param_hint="--what-if")
    if not left:
        raise typer.BadParameter(f"nothing is left without {kind} {name}", param_hint="--what-if")
    owners = wanted_owners(slot_map.owners, left, snapshot.policy)
    return SlotMap(slot_map.epoch, owners), moved_traffic(slot_map, owners, traffic)


def _names(places: Mapping[str, str]) -> str:
    return ", ".join(sorted(filter(None, Counter(places.values())))) or "none that are known"


def _table(found: list[BlastRadius], by: FailureDomain) -> Table:
    table = Table(by.value, "keys", "events", "tenants")
    for radius in found:
        table.add_row(radius.name, f"{radius.keys:.1%}", f"{radius.events:.1%}", f"{radius.tenants:.1%}")
    return table


async def _snapshot_and_traffic(registry: OperatorReader) -> tuple[Snapshot, Mapping[str, Traffic]]:
    return await registry.snapshot(), combined_traffic(await registry.traffic())
