"""Makes messages of what a person wants to send, once it is sure that a router will understand it."""

from __future__ import annotations

import uuid
from typing import Final

from router.core.errors import CellRouterError, MalformedMessageError
from router.core.messages.parser import Extraction, Parser
from router.core.models import Draft, Event, Message
from router.settings import Settings

ITS_MESSAGE: Final = "its message"
"""Stands for the id that SQS is going to give a message."""


class NotSentError(CellRouterError):
    """An event can't be sent, or SQS has not taken it; the text says which and why."""


def drafts_of(texts: list[str], key: str | None, settings: Settings) -> tuple[list[Draft], list[Event]]:
    """Make a message of each text, and the events that a router will find in them. Raises NotSentError."""
    parser = Parser(Extraction(settings.source.partition_key, settings.source.event_id))
    given = {} if key is None else {"partition_key": key}
    drafts, events = list[Draft](), list[Event]()
    for number, text in enumerate(texts, start=1):
        try:
            found = parser.parse(Message(ITS_MESSAGE, "", text, 0, 1, given))
        except MalformedMessageError as error:
            which = f"event {number}: " if len(texts) > 1 else ""
            raise NotSentError(f"{which}{error}; nothing was sent") from error
        drafts.append(Draft(text, given))
        if settings.source.queue.endswith(".fifo") and found:
            group = found[0].partition_key
            drafts[-1] = Draft(text, given, group_id=group, dedup_id=uuid.uuid4().hex)
        events += found
    return drafts, events
