"""`cellrouter scale`: adds cells or takes some away, and says what that waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final

import typer

from router.cli.options import DryRun, Why
from router.cli.policy import tell_forecast
from router.cli.registry import followed, look, operate
from router.core.edits.orders import ScaleEdit
from router.core.fleet.routes import wanted_cells
from router.core.models import CellRecord, Reason, Rung, cell_ids
from router.core.policy import MAX_CELLS
from router.core.slot_map.slots import NO_MOVE, SLOTS

if TYPE_CHECKING:
    from router.core.registry import Snapshot

REASONS: Final = 2  # that are told at once


def scale(
    *,
    cells: Annotated[int, typer.Option(min=1, max=MAX_CELLS, help="How many cells there shall be.")],
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run, as JSON.")] = False,
    why: Why = "",
) -> None:
    """Add cells or take some away, and follow it: launched, verified by a canary, then slots a few at a time.

    Ctrl-C ends the following, not the scaling. When an added cell is no good, there are as many cells as before, and
    the exit code is 1. While it goes on, the same command follows it again.
    """
    if as_json and not dry_run:
        raise typer.BadParameter("it is about --dry-run", param_hint="--json")
    snapshot = look()
    now, version = len(wanted_cells(snapshot)), snapshot.policy.version
    text = f"{now} → {cells} cells"
    if dry_run:
        tell_forecast(snapshot, snapshot.policy.with_cells(cells, now), text, as_json=as_json)
        return
    if cells != now:
        version = operate(lambda operator: operator.change(ScaleEdit(cells), why)).version
    elif is_settled(snapshot, cells):
        typer.echo(f"There are {now} cells already")
        return
    else:
        typer.echo(f"There shall be {now} cells already, and it is not done yet")
    try:
        reached = followed(lambda snapshot: scaled(snapshot, version, cells))
    except KeyboardInterrupt:
        typer.echo(f"It goes on without you; cellrouter scale --cells {cells} follows it again")
        return
    typer.echo(f"There are {reached} cells")
    if reached != cells:
        raise typer.Exit(1)


def scaled(snapshot: Snapshot, version: int, cells: int) -> tuple[str, int]:
    """How far the scaling is that made this version of the policy, and its number of cells once it is done (else 0)."""
    wanted = snapshot.policy.cells or cells
    if snapshot.policy.version < version:
        return "", 0
    done = is_settled(snapshot, wanted)
    waits = [] if done else list(why_waiting(snapshot, wanted))
    more = f"; {len(waits) - REASONS} more" if len(waits) > REASONS else ""
    return _count(snapshot, wanted) + (f"; waits: {'; '.join(waits[:REASONS])}{more}" if waits else ""), done * wanted


def is_settled(snapshot: Snapshot, wanted: int) -> bool:
    """Tell whether there are exactly so many cells, and nothing is on its way to or from one."""
    if snapshot.slot_map is None or snapshot.slot_map.move.slots or snapshot.policy.scaling_from:
        return False
    there = {cell_id for cell_id, record in snapshot.cells.items() if not record.retired}
    return there == set(cell_ids(wanted)) and snapshot.slot_map.cells() <= there


def why_waiting(snapshot: Snapshot, wanted: int) -> Iterator[Reason]:
    """Say what a scaling waits for, as far as the registry tells, a reason each; the gravest first."""
    if not snapshot.leader:
        yield "no controller leads: see whether one runs and reaches Redis"
    cells = cell_ids(wanted)
    for cell_id in cells:
        record = snapshot.cells.get(cell_id)
        whys = _why_not_ready(record, snapshot) if record is not None else ["is not made yet"]
        yield from (f"{cell_id} {why}" for why in islice(whys, 1))
    if snapshot.slot_map is None:
        yield "there is no slot map yet"
        return
    if snapshot.slot_map.move is not NO_MOVE:
        yield from _why_not_moved(snapshot, snapshot.slot_map.epoch)
    for cell_id, count in sorted(snapshot.slot_map.counts().items()):
        if cell_id not in cells:
            yield f"{cell_id} still has {count} slots"


def _why_not_ready(record: CellRecord, snapshot: Snapshot) -> Iterator[Reason]:
    """Say why a cell takes no slots, the gravest first."""
    treatment, lease = record.treatment, snapshot.lease(record.cell_id, record.launching or record.generation)
    is_ready = lease is not None and lease.live and lease.ready
    if record.launch_failures:
        yield f"did not start, {record.launch_failures} times in a row, the last: {record.why_launch_failed}"
    if failures := record.canary_failures or record.candidate_failures:
        yield f"did not answer its canary well, {failures} times in a row"
    if record.launching or not record.generation:
        yield "is tried by a canary" if is_ready else "is being launched"
    if treatment.rung is not Rung.WELL:
        yield f"is on the ladder, {treatment.rung}: {treatment.why}"
    if record.cell_id in snapshot.policy.ejected:
        yield f"is ejected by a person: cellrouter readmit {record.cell_id}"
    if not is_ready:
        yield "has no instance that serves"
    if record.verified != record.generation:
        yield "has not passed a canary yet"


def _why_not_moved(snapshot: Snapshot, epoch: int) -> Iterator[Reason]:
    """Say which routers keep a move from being ended."""
    for report in (router.report for router in snapshot.routers if router.live):
        if report.epoch < epoch:
            yield f"router {report.router_id} has not read the newest map yet"
        elif not report.quiet:
            yield f"router {report.router_id} has events under way that belong to what moves"


def _count(snapshot: Snapshot, wanted: int) -> str:
    cells = cell_ids(wanted)
    verified = sum(0 < r.generation == r.verified for cell_id, r in snapshot.cells.items() if cell_id in cells)
    counts = snapshot.slot_map.counts() if snapshot.slot_map else Counter[str]()
    least, outside = min(counts[cell_id] for cell_id in cells), SLOTS - sum(counts[cell_id] for cell_id in cells)
    return f"{verified} of {wanted} cells verified; the smallest has {least} slots; {outside} are still in others"
