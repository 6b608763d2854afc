"""`cellrouter send`: put events on the source queue, once it is sure that a router will understand them."""

from __future__ import annotations

import os
import sys
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop

from router.core.errors import CellRouterError, MalformedMessageError
from router.core.messages.parser import Extraction, Parser
from router.core.models import Draft, Event, Message
from router.settings import Settings, load

STDIN: Final = Path("-")
_ITS_MESSAGE: Final = "its message"
"""Stands for the id that SQS is going to give a message."""


class NotSentError(CellRouterError):
    """An event can't be sent, or SQS has not taken it; the text says which and why."""


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
    """Send events to the source queue. What no router could understand is said, and nothing is sent then."""
    if (body is None) == (file is None):
        raise typer.BadParameter("give an event, or --file with many", param_hint="EVENT")
    settings = load(os.environ)
    texts = [body] if body is not None else _lines(file or STDIN)
    drafts, events = drafts_of(texts, key, settings)
    uvloop.run(_send(drafts, settings))
    if len(events) == 1:
        named = "" if _ITS_MESSAGE in events[0].event_id else f", id {events[0].event_id}"
        typer.echo(f"Sent: key {events[0].partition_key}{named}")
    else:
        typer.echo(f"Sent {len(events)} events of {len({event.partition_key for event in events})} keys")


def drafts_of(texts: list[str], key: str | None, settings: Settings) -> tuple[list[Draft], list[Event]]:
    """Make a message of each text, and the events that a router will find in them. Raises NotSentError."""
    parser = Parser(Extraction(settings.source.partition_key, settings.source.event_id))
    given = {} if key is None else {"partition_key": key}
    drafts, events = list[Draft](), list[Event]()
    for number, text in enumerate(texts, start=1):
        try:
            found = parser.parse(Message(_ITS_MESSAGE, "", text, 0, 1, given))
        except MalformedMessageError as error:
            which = f"event {number}: " if len(texts) > 1 else ""
            raise NotSentError(f"{which}{error}; nothing was sent") from error
        drafts.append(Draft(text, given))
        if settings.source.queue.endswith(".fifo") and found:
            group = found[0].partition_key
            drafts[-1] = Draft(text, given, group_id=group, dedup_id=uuid.uuid4().hex)
        events += found
    return drafts, events


async def _send(drafts: list[Draft], settings: Settings) -> None:
    from router.bootstrap.queues import queues_of  # noqa: PLC0415 - --help stays quick

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
