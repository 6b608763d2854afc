"""`cellrouter replay`: sends archived events into another environment, and says what ends otherwise there."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from cell_worker.contract.texts import printable
from router.cli.options import DryRun
from router.cli.registry import configured, run
from router.core.archive.replay import LIVE, Checkpoint, Selection
from router.core.errors import ProvisionError
from router.core.messages.dead_letter import parse_duration
from router.core.models import Outcome, Reason

if TYPE_CHECKING:
    from router.bootstrap.archive import ReplayTools
    from router.core.archive.comparison import Comparison
    from router.core.archive.records import ArchivedEvent
    from router.services.replay import Replay
    from router.settings import Settings

DIFFERS: Final = 3
SHOWN: Final = 20  # events that differ; --report has all
TOLD_EVERY: Final = 1000  # events, where there is no terminal


class Speed(StrEnum):
    """How fast events are sent, beside the time in which they ended."""

    ONE = "1x"
    TEN = "10x"
    MAX = "max"

    @property
    def times(self) -> float | None:
        """Return the factor; None where only the rate counts."""
        return {Speed.ONE: 1.0, Speed.TEN: 10.0}.get(self)


def replay(
    *,
    env: Annotated[str, typer.Option(help="The environment that they are sent into: that of the configuration.")],
    from_: Annotated[
        str,
        typer.Option("--from", metavar="T", help="Since when they ended: 2026-11-29T08:00, UTC without a zone."),
    ],
    to: Annotated[str, typer.Option(metavar="T", help="Until when they ended.")],
    of: Annotated[str, typer.Option(help="The environment whose events they are.")] = LIVE,
    archive: Annotated[
        str, typer.Option(help="Their archive: s3://BUCKET or a folder. Else by the names of --of.")
    ] = "",
    key: Annotated[list[str] | None, typer.Option(help="Only of this partition key; may be repeated.")] = None,
    cell: Annotated[list[str] | None, typer.Option(help="Only of this cell; may be repeated.")] = None,
    outcome: Annotated[list[Outcome] | None, typer.Option(help="Only with it: ok, failed or rejected.")] = None,
    speed: Annotated[Speed, typer.Option(help="As fast as they ended, ten times, or as the rate allows.")] = Speed.MAX,
    rate: Annotated[float, typer.Option(min=0.1, max=100_000, help="The most events a second.")] = 100,
    wait: Annotated[str, typer.Option(help="How long to wait for the results, after all are sent.")] = "10m",
    checkpoint: Annotated[Path | None, typer.Option(help="Where to keep how far it is; else a file here.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the comparison as JSON, with each event that differs.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Send archived events into another environment under their own ids, and compare how they end with how they ended.

    Never into live. After Ctrl-C or a kill, the same command goes on where it was. Exits 0 when all ended as before, 3
    when any ended otherwise, or not yet.
    """
    settings = configured()
    refuse(settings, env, of)
    where = Selection(
        _ms("--from", from_), _ms("--to", to), frozenset(key or ()), frozenset(cell or ()), frozenset(outcome or ())
    )
    if where.from_ms >= where.to_ms:
        raise typer.BadParameter("must be after --from", param_hint="--to")
    task = _Task(settings, where, of, archive, speed, rate, seconds_of("--wait", wait), checkpoint, dry_run=dry_run)
    found = run(task.done())
    if found is None:
        return
    for line in found.lines(SHOWN):
        typer.echo(printable(line))
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    if found.differs:
        raise typer.Exit(DIFFERS)


def refuse(settings: Settings, env: str, of: str) -> None:
    """See that this is the configuration of another environment than live. Raises BadParameter."""
    if env == LIVE:
        raise typer.BadParameter(
            "nothing is ever replayed into live: its events have had their effects", param_hint="--env"
        )
    if settings.environment != env:
        why = f"the configuration is that of {settings.environment}: set CELLROUTER_ENVIRONMENT and all that is {env}'s"
        raise typer.BadParameter(why, param_hint="--env")
    if not settings.archive.enabled:
        raise typer.BadParameter(
            f"how events end in {env} is read from its archive: set archive.enabled for it, also for its routers",
            param_hint="--env",
        )
    if env == of:
        raise typer.BadParameter("is the environment that they are sent into", param_hint="--of")


class TellsOfLeftOut:
    """Tells a person what a replay or a shadow leaves out."""

    def unreadable(self, name: str, why: Reason) -> None:
        """Tell that a line of the archive, or a whole object, is left out."""
        say(f"left out: {name}: {why}")

    def not_sent(self, record: ArchivedEvent, why: Reason) -> None:
        """Tell that an event fits in no message of the queue."""
        say(f"not sent: {record.partition_key} {record.event_id}: {why}")


class _Task(TellsOfLeftOut):
    """One run of the command; it is the Progress of its replay."""

    def __init__(
        self,
        settings: Settings,
        where: Selection,
        of: str,
        archive: str,
        speed: Speed,
        rate: float,
        wait_s: float,
        checkpoint: Path | None,
        *,
        dry_run: bool,
    ) -> None:
        self._settings = settings
        self._where = where
        self._of = of
        self._archive = archive or f"s3://{settings.aws.prefix}-{of}-archive"
        self._speed = speed
        self._rate = rate
        self._wait_s = wait_s
        self._file = checkpoint or Path(f"replay-{settings.environment}-{where.name}.json")
        self._dry_run = dry_run
        self._events = 0

    async def done(self) -> Comparison | None:
        """Send, wait and compare; None for a dry run."""
        from router.adapters.clock import SystemClock  # noqa: PLC0415 - --help stays quick
        from router.bootstrap.archive import open_replay  # noqa: PLC0415 - as above
        from router.services.replay import Replay  # noqa: PLC0415 - as above

        async with open_replay(self._settings) as tools:
            work = Replay(self._where, tools.archive(self._archive), self._of, self, SystemClock())
            live = await work.live()
            self._events = len(live.of)
            if self._dry_run or not live.of:
                for line in self._plan(live.of):
                    typer.echo(printable(line))
                return None
            return await self._sent(work, tools)

    async def _sent(self, work: Replay, tools: ReplayTools) -> Comparison:
        from router.bootstrap.archive import archive_bucket  # noqa: PLC0415 - --help stays quick
        from router.core.archive.comparison import compare  # noqa: PLC0415 - as above
        from router.services.replay import Pace  # noqa: PLC0415 - as above

        at = self._begun(work.clock.time_ms())
        if not at.done:
            at = await work.send(tools.queue, tools.keys, Pace(self._speed.times, self._rate), at)
            at = msgspec.structs.replace(at, done=True)
            self.sent(at)
        say(f"{at.sent} events are sent; waiting for how they end, {self._wait_s:.0f} s at most")
        live = (await work.live()).of
        results = tools.archive(f"s3://{archive_bucket(self._settings)}")
        environment = self._settings.environment
        found = await work.results(results, environment, at.started_at_ms, frozenset(live), self._wait_s)
        return compare(environment, live, found.of)

    def _begun(self, now_ms: int) -> Checkpoint:
        """Return where the replay was, or its begin. Raises ProvisionError for a file of another replay."""
        from router.adapters.checkpoints import load  # noqa: PLC0415 - --help stays quick

        new = Checkpoint(self._where.name, self._settings.environment, now_ms, self._where.minutes().start)
        found = load(self._file)
        if found is None:
            return new
        if isinstance(found, str):
            raise ProvisionError(f"{self._file}: {found}: delete it, or name another by --checkpoint")
        if (found.selection, found.environment) != (new.selection, new.environment):
            raise ProvisionError(f"{self._file} is of another replay: name another by --checkpoint")
        say(f"goes on after {found.sent} events, as {self._file} says; without that file it begins anew")
        return found

    def _plan(self, live: object) -> list[str]:
        from collections import Counter  # noqa: PLC0415 - --help stays quick

        endings = live.values() if isinstance(live, dict) else ()
        counts = Counter(str(each.outcome) for each in endings)
        told = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"
        return [f"Nothing is sent; without --dry-run {self._events} events would be, from {self._archive}: {told}"]

    def sent(self, at: Checkpoint) -> None:
        """Keep how far it is, so that it can go on there, and tell it."""
        from router.adapters.checkpoints import save  # noqa: PLC0415 - --help stays quick

        save(self._file, at)
        if at.done or sys.stderr.isatty() or at.sent // TOLD_EVERY > (at.sent - 10) // TOLD_EVERY:
            _progress(f"{at.sent} of {self._events} sent")

    def waiting(self, ended: int, events: int) -> None:
        """Tell of how many events the ending is known."""
        _progress(f"{ended} of {events} have ended")


def _progress(text: str) -> None:
    typer.echo(f"{text}\r" if sys.stderr.isatty() else text, nl=not sys.stderr.isatty(), err=True)


def say(text: str) -> None:
    """Tell a person a line, on standard error; nothing in it steers the terminal."""
    typer.echo(printable(text), err=True)


def _ms(option: str, text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"is no time, as 2026-11-29T08:00: {error}", param_hint=option) from error
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def seconds_of(option: str, text: str) -> float:
    """Read how long something lasts, as 10m. Raises BadParameter."""
    try:
        return float(parse_duration(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
