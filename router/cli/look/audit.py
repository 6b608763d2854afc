"""`cellrouter audit`: what people, routers and controllers did lately, and why."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cell_worker.contract.texts import printable
from router.cli.registry import ask, opened, record_of
from router.cli.registry import run as run_work
from router.cli.texts import Screen
from router.core.errors import RegistryUnavailableError
from router.core.fleet.explained import time_text
from router.core.messages.dead_letter import parse_duration

if TYPE_CHECKING:
    from router.core.registry import AuditEntry
    from router.ports import OperatorReader

READ: Final = 10_000  # entries: about as many as are kept
FOLLOW_S: Final = 0.5  # between two looks
NEWEST: Final = 200  # entries that are read at each look; more are not made in that time

Cell = Annotated[str, typer.Option("--cell", metavar="CELL", help="Only what is about this cell.")]
Since = Annotated[str | None, typer.Option(metavar="DURATION", help="Only what was done since: 90s, 30m, 2h, 7d.")]
Most = Annotated[int, typer.Option("--limit", "-n", min=1, max=READ, metavar="N", help="How many entries: the newest.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is done from now on, until Ctrl-C.")]
Lines = Annotated[bool, typer.Option("--json", help="As JSON; with --follow one object a line.")]


def audit(
    *, cell: Cell = "", since: Since = None, limit: Most = 30, follow: Follow = False, as_json: Lines = False
) -> None:
    """Show what people, routers and controllers did lately, and why, the newest last."""
    try:
        since_s = None if since is None else parse_duration(since)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    entries = ask(partial(_read, limit=limit, cell=cell, since_s=since_s))
    if as_json and not follow:
        typer.echo(json.dumps([asdict(entry) for entry in entries]))
        return
    _show(entries, as_json=as_json)
    if follow:
        try:
            run_work(_followed(cell, entries, as_json=as_json))
        except KeyboardInterrupt:
            return
    elif not entries:
        typer.echo("Nothing was done", err=True)


def chosen(
    entries: Iterable[AuditEntry], now_ms: int, cell: str, since_s: float | None, limit: int
) -> list[AuditEntry]:
    """Return the newest entries that are about the cell, if one is named, and not older than so many seconds."""
    from_ms = 0 if since_s is None else now_ms - 1000 * since_s
    return [entry for entry in entries if (not cell or entry.cell_id == cell) and entry.at_ms >= from_ms][-limit:]


def unseen(entries: Sequence[AuditEntry], seen: Sequence[AuditEntry]) -> list[AuditEntry]:
    """Return the entries that came after the last one of `seen`; all of them when that is not among them."""
    for number in range(len(entries) - 1, -1, -1):
        if seen and entries[number] == seen[-1]:
            return list(entries[number + 1 :])
    return list(entries)


async def _read(registry: OperatorReader, limit: int, cell: str, since_s: float | None) -> list[AuditEntry]:
    every, snapshot = await registry.audit(READ if cell or since_s is not None else limit), await registry.snapshot()
    found = chosen(every, snapshot.now_ms, cell, since_s, limit)
    if cell and not found:
        record_of(cell, snapshot)
    return found


async def _followed(cell: str, shown: Sequence[AuditEntry], *, as_json: bool) -> None:
    import asyncio  # noqa: PLC0415 - --help stays quick

    async with opened() as found:
        registry = found.registry
        seen: Sequence[AuditEntry] = shown if not cell else await registry.audit(NEWEST)
        while True:
            await asyncio.sleep(FOLLOW_S)  # noqa: TID251 - a person watches
            try:
                newest = await registry.audit(NEWEST)
            except RegistryUnavailableError:
                continue
            new = unseen(newest, seen)
            seen = newest or seen
            _show([entry for entry in new if not cell or entry.cell_id == cell], as_json=as_json)


def _show(entries: Iterable[AuditEntry], *, as_json: bool) -> None:
    screen = Screen()
    for entry in entries:
        if as_json:
            typer.echo(json.dumps(asdict(entry)))
            continue
        what = f"{entry.action} {entry.cell_id}".rstrip()
        screen.print(printable(f"{time_text(entry.at_ms)}  {entry.who}  {what}: {entry.why}"), soft_wrap=True)
