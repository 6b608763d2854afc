"""`cellrouter explain CELL`: what the leader knows of a cell, its verdict, and what keeps it from treating the cell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Final

import typer
from rich.table import Table
from rich.text import Text

from cell_worker.contract.texts import printable
from router.cli.options import AsJson, CellId
from router.cli.registry import ask, record_of
from router.cli.texts import Screen
from router.core.detection import thresholds
from router.core.fleet.explained import (
    Explanation,
    Peer,
    evidence,
    explanation,
    in_ms,
    log_text,
    summary,
    time_text,
)

if TYPE_CHECKING:
    from router.core.registry import AuditEntry
    from router.ports import OperatorReader

AUDIT_READ: Final = 2000  # entries, about all cells


def explain(cell_id: CellId, *, as_json: AsJson = False) -> None:
    """Show why a cell is treated as it is: verdict, evidence, peers, thresholds, rung, guard, and what was done."""
    found = ask(partial(_read, cell_id))
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    screen = Screen()
    for doubt in found.doubts:
        screen.print(Text(doubt, style="bold"))
    screen.print(_pairs("", summary(found)))
    if found.assessment is not None:
        window = f"Evidence, of the last {thresholds.WINDOW_S:g} s"
        screen.print(_pairs(window, evidence(found.assessment)))
    screen.print(_peers(found))
    screen.print(_pairs("Thresholds of the detector", [(k, f"{v:g}") for k, v in found.thresholds.items()]))
    screen.print(_audit(found.audit))


def _pairs(title: str, rows: Sequence[tuple[str, str]]) -> Table:
    table = Table(show_header=False, title=title or None, title_justify="left")
    for name, text in rows:
        table.add_row(name, printable(text))
    return table


def _peers(found: Explanation) -> Table:
    """The measurements of the other cells, with the cell itself marked by an arrow among them."""
    own = found.assessment
    rows = [*found.peers] + ([Peer(found.cell_id, own.deviation, own.canary_s, own.verdict)] if own is not None else [])
    table = Table("cell", "S", "canary", "verdict", title="Beside its peers", title_justify="left")
    for peer in sorted(rows, key=lambda row: row.cell_id):
        name = f"→ {peer.cell_id}" if peer.cell_id == found.cell_id else f"  {peer.cell_id}"
        table.add_row(name, log_text(peer.deviation), in_ms(peer.canary_s), peer.verdict)
    return table


def _audit(entries: Sequence[AuditEntry]) -> Table:
    table = Table("when", "who", "what", "why", title="What was done lately", title_justify="left")
    for entry in entries:
        table.add_row(time_text(entry.at_ms), entry.who, entry.action, printable(entry.why))
    return table


async def _read(cell_id: str, registry: OperatorReader) -> Explanation:
    snapshot, conditions = await registry.snapshot(), await registry.conditions()
    record_of(cell_id, snapshot)
    return explanation(cell_id, snapshot, conditions, await registry.audit(AUDIT_READ))
