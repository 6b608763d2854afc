"""The envelope in which an event, or a message that holds none, lies in the dead-letter queue.

This module also decides about such entries: which of them an operator means (`Filter`), to which queue each goes back
(`destination`), and as which message (`redrive_draft`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from router.core.messages.origin import origin_of
from router.core.messages.parser import held_draft
from router.core.messages.parts import Parts, Whole, cut, part_in
from router.core.messages.proofs import AttributeKeys
from router.core.messages.sqs_text import escaped
from router.core.models import MAX_MESSAGE_BYTES, DeadLetterReason, Draft, Event, Message, Origin, Reason

MAX_ERROR_CHARS: Final = 4000
MAX_BODY_BYTES: Final = 4 * 1024 * 1024  # unpacked: far more than SQS takes, far less than hurts
MAX_ENVELOPE_BYTES: Final = 8 * 1024 * 1024  # unpacked: in JSON, quotes and binary values take more than in SQS
DEDUP_MS: Final = 600_000  # SQS remembers a deduplication id for half of it; the rest is for clocks that differ
_GROUP_ID: Final = re.compile(r"[!-~]{1,128}")  # what SQS takes for a group
GZIPPED: Final = "gzip+base64"
INCOMPLETE_S: Final = 300  # as long as a run hides what it has seen
_LEVEL: Final = 6  # of compression: higher ones take twice the time and save a hundredth
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
    types: Mapping[str, str] = field(default_factory=dict)  # of the attributes whose type isn't `String`
    binaries: Mapping[str, bytes] = field(default_factory=dict)  # the attributes that are no text
    trace_header: str = ""  # AWSTraceHeader
    pointer: str = ""  # the S3 pointer that the body was fetched by
    group_id: str = ""  # the message group, where it had one
    dedup_id: str = ""  # the deduplication id, where it had one
    whole: bool = False  # the event is all of the message's body

    @property
    def original(self) -> str:
        """The body of the original message: the S3 pointer, or else the body itself."""
        return self.pointer or self.body


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of the dead-letter queue, and the letter that it holds."""

    message: Message
    letter: DeadLetter
    others: tuple[Message, ...] = ()  # that hold further parts of it, or such a part once more

    @property
    def messages(self) -> tuple[Message, ...]:
        """All the messages that have to be deleted to delete the entry."""
        return (self.message, *self.others)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids by which an operator can name the entry: the event's, the entry's own, the original message's."""
        return (self.letter.event_id, *(each.message_id for each in self.messages), self.letter.message_id)

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
    origin = event.origin or origin_of(message, (event,))
    return DeadLetter(
        body="" if event.pointer else event.body.decode(),
        event_id=event.event_id,
        partition_key=event.partition_key,
        attempts=event.attempt,
        pointer=event.pointer,
        **{name: getattr(origin, name) for name in Origin.__struct_fields__},
        **more,
    )


def of_message(message: Message, **more: Any) -> DeadLetter:
    """Return the dead letter of a whole message; `more` are the circumstances of its death."""
    return DeadLetter(
        message_id=message.message_id,
        sent_at_ms=message.sent_at_ms,
        body="" if message.pointer else message.body,
        attributes=message.attributes,
        types=message.types,
        binaries=message.binaries,
        trace_header=message.trace_header,
        pointer=message.pointer,
        group_id=message.group_id or "",
        dedup_id=message.dedup_id or "",
        whole=True,
        **more,
    )


def to_drafts(letter: DeadLetter, max_bytes: int = MAX_MESSAGE_BYTES) -> list[Draft]:
    """Return the messages to send to a queue that takes messages of `max_bytes`: nearly always one.

    A body that doesn't fit beside the rest is compressed (see `body_encoding`). What doesn't fit even so is compressed
    as a whole and cut into parts, of which each is a message: see `parts`.
    """
    fields = msgspec.to_builtins(letter)
    fields["error"] = letter.error[:MAX_ERROR_CHARS]
    fields["body_encoding"] = "plain"
    attributes = {"reason": letter.reason}
    draft = Draft(text := _json(fields), attributes)
    if draft.size <= max_bytes:
        return [draft]
    body = _gzipped(letter.body)
    draft = Draft(_json(fields | {"body": body, "body_encoding": GZIPPED}), attributes)
    return [draft] if draft.size <= max_bytes else cut(_gzipped(text), attributes, max_bytes)


def from_body(text: str) -> DeadLetter:
    """Read an envelope, as the inverse of `to_drafts`. Raises ValueError for a body that is none."""
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise msgspec.ValidationError("a dead letter is a JSON object")
    if (encoding := fields.pop("body_encoding", "plain")) != "plain":
        fields["body"] = _unpacked(encoding, fields.get("body"), MAX_BODY_BYTES)
    return msgspec.convert(fields, DeadLetter)


def entries(messages: Sequence[Message], parts: Parts) -> list[Entry]:
    """Read messages of the dead-letter queue. What is a part waits in `parts` until it is an entry with the others."""
    found: list[Entry] = []
    for message in messages:
        part = part_in(message)
        if part is None:
            found.append(read(message))
        elif whole := parts.add(message, part):
            found.append(_from_parts(whole))
    return found


def incomplete(parts: Parts) -> list[Entry]:
    """Take out what still waits for other parts: each is a letter with the reason INCOMPLETE."""
    return [
        _unread(
            message,
            DeadLetterReason.INCOMPLETE,
            f"is part {part.part} of {part.parts} of a long envelope, and others were not found: look again in "
            f"{INCOMPLETE_S // 60} min; if they are not there then, it is a copy of what was sent or dropped: drop it",
        )
        for message, part in parts.left()
    ]


def read(message: Message) -> Entry:
    """Read a message of the dead-letter queue. One that is in no envelope becomes a letter with the reason FOREIGN."""
    try:
        return Entry(message, from_body(message.body))
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        why = "is in no envelope: something else than a router put it here"
        return _unread(message, DeadLetterReason.FOREIGN, why)


def destination(letter: DeadLetter, home: str, is_ours: Callable[[str, str], bool]) -> str:
    """Return the name of the queue that an entry goes back to, which is the one that its envelope names.

    An entry that names no queue, or a queue of this environment (`is_ours` of the queue and the cell), goes to `home`,
    the source queue: the router takes it on from there, also into a hold queue.
    """
    return home if not letter.source or is_ours(letter.source, letter.cell_id) else letter.source


def redrive_draft(
    entry: Entry, queue: str, keys: AttributeKeys, now_ms: int, max_bytes: int = MAX_MESSAGE_BYTES
) -> Draft:
    """Return the message to send to the queue, so that the router begins anew with the entry.

    An event goes under its own id, as through a hold queue, and with its first attempt before it; if it has been
    processed after all, its cell knows the id. On a standard queue it has the group that its producer gave it, or else
    its key's. A whole message goes unchanged, and so does an event that is all of its
    message and leaves no room for attributes of ours. `now_ms` is wall time, and `max_bytes` what the queue takes.
    """
    letter = entry.letter
    draft = Draft(letter.original, letter.attributes, types=letter.types, binaries=letter.binaries)
    if entry.is_event:
        held = held_draft(_event(letter), 0, keys, max_bytes)
        draft = draft if letter.whole and held.size > max_bytes else held
    fifo = queue.endswith(".fifo")
    group = letter.group_id or (letter.partition_key or entry.name if fifo else "")
    return replace(
        draft,
        trace_header=letter.trace_header,
        group_id=_group_id(group) if group else draft.group_id,
        dedup_id=_dedup_id(entry, now_ms) if fifo else None,
    )


def parse_duration(text: str) -> int:
    """Return the seconds of a duration such as `90s`, `30m`, `2h`, `7d`, `1w` or `1d12h`. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is no duration: write 90s, 30m, 2h, 7d, or 1d12h")
    return sum(int(count or 0) * unit_s for count, unit_s in zip(found.groups(), _UNIT_S.values(), strict=True))


def _group_id(text: str) -> str:
    return text if _GROUP_ID.fullmatch(text) else _hash(text)


def _dedup_id(entry: Entry, now_ms: int) -> str:
    """The original id where SQS can't have it in mind any more, since it would take the message and deliver nothing.

    Otherwise an id that is the same for the same death, so that a redrive which is cut short and repeated sends it
    once. Events that were one message need an id each; and an id that is the body's hash names no message.
    """
    letter = entry.letter
    if letter.whole and letter.dedup_id not in ("", _hash(letter.original)) and now_ms - letter.dead_at_ms >= DEDUP_MS:
        return letter.dedup_id
    return _hash(f"{letter.partition_key}\n{letter.event_id or letter.message_id}\n{letter.dead_at_ms}")


def _event(letter: DeadLetter) -> Event:
    origin = Origin(**{name: getattr(letter, name) for name in Origin.__struct_fields__})
    body = letter.original.encode()
    return Event(letter.event_id, letter.partition_key, body, pointer=letter.pointer, origin=origin)


def _from_parts(whole: Whole) -> Entry:
    first, *others = whole.messages
    try:
        return Entry(first, from_body(_unpacked(GZIPPED, whole.data, MAX_ENVELOPE_BYTES)), tuple(others))
    except (ValueError, RecursionError) as error:
        found = _unread(first, DeadLetterReason.FOREIGN, f"its parts make no envelope: {error}")
        return Entry(first, found.letter, tuple(others))


def _unread(message: Message, reason: DeadLetterReason, error: Reason) -> Entry:
    dead_at_ms = message.sent_at_ms
    return Entry(message, of_message(message, reason=reason, error=error, source="", dead_at_ms=dead_at_ms))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _gzipped(text: str) -> str:
    """Compress a text into base64, which every tool can undo."""
    return b64encode(gzip.compress(text.encode("utf-8", "surrogatepass"), _LEVEL, mtime=0)).decode()


def _unpacked(encoding: object, packed: object, max_bytes: int) -> str:
    if not isinstance(packed, str) or encoding != GZIPPED:
        raise msgspec.ValidationError(f"a body can't be read in the encoding {encoding!r:.40}")
    gunzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        text = gunzip.decompress(b64decode(packed), max_bytes).decode("utf-8", "surrogatepass")
    except (ValueError, zlib.error) as error:
        raise msgspec.ValidationError(f"the body can't be unpacked: {error}") from error
    if not gunzip.eof:
        raise msgspec.ValidationError("the body is cut short, or too large to be one of ours")
    return text


def _json(fields: Mapping[str, Any]) -> str:
    return escaped(json.dumps(fields, ensure_ascii=False, separators=(",", ":")))
