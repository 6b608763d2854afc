"""`cellrouter plan`, `apply`, `undo`, `scale` and `policy`: what people decide about keys and cells."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
import uvloop
from rich.table import Table

from router.cli.options import AsJson, DryRun, Why
from router.cli.policy_edits import PolicyEdit, commands
from router.cli.registry import ask, change_policy, follow, look
from router.cli.texts import Screen
from router.core.fleet.explained import by_hand, time_text
from router.core.fleet.routes import slot_map_of, wanted_cells
from router.core.models import CellRecord, cell_ids
from router.core.policy import MAX_CELLS, Policy, Quarantine
from router.core.release import ReleaseAction
from router.core.slot_map.forecast import Forecast, forecast
from router.core.slot_map.slots import SLOTS

if TYPE_CHECKING:
    from router.core.registry import PolicyVersion, Snapshot

LEADERS_OWN: Final = frozenset({"end scaling", *ReleaseAction})
"""What the leader does with the policy by itself, so that `undo` passes over it."""

policy = typer.Typer(help="Show what is decided about keys and cells, and what was.", no_args_is_help=True)


def _plan(edit: PolicyEdit) -> None:
    snapshot = look()
    wanted = edit.make(snapshot.policy, snapshot.now_ms)
    _tell(_forecast(snapshot, wanted), edit.text)


def put_in_force(edit: PolicyEdit) -> bool:
    """Have the leader make a change, and say so; return whether it changes anything.

    Raises typer.Exit with code 1 when it changes nothing and the edit says that this is an error.
    """
    changed = False

    def make(policy: Policy, now_ms: int) -> Policy:
        nonlocal changed
        wanted = edit.make(policy, now_ms)
        changed = wanted != policy
        return wanted

    change_policy(edit.action, audit_text(edit.text, edit.why), make, edit.cell_id)
    if changed:
        typer.echo(f"In force within a second: {edit.text}")
    elif edit.why_unchanged is not None:
        typer.echo(edit.why_unchanged, err=True)
        raise typer.Exit(1)
    else:
        typer.echo(f"Nothing to change: {edit.text} is in force already")
    return changed


plan = commands(_plan, "Show what a change would move, before it is made.")
apply = commands(put_in_force, "Change what is decided about keys and cells. The leader does it; `undo` takes it back.")


def undo(
    *,
    to: Annotated[
        int | None, typer.Option(min=0, help="The version to go back to; left out: the one before the last change.")
    ] = None,
    why: Why = "",
) -> None:
    """Take the last change of the policy back. Run twice, it takes the first undo back."""
    versions = _history()
    target = _before_last_change(versions) if to is None else to
    found = {version.policy.version: version.policy for version in versions} | {0: Policy()}
    if target not in found:
        typer.echo("There is no such version to go back to; cellrouter policy history lists them", err=True)
        raise typer.Exit(1)
    text = f"back to version {target}"
    undone = [version.audit for version in versions if version.policy.version > target]
    change_policy("undo", audit_text(text, why), lambda now, _: replace(found[target], version=now.version))
    for entry in reversed(undone):
        typer.echo(f"Taken back: {entry.action} {entry.why} (by {entry.who}, {time_text(entry.at_ms)})")
    for line in what_stays(versions[-1].policy, found[target], look().cells):
        typer.echo(line)


def scale(
    *,
    cells: Annotated[int, typer.Option(min=1, max=MAX_CELLS, help="How many there shall be.")],
    dry_run: DryRun = False,
    why: Why = "",
) -> None:
    """Add cells or take some away, and follow it: launched, verified by a canary, then slots a few at a time.

    Ctrl-C ends the following, not the scaling. When an added cell is no good, there are as many cells as before.
    """
    snapshot = look()
    now = len(wanted_cells(snapshot))
    text = f"{now} → {cells} cells"
    wanted = snapshot.policy.with_cells(cells, now)
    if dry_run:
        _tell(_forecast(snapshot, wanted), text)
        return
    if cells == now:
        typer.echo(f"There are {now} cells already")
        return
    changed = change_policy("scale", audit_text(text, why), lambda policy, _: policy.with_cells(cells, now))
    try:
        reached = uvloop.run(follow(lambda snapshot: _scaled(snapshot, changed.version + 1)))
    except KeyboardInterrupt:
        typer.echo("It goes on without you; cellrouter policy show and the controller's dashboard tell how far it is")
        return
    typer.echo(f"There are {reached} cells")
    if reached != cells:
        raise typer.Exit(1)


@policy.command()
def show(*, as_json: AsJson = False) -> None:
    """Show what is in force."""
    snapshot = look()
    found = snapshot.policy
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(found)))  # in ASCII
        return
    screen = Screen()
    now_ms = snapshot.now_ms
    lasting = {key: entry for key, entry in found.quarantined.items() if found.in_quarantine(key, now_ms)}
    screen.print(_quarantined(lasting) if lasting else "No key is in quarantine.")
    screen.print(f"The head of a FIFO group that killed too many instances: {found.fifo_head}")
    if found.aside:
        screen.print(f"The FIFO groups of {len(found.aside)} slots stand still and shall go through the aside queue.")
    screen.print(_limits(found))
    if found.pins:
        screen.print(_pins(found))
    if found.weights or found.cordoned:
        screen.print(_shares(found))
    if rows := _by_hand(snapshot):
        table = Table("cell", "its instances", title="By hand", title_justify="left")
        for row in rows:
            table.add_row(*row)
        screen.print(table)


@policy.command()
def history() -> None:
    """Show what was decided, by whom and why."""
    table = Table("version", "when", "who", "what")
    for version in _history():
        entry = version.audit
        table.add_row(str(version.policy.version), time_text(entry.at_ms), entry.who, f"{entry.action} {entry.why}")
    Screen().print(table if table.row_count else "Nothing was ever decided.")


def audit_text(text: str, why: str) -> str:
    """Join what a change does with the person's own words about it."""
    return f"{text}. {why}" if why else text


def _history() -> list[PolicyVersion]:
    return ask(lambda registry: registry.history())


def what_stays(before: Policy, after: Policy, cells: Mapping[str, CellRecord]) -> Iterator[str]:
    """Say, a line for each cell, what stays done of the orders that `before` holds and `after` takes back."""
    for cell_id in sorted({*before.to_evict, *before.to_replace}):
        ordered, record = before.ordered_up_to(cell_id), cells.get(cell_id)
        if record is None or ordered <= after.ordered_up_to(cell_id):
            continue
        if record.generation > ordered:
            yield f"{cell_id}: generation {ordered} is gone already, and generation {record.generation} stays"
        elif record.launching:
            yield f"{cell_id}: generation {record.launching} is launched already, and takes over when it is ready"


def _before_last_change(versions: list[PolicyVersion]) -> int:
    """The version before the last change that a person or a router made; -1 when none was made."""
    made = [version.policy.version for version in versions if version.audit.action not in LEADERS_OWN]
    return made[-1] - 1 if made else -1


def _scaled(snapshot: Snapshot, version: int) -> tuple[str, int]:
    """How far the scaling is that made this version of the policy, and its number of cells once it is done (else 0)."""
    wanted = snapshot.policy.cells
    if snapshot.policy.version < version:
        return "", 0
    return _progress(snapshot, wanted), wanted if _settled(snapshot, wanted) else 0


def _progress(snapshot: Snapshot, wanted: int) -> str:
    cells = cell_ids(wanted)
    verified = sum(0 < r.generation == r.verified for cell_id, r in snapshot.cells.items() if cell_id in cells)
    counts = snapshot.slot_map.counts() if snapshot.slot_map else Counter()
    least, outside = min(counts[cell_id] for cell_id in cells), SLOTS - sum(counts[cell_id] for cell_id in cells)
    return f"{verified} of {wanted} cells verified; the smallest has {least} slots; {outside} are still in others"


def _settled(snapshot: Snapshot, wanted: int) -> bool:
    if snapshot.slot_map is None or snapshot.slot_map.move.slots or snapshot.policy.scaling_from:
        return False
    there = {cell_id for cell_id, record in snapshot.cells.items() if not record.retired}
    return there == set(cell_ids(wanted)) and snapshot.slot_map.cells() <= there


def _forecast(snapshot: Snapshot, wanted: Policy) -> Forecast:
    slot_map, now = slot_map_of(snapshot), wanted_cells(snapshot)
    return forecast(slot_map, snapshot.policy, wanted, now, cell_ids(wanted.cells) if wanted.cells else now)


def _tell(found: Forecast, text: str) -> None:
    if found.faults:
        typer.echo("\n".join(("It would be refused:", *found.faults)), err=True)
        raise typer.Exit(1)
    screen = Screen()
    size = f"{found.slots} of {SLOTS} slots ({found.share:.1%} of the keys)"
    screen.print(f"{text}: would move {size} in {found.moves} moves")
    for key, (before, after) in found.keys.items():
        screen.print(f"key {key}: {before} → {after}")
    if not found.slots:
        return
    table = Table("cell", "slots now", "gets", "gives", "slots then")
    for cell_id in sorted({*found.before, *found.after}):
        if found.gained[cell_id] or found.lost[cell_id]:
            numbers = (found.before[cell_id], found.gained[cell_id], found.lost[cell_id], found.after[cell_id])
            table.add_row(cell_id, *map(str, numbers))
    screen.print(table)


def _quarantined(found: Mapping[str, Quarantine]) -> Table:
    table = Table("key", "since", "until", "why", title="In quarantine", title_justify="left")
    for key, entry in sorted(found.items()):
        table.add_row(
            key, time_text(entry.since_ms), time_text(entry.until_ms) if entry.until_ms else "released", entry.why
        )
    return table


def _limits(found: Policy) -> Table:
    table = Table("key", "rate/s", "burst", "concurrency", title="Limits, per router", title_justify="left")
    for key, entry in [("(default)", found.default), *sorted(found.limits.items())]:
        rate = f"{entry.rate_per_s:g}" if entry.rate_per_s else "any"
        table.add_row(key, rate, str(entry.burst) if entry.rate_per_s else "", str(entry.concurrency or "any"))
    return table


def _pins(found: Policy) -> Table:
    table = Table("key", "cell", title="Pinned", title_justify="left")
    for key, cell_id in sorted(found.pins.items()):
        table.add_row(key, cell_id)
    return table


def _shares(found: Policy) -> Table:
    table = Table("cell", "weight", "", title="Cells with another share", title_justify="left")
    for cell_id in sorted({*found.weights, *found.cordoned}):
        state = "draining" if cell_id in found.draining else "cordoned" if cell_id in found.cordoned else ""
        table.add_row(cell_id, f"{found.weights.get(cell_id, 1.0):g}", state)
    return table


def _by_hand(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Each cell whose instances people have decided something about, and what that is in words."""
    found = snapshot.policy
    cells = sorted({*found.frozen, *found.ejected, *found.to_replace, *found.to_evict})
    return [(cell_id, said) for cell_id in cells if (said := by_hand(snapshot, cell_id))]
