"""The envelope in which an event, or a message that holds none, lies in the dead-letter queue."""

from __future__ import annotations

import gzip
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from router.core.models import Draft, Event, Message

MAX_ENVELOPE_BYTES: Final = 1024 * 1024 - 4096  # SQS' limit for a message, less room for attributes
MAX_ERROR_CHARS: Final = 4000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Everything a person or a redrive needs."""

    reason: str  # one word: malformed, rejected, max_attempts
    error: str  # a sentence
    source: str  # the queue it came from
    message_id: str
    sent_at_ms: int  # when the source queue took it
    dead_at_ms: int
    body: str  # as it was
    event_id: str = ""  # empty for a message that holds no event
    partition_key: str = ""
    cell_id: str = ""
    generation: int = 0
    attempts: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)


def of_event(event: Event, message: Message, **more: Any) -> DeadLetter:
    """The dead letter of one event of a message."""
    return DeadLetter(
        message_id=message.message_id,
        sent_at_ms=message.sent_at_ms,
        body=event.body.decode(),
        event_id=event.event_id,
        partition_key=event.partition_key,
        attempts=event.attempt,
        attributes=message.attributes,
        **more,
    )


def of_message(message: Message, **more: Any) -> DeadLetter:
    """The dead letter of a whole message."""
    return DeadLetter(
        message_id=message.message_id,
        sent_at_ms=message.sent_at_ms,
        body=message.body,
        attributes=message.attributes,
        **more,
    )


def to_draft(letter: DeadLetter) -> Draft:
    """The message to send. A body that no longer fits beside the rest is compressed (`body_encoding`)."""
    fields = msgspec.to_builtins(letter)
    fields["error"] = letter.error[:MAX_ERROR_CHARS]
    fields["body_encoding"] = "plain"
    text = _json(fields)
    if len(text) > MAX_ENVELOPE_BYTES:
        fields["body"] = b64encode(gzip.compress(letter.body.encode("utf-8", "surrogatepass"), mtime=0)).decode()
        fields["body_encoding"] = "gzip+base64"
        text = _json(fields)
    return Draft(text.decode(), {"reason": letter.reason})


def from_body(text: str) -> DeadLetter:
    """The inverse of to_draft. Raises msgspec.DecodeError for a body that is no envelope."""
    fields = msgspec.json.decode(text)
    if not isinstance(fields, dict):
        raise msgspec.ValidationError("a dead letter is a JSON object")
    if fields.pop("body_encoding", "plain") == "gzip+base64":
        fields["body"] = gzip.decompress(b64decode(fields["body"])).decode("utf-8", "surrogatepass")
    return msgspec.convert(fields, DeadLetter)


def _json(fields: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(fields)
