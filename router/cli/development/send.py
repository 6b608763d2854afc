"""`cellrouter send`: put events on the source queue, once it is sure that a router will understand them."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from router.cli.registry import configured, run

if TYPE_CHECKING:
    from router.core.models import Draft
    from router.settings import Settings

STDIN: Final = Path("-")


def send(
    body: Annotated[str | None, typer.Argument(metavar="EVENT", help="The event as JSON.", show_default=False)] = None,
    *,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Events from a file, one a line; - is standard input.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Their partition key; left out: the one that is in each of them.")
    ] = None,
) -> None:
    """Send events to the source queue. If no router could read one of them, it is named, and none is sent."""
    if (body is None) == (file is None):
        raise typer.BadParameter("give an event, or --file with many", param_hint="EVENT")
    from router.cli.development.drafts import ITS_MESSAGE, drafts_of  # noqa: PLC0415 - --help stays quick

    settings = configured()
    texts = [body] if body is not None else _lines(file or STDIN)
    drafts, events = drafts_of(texts, key, settings)
    run(_send(drafts, settings))
    if len(events) == 1:
        named = "" if ITS_MESSAGE in events[0].event_id else f", id {events[0].event_id}"
        typer.echo(f"Sent: key {events[0].partition_key}{named}")
    else:
        typer.echo(f"Sent {len(events)} events of {len({event.partition_key for event in events})} keys")


async def _send(drafts: list[Draft], settings: Settings) -> None:
    from router.bootstrap.queues import queues_of  # noqa: PLC0415 - --help stays quick
    from router.cli.development.drafts import NotSentError  # noqa: PLC0415 - as above

    async with AsyncExitStack() as stack:
        source, _ = await queues_of(stack, settings)
        for begin in range(0, len(drafts), 10):
            if failed := await source.send(drafts[begin : begin + 10]):
                raise NotSentError(f"SQS has not taken event {begin + failed[0] + 1}; those before it are sent")


def _lines(file: Path) -> list[str]:
    try:
        text = sys.stdin.read() if file == STDIN else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} can't be read: {error}", param_hint="--file") from error
    return [line for line in text.splitlines() if line.strip()]
