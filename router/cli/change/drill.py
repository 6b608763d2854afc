"""`cellrouter drill kill|slow|evacuate`: make a cell fail on purpose, and see whether the promises hold."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cell_worker.contract.texts import printable
from router.cli.development.stress import seconds_of
from router.cli.options import Why
from router.cli.registry import configured, mistakes, run
from router.cli.setup.env import ask_only
from router.core.drills.kinds import DrillKind
from router.core.drills.schedule import DrillWindow, Every, window_of

if TYPE_CHECKING:
    from router.core.drills.judging import DrillReport
    from router.demo.drills.run import DrillOptions

BROKEN: Final = 1
REFUSED: Final = 3
LONGEST_S: Final = 600.0  # that it is watched: with all else a drill has to end within an hour

Env = Annotated[str, typer.Option(metavar="NAME", help="The environment; live only with drills.in_live = true.")]
Cell = Annotated[str, typer.Option("--cell", metavar="CELL", help="The cell; left out: each in its turn.")]
Watched = Annotated[
    str, typer.Option("--for", metavar="TIME", help="How long it is watched at least, before and after, as 30s.")
]
Rate = Annotated[float, typer.Option(min=1, max=10_000, help="Events a second that it sends; none in live.")]
P99 = Annotated[
    float | None,
    typer.Option(
        "--p99-ms", min=1, help="The most that others' p99 may be; left out: 1.2 times as before, or 50 ms more."
    ),
]
Archive = Annotated[Path | None, typer.Option(help="A file with events, one a line, instead of made-up ones.")]
Routers = Annotated[
    list[str] | None,
    typer.Option("--router", metavar="URL", help="A router, once for each; left out: those that report."),
]
Repeat = Annotated[Every | None, typer.Option(help="Stay, and drill once in each day, week or month.")]
Between = Annotated[str, typer.Option(metavar="HH:MM-HH:MM", help="With --every: only then, in UTC.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the report to this file; a later one takes its place.")
]


def drill(
    kind: Annotated[DrillKind, typer.Argument(metavar="kill|slow|evacuate", help="What is done to the cell.")],
    *,
    env: Env,
    cell: Cell = "",
    why: Why = "",
    watched: Watched = "30s",
    rate: Rate = 40,
    p99_ms: P99 = None,
    archive: Archive = None,
    router: Routers = None,
    every: Repeat = None,
    between: Between = "",
    json_file: JsonFile = None,
) -> None:
    """Kill, slow down or empty a cell, and see whether the promises hold: 0 lost, 0 moved, others' p99.

    The first promise that is broken stops it, and what it did is taken back. Exits 1 then, and 3 when nothing was done,
    since not all was well.
    """
    from router.demo.drills.run import DrillOptions, check  # noqa: PLC0415 - --help stays quick
    from router.services.drills import DrillRefusedError  # noqa: PLC0415 - as above

    window = _window(between, every)
    if (seconds := seconds_of(watched)) > LONGEST_S:
        raise typer.BadParameter(f"must be {LONGEST_S:g} s at most", param_hint="--for")
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {json_file.parent}", param_hint="--json")
    ask_only(env)
    options = DrillOptions(kind, cell, why, seconds, rate, p99_ms, archive, tuple(router or ()))
    try:
        check(options, configured())
        with mistakes():
            code = run(_ended_by_signal(options, every, window, json_file))
    except DrillRefusedError as error:
        typer.echo(printable(str(error)), err=True)
        raise typer.Exit(REFUSED) from error
    raise typer.Exit(code)


async def _ended_by_signal(
    options: DrillOptions, every: Every | None, window: DrillWindow, json_file: Path | None
) -> int:
    """Do one drill or one after the other; a signal ends it after all that was done is taken back."""
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - --help stays quick
    from router.demo.drills.run import run_drill, run_drills  # noqa: PLC0415 - as above
    from router.demo.interrupts import cancel_on_signal  # noqa: PLC0415 - as above

    interrupted, settings, clock = cancel_on_signal(), configured(), SystemClock()
    try:
        if every is not None:
            await run_drills(options, every, window, settings, clock, _tell, lambda report: _show(report, json_file))
        report = await run_drill(options, settings, clock, _tell)
    except asyncio.CancelledError:
        if not interrupted:
            raise
        _tell("ended; what it did was taken back")
        return 128 + interrupted[0]
    _show(report, json_file)
    return 0 if report.held else BROKEN


def _show(report: DrillReport, json_file: Path | None) -> None:
    import msgspec  # noqa: PLC0415 - --help stays quick

    from router.core.drills.judging import lines_of  # noqa: PLC0415 - as above

    for line in lines_of(report):
        typer.echo(printable(line))
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
        typer.echo(f"Written: {json_file}")


def _window(between: str, every: Every | None) -> DrillWindow:
    if not between:
        return DrillWindow()
    if every is None:
        raise typer.BadParameter("it is about --every, and that is not given", param_hint="--between")
    try:
        return window_of(between)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--between") from error


def _tell(text: str) -> None:
    typer.echo(printable(text), err=True)
