"""The envelope in which an event, or a message that holds none, lies in the dead-letter queue.

This module also decides about such entries: which of them an operator means (`Filter`), to which queue each goes back
(`destination`), and as which message (`redrive_draft`).
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from base64 import b64decode, b64encode, b85decode, b85encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from router.core.messages.parser import held_draft
from router.core.messages.proofs import AttributeKeys
from router.core.models import DeadLetterReason, Draft, Event, Message

MAX_ENVELOPE_BYTES: Final = 1024 * 1024 - 4096  # SQS' limit for a message, less room for attributes
MAX_ERROR_CHARS: Final = 4000
MAX_BODY_BYTES: Final = 4 * 1024 * 1024  # unpacked: far more than SQS takes, far less than hurts
_GROUP_ID: Final = re.compile(r"[!-~]{1,128}")  # what SQS takes for a group
_UNIT_S: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_DURATION: Final = re.compile("".join(rf"(?:(\d{{1,9}}){unit})?" for unit in _UNIT_S), re.ASCII)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The content of an envelope: all that a person or a redrive needs to know."""

    reason: str  # a DeadLetterReason, or what another version of the router wrote
    error: str  # a sentence for people
    source: str  # the queue it came from
    message_id: str
    sent_at_ms: int  # when the source queue took it
    dead_at_ms: int  # when the router gave it up
    body: str  # unchanged; empty when there is a pointer
    event_id: str = ""  # empty for a message that holds no event
    partition_key: str = ""
    cell_id: str = ""
    generation: int = 0
    attempts: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)
    pointer: str = ""  # the S3 pointer that the body was fetched by
    group_id: str = ""  # the message group, where it had one

    @property
    def origin(self) -> str:
        """The body of the original message: the S3 pointer, or else the body itself."""
        return self.pointer or self.body


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of the dead-letter queue, and the letter that it holds."""

    message: Message
    letter: DeadLetter

    @property
    def ids(self) -> tuple[str, str, str]:
        """The ids by which an operator can name the entry: the event's, the entry's own, the original message's."""
        return (self.letter.event_id, self.message.message_id, self.letter.message_id)

    @property
    def name(self) -> str:
        """The name that people see: the event's id, else the id of the entry's own message."""
        return self.letter.event_id or self.message.message_id

    @property
    def is_event(self) -> bool:
        """Whether the entry is one event; otherwise it is a whole message in which no event was found."""
        return bool(self.letter.event_id and self.letter.partition_key)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries an operator means: those for which every condition that is given holds."""

    reason: str | None = None
    key: str | None = None
    cell: str | None = None
    event: str | None = None
    source: str | None = None
    error: str | None = None  # a part of its error
    older_than_s: float | None = None
    newer_than_s: float | None = None
    any_id: str | None = None  # the event's, the entry's or the original message's
    limit: int | None = None  # so many entries at most

    @property
    def is_empty(self) -> bool:
        """Whether no condition is given, so that every entry is meant."""
        return self == Filter()

    def matches(self, entry: Entry, now_ms: int) -> bool:
        """Whether the entry is meant at that wall time; `limit` is left to the caller to count."""
        letter, age_ms = entry.letter, now_ms - entry.letter.dead_at_ms
        return (
            self.reason in (None, letter.reason)
            and self.key in (None, letter.partition_key)
            and self.cell in (None, letter.cell_id)
            and self.event in (None, letter.event_id)
            and self.source in (None, letter.source)
            and (self.error is None or self.error in letter.error)
            and (self.older_than_s is None or age_ms > self.older_than_s * 1000)
            and (self.newer_than_s is None or age_ms < self.newer_than_s * 1000)
            and (self.any_id is None or self.any_id in entry.ids)
        )

    def __str__(self) -> str:
        words = {"older_than_s": "dead for more than {:g} s", "newer_than_s": "dead for less than {:g} s"}
        words |= {"error": "{!r} in its error", "limit": "at most {} of them"}
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}
        texts = [words.get(name, name + " {!r}").format(value) for name, value in given.items() if value is not None]
        return ", ".join(texts) or "everything"


def of_event(event: Event, message: Message, **more: Any) -> DeadLetter:
    """Return the dead letter of one event of a message; `more` are the circumstances of its death."""
    return DeadLetter(
        message_id=message.message_id,
        sent_at_ms=message.sent_at_ms,
        body="" if event.pointer else event.body.decode(),
        event_id=event.event_id,
        partition_key=event.partition_key,
        attempts=event.attempt,
        attributes=message.attributes,
        pointer=event.pointer,
        group_id=message.group_id or "",
        **more,
    )


def of_message(message: Message, **more: Any) -> DeadLetter:
    """Return the dead letter of a whole message; `more` are the circumstances of its death."""
    return DeadLetter(
        message_id=message.message_id,
        sent_at_ms=message.sent_at_ms,
        body="" if message.pointer else message.body,
        attributes=message.attributes,
        pointer=message.pointer,
        group_id=message.group_id or "",
        **more,
    )


def to_draft(letter: DeadLetter) -> Draft:
    """Return the message to send. A body that doesn't fit beside the rest is compressed (see `body_encoding`)."""
    fields = msgspec.to_builtins(letter)
    fields["error"] = letter.error[:MAX_ERROR_CHARS]
    fields["body_encoding"] = "plain"
    text = _json(fields)
    for encoding, (encode, _) in _ENCODINGS.items():
        if len(text) <= MAX_ENVELOPE_BYTES:
            break
        packed = gzip.compress(letter.body.encode("utf-8", "surrogatepass"), mtime=0)
        text = _json(fields | {"body": encode(packed).decode(), "body_encoding": encoding})
    return Draft(text.decode(), {"reason": letter.reason})


def from_body(text: str) -> DeadLetter:
    """Read an envelope, as the inverse of `to_draft`. Raises msgspec.DecodeError for a body that is none."""
    fields = msgspec.json.decode(text)
    if not isinstance(fields, dict):
        raise msgspec.ValidationError("a dead letter is a JSON object")
    if (encoding := fields.pop("body_encoding", "plain")) != "plain":
        fields["body"] = _unpacked(encoding, fields.get("body"))
    return msgspec.convert(fields, DeadLetter)


def read(message: Message) -> Entry:
    """Read a message of the dead-letter queue. One that is in no envelope becomes a letter with the reason FOREIGN."""
    try:
        return Entry(message, from_body(message.body))
    except (msgspec.DecodeError, ValueError, RecursionError):
        letter = of_message(
            message,
            reason=DeadLetterReason.FOREIGN,
            error="is in no envelope: something else than a router put it here",
            source="",
            dead_at_ms=message.sent_at_ms,
        )
        return Entry(message, letter)


def destination(letter: DeadLetter, home: str, is_ours: Callable[[str, str], bool]) -> str:
    """Return the name of the queue that an entry goes back to, which is the one that its envelope names.

    An entry that names no queue, or a queue of this environment (`is_ours` of the queue and the cell), goes to `home`,
    the source queue: the router takes it on from there, also into a hold queue.
    """
    return home if not letter.source or is_ours(letter.source, letter.cell_id) else letter.source


def redrive_draft(entry: Entry, queue: str, keys: AttributeKeys) -> Draft:
    """Return the message to send to the queue, so that the router begins anew with the entry.

    An event goes under its own id, as through a hold queue, and with its first attempt before it; if it has been
    processed after all, its cell knows the id. A whole message goes unchanged.
    """
    letter = entry.letter
    if entry.is_event:
        event = Event(letter.event_id, letter.partition_key, letter.origin.encode())
        draft = held_draft(event, 0, keys)
    else:
        draft = Draft(letter.origin, letter.attributes)
    fifo = queue.endswith(".fifo")
    group = letter.group_id or (letter.partition_key or entry.name if fifo else "")
    return Draft(
        body=draft.body,
        attributes=draft.attributes,
        group_id=_group_id(group) if group else None,
        dedup_id=_dedup_id(entry) if fifo else None,
    )


def parse_duration(text: str) -> int:
    """Return the seconds of a duration such as `90s`, `30m`, `2h`, `7d`, `1w` or `1d12h`. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is no duration: write 90s, 30m, 2h, 7d, or 1d12h")
    return sum(int(count or 0) * unit_s for count, unit_s in zip(found.groups(), _UNIT_S.values(), strict=True))


def _group_id(text: str) -> str:
    return text if _GROUP_ID.fullmatch(text) else _hash(text)


def _dedup_id(entry: Entry) -> str:
    """An id that is the same for the same death, so that a redrive which is cut short and repeated sends it once."""
    letter = entry.letter
    return _hash(f"{letter.partition_key}\n{letter.event_id or letter.message_id}\n{letter.dead_at_ms}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# Every tool can undo the first encoding. The second, for a body that the first leaves too large, takes less room.
_ENCODINGS: Final[Mapping[str, tuple[Callable[[bytes], bytes], Callable[[str], bytes]]]] = {
    "gzip+base64": (b64encode, b64decode),
    "gzip+base85": (b85encode, b85decode),
}


def _unpacked(encoding: object, body: object) -> str:
    if not isinstance(body, str) or not isinstance(encoding, str) or encoding not in _ENCODINGS:
        raise msgspec.ValidationError(f"a body can't be read in the encoding {encoding!r:.40}")
    _, decode = _ENCODINGS[encoding]
    gunzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        raw = gunzip.decompress(decode(body), MAX_BODY_BYTES)
        text = raw.decode("utf-8", "surrogatepass")
    except (ValueError, zlib.error) as error:
        raise msgspec.ValidationError(f"the body can't be unpacked: {error}") from error
    if not gunzip.eof:
        raise msgspec.ValidationError("the body is cut short, or too large to be one of ours")
    return text


def _json(fields: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(fields)
