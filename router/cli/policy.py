"""`cellrouter plan`, `apply` and `policy`: what people decide about keys and cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.table import Table

from router.cli.options import AsJson
from router.cli.policy_edits import commands
from router.cli.registry import ask, look, mistakes, operate
from router.cli.texts import Screen
from router.core.edits.kinds import Edit
from router.core.edits.orders import decided
from router.core.edits.plan import as_object, forecast_of, size_of
from router.core.fleet.explained import by_hand, time_text
from router.core.policy import Policy, Quarantine
from router.core.scaling.wanted import described
from router.core.slot_map.forecast import Forecast
from router.core.undo import taken_back

if TYPE_CHECKING:
    from router.core.registry import PolicyVersion, Snapshot

policy = typer.Typer(help="Show what is decided about keys and cells, and what was.", no_args_is_help=True)


def _plan(edit: Edit, why: str, *, as_json: bool) -> None:
    snapshot = look()
    with mistakes():
        found = decided(edit, snapshot, why)
    wanted = found.make(snapshot.policy, snapshot.now_ms)
    if wanted != snapshot.policy or as_json:
        tell_forecast(snapshot, wanted, found.text, as_json=as_json)
        return
    if found.why_unchanged is not None:
        typer.echo(found.why_unchanged, err=True)
        raise typer.Exit(1)
    typer.echo(_in_force_already(found.text))


def put_in_force(edit: Edit, why: str) -> bool:
    """Have the leader make a change, and say so; return whether it changes anything.

    Raises typer.Exit with code 1 when it changes nothing and the edit says that this is an error.
    """
    outcome = operate(lambda operator: operator.change(edit, why))
    said = f"In force within a second: {outcome.text}" if outcome.changed else _in_force_already(outcome.text)
    typer.echo(said)
    return outcome.changed


def _in_force_already(text: str) -> str:
    return f"Nothing to change: {text} is in force already"


plan = commands(_plan, "Show what a change would move, before it is made.", as_json=True)
apply = commands(put_in_force, "Change what is decided about keys and cells. The leader does it; `undo` takes it back.")


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
    if found.scaling is not None:
        screen.print(f"Scaling: {described(found.scaling)}; {len(found.homes)} hot slots were moved")
    if found.aside:
        screen.print(f"The FIFO groups of {len(found.aside)} slots stand still and shall go through the aside queue.")
    screen.print(_limits(found))
    if found.fairness:
        screen.print(_turns(found))
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
def history(*, as_json: AsJson = False) -> None:
    """Show what was decided, by whom and why, and what of it was taken back."""
    versions = _history()
    gone = taken_back(versions)
    if as_json:
        said = [{"taken_back": each.policy.version in gone, **msgspec.to_builtins(each)} for each in versions]
        typer.echo(json.dumps(said))
        return
    table = Table("version", "when", "who", "what")
    for version in versions:
        entry, number = version.audit, version.policy.version
        what = f"{entry.action} {entry.why}{' (taken back)' if number in gone else ''}"
        table.add_row(str(number), time_text(entry.at_ms), entry.who, what)
    Screen().print(table if table.row_count else "Nothing was ever decided.")


def _history() -> list[PolicyVersion]:
    return list(ask(lambda registry: registry.history()))


def tell_forecast(snapshot: Snapshot, wanted: Policy, text: str, *, as_json: bool = False) -> None:
    """Show what a policy would move. Raises typer.Exit with code 1 when it would be refused."""
    found = forecast_of(snapshot, wanted)
    if as_json:
        typer.echo(json.dumps(as_object(found)))
    elif found.faults:
        typer.echo("\n".join(("It would be refused:", *found.faults)), err=True)
    else:
        _show_forecast(found, text)
    if found.faults:
        raise typer.Exit(1)


def _show_forecast(found: Forecast, text: str) -> None:
    screen = Screen()
    screen.print(f"{text}: {size_of(found)}")
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


def _turns(found: Policy) -> Table:
    table = Table("key", "weight", "priority", title="Keys with turns of their own", title_justify="left")
    for key, entry in sorted(found.fairness.items()):
        table.add_row(key, str(entry.weight), str(entry.priority))
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
