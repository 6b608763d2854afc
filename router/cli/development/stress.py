"""`cellrouter stress`: how much an environment bears, measured in an open loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from router.cli.registry import configured, run
from router.cli.setup.env import ask_only
from router.core.load.profiles import Profile

if TYPE_CHECKING:
    from router.core.load.findings import LoadReport

SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


def seconds_of(text: str) -> float:
    """Read a time as people write it. Raises BadParameter."""
    number, unit = (text[:-1], SECONDS[text[-1]]) if text[-1:] in SECONDS else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError as error:
        raise typer.BadParameter("must be a time, as 60s or 5m") from error
    if not 1 <= seconds <= 24 * 3600:
        raise typer.BadParameter("must be from 1 s to 24 h")
    return seconds


def stress(
    *,
    env: Annotated[str, typer.Option(metavar="NAME", help="The environment that gets the load; never live.")],
    rate: Annotated[float, typer.Option(min=1, max=100_000, help="Events a second, at the highest.")] = 500,
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="How long, as 60s or 5m.")] = "60s",
    tenants: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many tenants send.")] = 1000,
    zipf: Annotated[
        float, typer.Option(min=0, max=4, help="The n-th tenant sends 1/n^ZIPF as much as the first; 0: all alike.")
    ] = 1.1,
    profile: Annotated[Profile, typer.Option(help="How the load goes; ramp finds the knee.")] = Profile.RAMP,
    seed: Annotated[int, typer.Option(min=0, help="The same one sends the same events at the same times.")] = 1,
    work_ms: Annotated[
        float, typer.Option("--work-ms", min=0, max=10_000, help="How much work a made-up event is.")
    ] = 2.0,
    size: Annotated[int, typer.Option(min=0, max=200_000, help="Bytes that a made-up event is padded with.")] = 200,
    archive: Annotated[
        Path | None, typer.Option(help="A file with events, one a line, instead of made-up ones; their keys stay.")
    ] = None,
    router: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A router, once for each; left out: those that report.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report to this file.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw latency against load into this file.")] = None,
    compare: Annotated[Path | None, typer.Option(help="The --json file of an earlier run, to compare with.")] = None,
) -> None:
    """Send a load and report how long events take, from when each was meant to be sent until it is done.

    The load is an open loop: it does not wait for what is slow. The report has percentiles for each phase, cell and the
    slowest tenants, and with --profile ramp the knee. Made-up events are for the handler
    cell_worker.handlers.load:handle, which `env create stress` sets. Exits 1 when events were lost or are not done.
    """
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - --help stays quick
    from router.demo.stress.report import read_report  # noqa: PLC0415 - as above
    from router.demo.stress.run import StressOptions, run_stress  # noqa: PLC0415 - as above

    ask_only(env)
    before = read_report(compare) if compare is not None else None
    options = StressOptions(
        profile, rate, seconds_of(duration), tenants, zipf, seed, work_ms, size, archive, tuple(router or ())
    )
    report = run(run_stress(options, configured(), SystemClock()))
    _show(report, before, json_file, svg)
    if report.unfinished:
        raise typer.Exit(1)


def _show(report: LoadReport, before: LoadReport | None, json_file: Path | None, svg: Path | None) -> None:
    import msgspec  # noqa: PLC0415 - --help stays quick

    from router.cli.texts import Screen  # noqa: PLC0415 - as above
    from router.demo.stress.picture import picture  # noqa: PLC0415 - as above
    from router.demo.stress.report import differences, lines_of, parts_table, phases_table  # noqa: PLC0415 - as above

    screen, busiest = Screen(), max(report.phases, key=lambda phase: phase.sent.rate)
    screen.print(phases_table(report))
    screen.print(parts_table(f"Cells, {busiest.sent.name}", busiest.cells))
    screen.print(parts_table(f"Slowest tenants, {busiest.sent.name}", busiest.slowest))
    for line in [*lines_of(report), *(differences(before, report) if before is not None else [])]:
        typer.echo(line)
    for file, content in (
        (json_file, msgspec.json.format(msgspec.json.encode(report)).decode()),
        (svg, picture(report, before)),
    ):
        if file is not None:
            file.write_text(content, "utf-8")
            typer.echo(f"Written: {file}")
