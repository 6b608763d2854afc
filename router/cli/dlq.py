"""`cellrouter dlq …`: look at the dead-letter queue, send back what is in it, delete what is of no use."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import wraps
from inspect import Signature, signature
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from rich.table import Table

from cell_worker.contract.texts import printable
from router.cli.options import INTERRUPTED, DryRun
from router.cli.registry import configured, run
from router.cli.texts import Screen
from router.core.errors import CellRouterError
from router.core.messages.dead_letter import Entry, Filter, parse_duration
from router.core.models import Reason

if TYPE_CHECKING:
    from router.services.dead_letters import DeadLetters, EntryReport, Report, Tally
    from router.settings import Settings

app = typer.Typer(
    help="Look at dead letters, send them back (redrive), delete them (drop).",
    no_args_is_help=True,
)

PROGRESS_EVERY: Final = 1000  # entries, where there is no terminal
PAGE: Final = 10  # rows of a table that are laid out together, so that the first don't wait for the end of the queue
COLUMNS: Final[dict[str, dict[str, Any]]] = {
    "dead at": {"width": 20},
    "reason": {"width": 12},
    "event or entry": {"ratio": 4},
    "key": {"ratio": 2},
    "cell": {"width": 9},
    "tries": {"width": 5, "justify": "right"},
    "error": {"ratio": 5},
}

Rate = Annotated[float | None, typer.Option(min=0.001, metavar="N", help="The most entries a second.")]
All = Annotated[bool, typer.Option("--all", help="Every entry: needed when nothing else says which.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def _filter(
    *,
    reason: Annotated[
        str | None, typer.Option(help="malformed, rejected, max_attempts, killed_cell, foreign or incomplete (a part).")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The partition key.")] = None,
    cell: Annotated[str | None, typer.Option(help="The cell that it died in.")] = None,
    event: Annotated[str | None, typer.Option(help="The event id.")] = None,
    source: Annotated[str | None, typer.Option(help="The queue that it came from.")] = None,
    error: Annotated[str | None, typer.Option(metavar="TEXT", help="A text that its error has in it.")] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Died longer ago: 90s, 30m, 2h, 7d, 1d12h.")
    ] = None,
    newer_than: Annotated[str | None, typer.Option(metavar="DURATION", help="Died since.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="The most entries.")] = None,
) -> Filter:
    """The options by which every command says which entries it means, and the filter that they make."""
    return Filter(
        reason=reason,
        key=key,
        cell=cell,
        event=event,
        source=source,
        error=error,
        older_than_s=_seconds("--older-than", older_than),
        newer_than_s=_seconds("--newer-than", newer_than),
        limit=limit,
    )


def _with_filter(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `_filter`, and as its parameter `where` the filter that they make."""
    options, own = (dict(signature(each, eval_str=True).parameters) for each in (_filter, command))
    del own["where"]

    @wraps(command)
    def run(**given: Any) -> None:
        where = _filter(**{name: given.pop(name) for name in options})
        command(where=where, **given)

    parameters = sorted([*options.values(), *own.values()], key=lambda parameter: parameter.kind)
    vars(run)["__signature__"] = Signature(parameters)  # what typer reads
    return run


@app.command("list")
@_with_filter
def list_(*, where: Filter, json: Json = False) -> None:
    """List entries, a line each, without their bodies."""
    printer = EntryPrinter(json=json)
    tally = _tally()
    _run(lambda letters: letters.look(where, tally, printer.show), tally, printer.close)
    nothing = "No entry is visible: the queue is empty, or another run looks at it"
    _say(f"{tally.done} of {tally.done + tally.other} entries seen match" if tally.left else nothing)
    if tally.full:
        raise typer.Exit(1)


@app.command()
@_with_filter
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The event's id, the entry's, or the original message's.")],
    *,
    where: Filter,
    json: Json = False,
) -> None:
    """Show all of an entry, its body too. An event that died twice has two."""
    tally = _tally()

    def print_one(entry: Entry) -> None:
        typer.echo(_json(entry, body=True) if json else "\n".join(_all_of(entry)) + "\n")

    _run(lambda letters: letters.look(replace(where, any_id=id_), tally, print_one), tally)
    if not tally.done:
        _say(f"No entry has the id {printable(id_)}; cellrouter dlq list shows which there are.")
        raise typer.Exit(1)


@app.command()
@_with_filter
def redrive(*, where: Filter, all_: All = False, dry_run: DryRun = False, rate: Rate = None) -> None:
    """Send entries back to where they came from, under the same event ids; each is deleted once it was taken.

    Exits 0 only when all that matched was done.
    """
    _refuse_unclear(where, every=all_)
    _change(
        lambda letters, tally, to: letters.redrive(where, tally, to, rate=rate, dry_run=dry_run), "redriven", dry_run
    )


@app.command()
@_with_filter
def drop(
    *,
    where: Filter,
    all_: All = False,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Delete entries for good. Asks before, on a terminal.

    Exits 0 only when all that matched was done.
    """
    _refuse_unclear(where, every=all_)
    if not dry_run and not yes:
        _confirm(where)
    _change(lambda letters, tally, to: letters.drop(where, tally, to, dry_run=dry_run), "dropped", dry_run)


def _tally() -> Tally:
    from router.services.dead_letters import Tally  # noqa: PLC0415 - --help stays quick

    return Tally()


def _seconds(option: str, text: str | None) -> int | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _refuse_unclear(where: Filter, *, every: bool) -> None:
    if where.is_empty and not every:
        raise typer.BadParameter(
            "say which entries, by --reason, --key, … (see --help), or --all for every one of them"
        )
    if every and not where.is_empty:
        raise typer.BadParameter("--all is every entry; leave it out, or the filters")


def _confirm(where: Filter) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            "there is no terminal to ask on: give --yes, or --dry-run to see what would be deleted"
        )
    queue = configured().source.dead_letter_queue
    typer.confirm(
        f"Delete for good from {queue}: {printable(str(where))}? (--dry-run shows them)", abort=True, err=True
    )


def _change(act: Callable[[DeadLetters, Tally, Report], Awaitable[None]], verb: str, dry: bool) -> None:
    tally = _tally()
    done = f"would be {verb}" if dry else verb

    def report(step: EntryReport) -> None:
        if step.kind == "would":
            typer.echo(f"would be {verb}: {' '.join([*_words(step.entry), step.detail]).rstrip()}")
        elif step.kind == "failed":
            _say(f"failed: {printable(step.entry.name)}: {printable(step.detail)}")
        elif tally.done % (1 if sys.stderr.isatty() else PROGRESS_EVERY) == 0:
            _progress(f"{tally.done} {done}, {tally.failed} failed so far")

    def summary() -> None:
        why = _why_left(tally, dry=dry)
        typer.echo(f"{tally.done} {done}, {tally.failed} failed, {tally.left} left{f' ({why})' if why else ''}")

    _run(lambda letters: act(letters, tally, report), tally, summary)
    if tally.failed or tally.full:
        raise typer.Exit(1)


def _progress(text: str) -> None:
    """Print how far a change is; on a terminal, over what was printed before."""
    typer.echo(f"{text}\r" if sys.stderr.isatty() else text, nl=not sys.stderr.isatty(), err=True)


def _why_left(tally: Tally, *, dry: bool) -> Reason | None:
    parts = {"would not be touched": tally.other} if dry else {"failed": tally.failed, "don't match": tally.other}
    parts["came after the start"] = tally.newer
    texts = [f"{count} {what}" for what, count in parts.items() if count]
    return ", ".join(texts) or None


def _run(
    work: Callable[[DeadLetters], Awaitable[None]], tally: Tally, close: Callable[[], None] = lambda: None
) -> None:
    """Do some work on the queue; then, even after an error, call `close` and warn of what the work leaves behind."""
    import asyncio  # noqa: PLC0415 - --help stays quick

    settings = configured()
    try:
        run(_interruptible(settings, work))
    except CellRouterError:
        _say("ended early by an error; up to then:")
        raise
    except asyncio.CancelledError:
        _say("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        with suppress(BrokenPipeError):
            close()
            _warn(tally)


async def _interruptible(settings: Settings, work: Callable[[DeadLetters], Awaitable[None]]) -> None:
    """Do some work that the first Ctrl-C or SIGTERM ends in good order, and the second at once."""
    import asyncio  # noqa: PLC0415 - --help stays quick

    from router.bootstrap.queues import open_dead_letters  # noqa: PLC0415 - as above

    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        if task.cancelling():
            os._exit(INTERRUPTED)
        _say("stopping: what was hidden is made visible again")
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with open_dead_letters(settings) as letters:
        await work(letters)


def _warn(tally: Tally) -> None:
    from router.services.queue_scan import HIDDEN_S  # noqa: PLC0415 - --help stays quick

    if tally.unreleased:
        _say(f"{tally.unreleased} entries could not be made visible again; they are by themselves in {HIDDEN_S} s")
    if tally.full:
        _say(f"stopped after {tally.left} entries: SQS hides no more of a queue at once. Redrive or drop some first")


def _say(text: str) -> None:
    typer.echo(text, err=True)


class EntryPrinter:
    """Prints entries as they come: as a table on a terminal, else tab-separated; or as JSON, a line each."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._screen = Screen() if sys.stdout.isatty() and not json else None
        self._page: list[Entry] = []
        self._pages = 0

    def show(self, entry: Entry) -> None:
        """Print one more entry, at the latest when `close` is called."""
        if self._screen is None:
            typer.echo(_json(entry, body=False) if self._json else "\t".join(_cells(entry)))
            return
        self._page.append(entry)
        if len(self._page) == PAGE:
            self.close()

    def close(self) -> None:
        """Print the rows that still wait for their page to be full."""
        if self._screen is None or not self._page:
            return
        table = Table(box=None, expand=True, show_header=not self._pages, pad_edge=False)
        for name, options in COLUMNS.items():
            table.add_column(name, overflow="fold", **options)
        for entry in self._page:
            table.add_row(*_cells(entry))
        self._screen.print(table)
        self._page.clear()
        self._pages += 1


def _cells(entry: Entry) -> list[str]:
    letter = entry.letter
    fields = (letter.reason, entry.name, letter.partition_key, letter.cell_id, str(letter.attempts or ""), letter.error)
    return [_time(letter.dead_at_ms), *map(printable, fields)]


def _words(entry: Entry) -> list[str]:
    letter = entry.letter
    what = "event" if entry.is_event else "message"
    key = [f"key={printable(letter.partition_key)}"] if entry.is_event else []
    return [what, printable(entry.name), f"reason={printable(letter.reason)}", *key]


def _json(entry: Entry, *, body: bool) -> str:
    """The envelope's fields, and beside them the entry's own id, arrival and count of receives."""
    fields = {
        "entry_id": entry.message.message_id,
        "entered_at_ms": entry.message.sent_at_ms,
        "receive_count": entry.message.receive_count,
        **msgspec.to_builtins(entry.letter),
        "body_bytes": len(entry.letter.body.encode("utf-8", "surrogatepass")),
    }
    if not body:
        del fields["body"]
    return dumps(fields)  # in ASCII


def _all_of(entry: Entry) -> list[str]:
    letter = entry.letter
    fields = msgspec.to_builtins(letter)
    body = fields.pop("body")
    for name in ("sent_at_ms", "dead_at_ms"):
        fields[name.removesuffix("_ms")] = _time(fields.pop(name))
    types = fields.pop("types")
    for name, value in (fields.pop("attributes") | fields.pop("binaries")).items():
        fields[f"attribute {name}" + (f" ({types[name]})" if name in types else "")] = value
    fields = {"entry_id": entry.message.message_id, "receive_count": entry.message.receive_count} | fields
    lines = [f"{name + ':':<16} {printable(str(value))}" for name, value in fields.items() if value not in ("", 0)]
    return [*lines, "body:", *map(printable, _pretty(body).split("\n"))]


def _pretty(body: str) -> str:
    try:
        return msgspec.json.format(body, indent=2)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return body


def _time(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(ms)  # in a forged envelope
