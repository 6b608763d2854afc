"""`cellrouter shadow`: mirrors a share of the events into another environment while they happen, and compares."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from cell_worker.contract.texts import printable
from router.cli.change.replay import DIFFERS, SHOWN, TellsOfLeftOut, refuse, say, seconds_of
from router.cli.registry import configured, run
from router.core.archive.replay import LIVE, Checkpoint

if TYPE_CHECKING:
    from router.core.archive.comparison import Comparison
    from router.settings import Settings

WAIT_S: Final = 300.0  # for the last events' ends


def shadow(
    *,
    env: Annotated[str, typer.Option(help="The environment that they are sent into: that of the configuration.")],
    share: Annotated[
        float, typer.Option(min=0.0001, max=1, help="The share of the keys; always the same ones.")
    ] = 0.05,
    duration: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long: 30m, 2h.")] = "1h",
    of: Annotated[str, typer.Option(help="The environment whose events they are.")] = LIVE,
    archive: Annotated[str, typer.Option(help="Their archive: s3://BUCKET or a folder.")] = "",
    rate: Annotated[float, typer.Option(min=0.1, max=100_000, help="The most events a second.")] = 100,
    report: Annotated[Path | None, typer.Option(help="Write the comparison as JSON, with each that differs.")] = None,
) -> None:
    """Mirror a share of the events into another environment, and compare how they end.

    They go there a minute or two after they ended, out of the archive: the routers have nothing more to do. Minutes
    that the other environment is too slow for are left out, and counted. Never into live. Ctrl-C ends it early, and
    compares. Exits 3 when any ended otherwise, or not yet.
    """
    settings = configured()
    refuse(settings, env, of)
    found = run(_shadowed(settings, share, seconds_of("--for", duration), of, archive, rate))
    for line in found.lines(SHOWN):
        typer.echo(printable(line))
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    if found.differs:
        raise typer.Exit(DIFFERS)


async def _shadowed(settings: Settings, share: float, seconds: float, of: str, archive: str, rate: float) -> Comparison:
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - --help stays quick
    from router.bootstrap.archive import archive_bucket, open_replay  # noqa: PLC0415 - as above
    from router.demo.interrupts import cancel_on_signal  # noqa: PLC0415 - as above
    from router.services.replay import Pace  # noqa: PLC0415 - as above
    from router.services.shadow import Shadow, Shadowed  # noqa: PLC0415 - as above

    clock, found = SystemClock(), Shadowed()
    began_ms, environment = clock.time_ms(), settings.environment
    async with open_replay(settings) as tools:
        source = tools.archive(archive or f"s3://{settings.aws.prefix}-{of}-archive")
        work = Shadow(share, source, of, environment, _Told(), clock, say)
        sending = asyncio.create_task(
            work.send(found, tools.queue, tools.keys, Pace(None, rate), began_ms + round(1000 * seconds))
        )
        interrupted = cancel_on_signal()
        try:
            await sending
        except asyncio.CancelledError:
            if not interrupted:
                raise
            sending.cancel()
            await asyncio.wait([sending])
        say(f"{found.sent} events are sent, minutes left out: {found.left_out}; waiting for how they end")
        results = tools.archive(f"s3://{archive_bucket(settings)}")
        return await work.compared(found, results, began_ms, WAIT_S)


class _Told(TellsOfLeftOut):
    """The progress of each minute, of which little is told."""

    def sent(self, at: Checkpoint) -> None:
        """Tell nothing: another minute follows soon."""

    def waiting(self, ended: int, events: int) -> None:
        """Tell of how many events the ending is known."""
        say(f"{ended} of {events} have ended")
