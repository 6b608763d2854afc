"""Finds the events in a queue message.

The parser understands S3 notifications (an event for each record), CloudTrail's (an event for each key), EventBridge
events, the documents of `shapes` and any other JSON object as one event, each of them also inside an SNS notification,
and what S3 and CloudTrail send when they are set up, which is no event at all. The users' page is
docs/reference/events.md.

The **partition key** is the first of these that is there: the message attribute `partition_key`; what a configured
JMESPath finds; the account in the key of an S3 object, else its bucket; on a FIFO queue the message group; the members
KEY_MEMBERS, for EventBridge in `detail` before the envelope; on any queue the message group.

The **event id** is the first of these that is there: the message attribute `event_id`; what a configured JMESPath
finds; the S3 object's version; for EventBridge the envelope's `id`, for a CloudEvent its `source` and `id`; the message
id. It counts within its partition key.

Messages that come from a hold queue carry both in message attributes: see `held_draft`. What those say is taken for
true here: `proofs.believed` has left out what nobody proves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec
from msgspec.structs import replace

from router.core.errors import MalformedMessageError
from router.core.messages import event_ids, s3_events, shapes
from router.core.messages.key_paths import compile_path
from router.core.messages.origin import body_of, death_of, with_body_in_attribute, with_death, with_origin
from router.core.messages.pointers import pointer_in
from router.core.messages.proofs import ATTEMPT, OURS, PROOF, PROOF_CHARS, AttributeKeys, signed
from router.core.messages.sqs_text import group_of, is_sendable_json
from router.core.messages.strict_json import JsonText
from router.core.messages.wrapping import certainly_one_list, check_confirmed, notification_in, unwrap
from router.core.models import MAX_MESSAGE_BYTES, Draft, Event, Message

__all__ = ["ATTEMPT", "KILLED", "UNANSWERED", "Extraction", "Parser", "can_be_held", "compile_path", "held_draft"]

MAX_BODY_BYTES: Final = MAX_MESSAGE_BYTES  # a larger body did not come from SQS
_ROOM_BYTES: Final = 64 * 1024  # far more than id, key and numbers need
_PROOF_BYTES: Final = Draft("", {PROOF: "0" * PROOF_CHARS}).size
MAX_KEY_BYTES: Final = 1024
MAX_ID_BYTES: Final = 8192  # an S3 object's has up to about 2200; it travels in message attributes
MAX_NUMBERS: Final = 100  # in one attribute: far more than a router ever writes
UNANSWERED: Final = f"{OURS}unanswered"  # the attribute with the generations that never answered the event
KILLED: Final = f"{OURS}killed"  # the attribute with those of them that died before its last quarantine
RETRIES: Final = f"{OURS}retries"  # the attribute with its lone retries: how many, and since when
KEY_MEMBERS: Final = ("partition_key", "tenant_id", "tenant", "account_id", "account")
_BODY: Final = "the body"
_SNS_MESSAGE: Final = "the Message of the SNS notification"
_NOTHING: Final = (None, "")
_SHORT_KEY: Final = MAX_KEY_BYTES // 4  # characters that are fewer bytes than allowed in every script
_SHORT_ID: Final = MAX_ID_BYTES // 4
_HISTORY: Final = (UNANSWERED, KILLED, RETRIES)
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")  # fits in 64 bits on every side


@dataclass(frozen=True, slots=True)
class Extraction:
    """The JMESPath expressions that find key and id in an event's JSON; empty for this module's own order alone."""

    partition_key: str = ""
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class _Extracted:
    """A JSON object that is one event, and the names that it gives itself."""

    document: Any
    body: bytes
    s3_key: object = ""
    s3_id: object = ""
    keys: Sequence[object] = ()  # in KEY_MEMBERS, the best first
    event_id: object = None
    part: str = ""  # which event of its message it is, where there are several


class Parser:
    """Turns messages into events. It is pure: the same message always gives the same events."""

    def __init__(self, extraction: Extraction) -> None:
        self._key_path = compile_path(extraction.partition_key) if extraction.partition_key else None
        self._id_path = compile_path(extraction.event_id) if extraction.event_id else None
        self._by_path = bool(self._key_path or self._id_path)

    def parse(self, message: Message) -> list[Event]:
        """Return the events of a message, none for a test event.

        Raises MalformedMessageError with a reason for people when the message holds no event that could be routed.
        """
        held = ATTEMPT in message.attributes
        text = body_of(message) if held else message.body
        body = JsonText.of(text, _BODY, None if message.pointer else MAX_BODY_BYTES)
        if held:
            return [_from_hold(message, body)]
        given = message.attributes
        if given:
            given = {**shapes.names_in_attributes(given), **given}
        events = self._events(message, given, body)
        return _with_pointer(events, message.pointer, body.raw) if message.pointer else events

    def _events(self, message: Message, given: Mapping[str, str], body: JsonText) -> list[Event]:
        """The events in a body. `given` are the attributes that name an event, of the message or of SNS."""
        notification = notification_in(body.raw)
        check_confirmed(notification)
        if notification.Records is not None:
            return self._from_notification(message, given, body, notification.Records)
        if notification.TopicArn is not None and notification.Message is not None:
            if body.name == _SNS_MESSAGE:
                raise MalformedMessageError(
                    f"{body.name} is itself an SNS notification; only one wrapping is taken off"
                )
            inner, named = unwrap(body, notification)
            given = {**named, **given}
            return self._events(message, given, JsonText.of(inner, _SNS_MESSAGE, None))
        if body.text == shapes.TEST_TEXT:
            return []
        document = _object(body)
        if document.get("Event") == "s3:TestEvent":
            return []
        if (files := shapes.log_files(document)) is not None:
            return self._from_log_files(message, given, body, files)
        return [self._event(message, given, _read(document, body.raw))]

    def _from_notification(
        self, message: Message, given: Mapping[str, str], body: JsonText, records: Sequence[msgspec.Raw]
    ) -> list[Event]:
        if not records:
            raise MalformedMessageError("the notification's list of Records is empty")
        bodies = list(map(bytes, records))
        if self._by_path or not certainly_one_list(body, bodies):
            body.named("the S3 notification").decode()
        return [self._from_record(message, given, raw, index, len(bodies)) for index, raw in enumerate(bodies)]

    def _from_log_files(
        self, message: Message, given: Mapping[str, str], body: JsonText, files: Sequence[shapes.DeliveredLog]
    ) -> list[Event]:
        """An event for each file that CloudTrail names. It names no versions, so the message's own id is in theirs."""
        events = []
        for index, file in enumerate(files):
            raw = body.raw if len(files) == 1 else msgspec.json.encode(file.document)
            event_id = f"{file.bucket}/{file.key}#{message.message_id}"
            partition, part = s3_events.partition_of(file.bucket, file.key), event_ids.part_of(index, len(files))
            found = _Extracted(file.document, raw, partition, event_id, part=part)
            events.append(self._event(message, given, found))
        return events

    def _from_record(self, message: Message, given: Mapping[str, str], raw: bytes, index: int, count: int) -> Event:
        part = event_ids.part_of(index, count)
        try:
            partition, identity = s3_events.names_of(raw, index, count)
        except MalformedMessageError:
            record = JsonText(raw.decode(), raw, f"the record number {index + 1} of {count}").decode()
            if not isinstance(record, dict) or (shape := shapes.stream_record(record)) is None:
                raise
            return self._event(message, given, _shaped(record, raw, shape, part))
        if not (self._by_path or given) and 0 < len(partition) < _SHORT_KEY and 0 < len(identity) < _SHORT_ID:
            return Event(identity, partition, raw)  # nearly all of them
        document = s3_events.with_decoded_key(msgspec.json.decode(raw)) if self._by_path else None
        return self._event(message, given, _Extracted(document, raw, partition, identity, part=part))

    def _event(self, message: Message, given: Mapping[str, str], found: _Extracted) -> Event:
        return _event(self._id_of(message, given, found), self._key_of(message, given, found), found.body)

    def _key_of(self, message: Message, given: Mapping[str, str], found: _Extracted) -> object:
        """The first name that is there, in the order at the top of this module."""
        if given.get("partition_key"):
            return given["partition_key"]
        if self._key_path and (key := self._key_path(found.document)) not in _NOTHING:
            return key
        group = message.group_id if message.dedup_id is not None else None
        return _first(found.s3_key, group, *found.keys, message.group_id, given.get(shapes.SOURCE))

    def _id_of(self, message: Message, given: Mapping[str, str], found: _Extracted) -> object:
        """The first name that is there, in the order at the top of this module."""
        if given.get("event_id"):
            return given["event_id"] + found.part
        if self._id_path and (event_id := self._id_path(found.document)) not in _NOTHING:
            return event_id
        event_id = _first(found.s3_id, found.event_id)
        return event_id if event_id is not None else message.message_id + found.part


def held_draft(event: Event, delay_s: int, keys: AttributeKeys, max_bytes: int = MAX_MESSAGE_BYTES) -> Draft:
    """Return the message that carries an event through a queue: body or pointer, and names as attributes.

    The body lies in an attribute where the queue, which takes messages of `max_bytes`, wouldn't take it as a body. The
    message group is the key's, so that a standard queue of SQS is a fair one: it delivers a loud key's messages later.
    """
    return signed(_unsigned(event, delay_s, max_bytes - _PROOF_BYTES), keys)


def _unsigned(event: Event, delay_s: int, max_bytes: int) -> Draft:
    attributes = {
        "event_id": _escape(event.event_id),
        "partition_key": _escape(event.partition_key),
        ATTEMPT: str(event.attempt),
    }
    if event.unanswered:
        attributes[UNANSWERED] = ",".join(map(str, event.unanswered))
    if event.killed:
        attributes[KILLED] = ",".join(map(str, event.killed))
    if event.retries:
        attributes[RETRIES] = ",".join(map(str, event.retries))
    draft = Draft(event.pointer or event.body.decode(), attributes, delay_s, group_of(event.partition_key))
    draft = with_origin(draft, event.origin)
    draft = with_death(draft, event.death)
    if event.pointer or (draft.size <= max_bytes and is_sendable_json(event.body)):
        return draft
    return with_body_in_attribute(draft)


def can_be_held(event: Event, max_bytes: int = MAX_MESSAGE_BYTES) -> bool:
    """Whether the event fits in a message of the hold queue, beside the attributes that it has to carry."""
    origin_bytes = event.origin.size if event.origin else 0
    if len(event.body) + origin_bytes <= max_bytes - _ROOM_BYTES and not event.pointer and is_sendable_json(event.body):
        return True
    return _unsigned(event, 0, max_bytes - _PROOF_BYTES).size <= max_bytes - _PROOF_BYTES


def _from_hold(message: Message, body: JsonText) -> Event:
    """The event that `held_draft` made the message of."""
    attributes = message.attributes
    missing = [name for name in ("event_id", "partition_key") if name not in attributes]
    if missing:
        raise MalformedMessageError(f"the message has an attribute {ATTEMPT} but none named {missing[0]}")
    attempts = _numbers(ATTEMPT, attributes[ATTEMPT])
    if len(attempts) != 1:
        raise MalformedMessageError(f"the attribute {ATTEMPT} has {len(attempts)} numbers")
    unanswered, killed, retries = (_numbers(name, attributes[name]) if name in attributes else () for name in _HISTORY)
    if len(retries) not in (0, 2):
        raise MalformedMessageError(f"the attribute {RETRIES} has {len(retries)} numbers")
    body.check_object()
    event = _event(unquote(attributes["event_id"]), unquote(attributes["partition_key"]), body.raw)
    event = replace(event, attempt=attempts[0], pointer=message.pointer)
    return replace(event, unanswered=unanswered, killed=killed, retries=retries, death=death_of(message))


def _numbers(name: str, text: str) -> tuple[int, ...]:
    """Whole numbers from 1, with commas between. int() alone would take blanks, signs and other scripts' digits too."""
    parts = text.split(",", MAX_NUMBERS)
    if len(parts) > MAX_NUMBERS or not all(_NUMBER.fullmatch(part) for part in parts):
        raise MalformedMessageError(f"the attribute {name} is no number, nor numbers with commas between: {text!r:.80}")
    return tuple(map(int, parts))


def _object(body: JsonText) -> dict[str, Any]:
    """The JSON object of a body that is no notification. Raises MalformedMessageError when it is no event either."""
    document, name = body.decode(), body.name
    if isinstance(document, list) and pointer_in(body.text) is not None:
        where = "inside an SNS notification: turn raw message delivery on" if name == _SNS_MESSAGE else "not resolved"
        raise MalformedMessageError(f"{name} is an S3 pointer, {where}")
    if not isinstance(document, dict):
        raise MalformedMessageError(f"{name} is JSON but not an object")
    if document.get("Records") is not None:
        raise MalformedMessageError(f"{name} is no S3 notification, though it has Records: they are no list")
    if isinstance(document.get("TopicArn"), str) and document.get("Message") is not None:
        raise MalformedMessageError(f"{_SNS_MESSAGE} is no text")
    return document


def _read(document: dict[str, Any], body: bytes) -> _Extracted:
    """What a document that is one event, of EventBridge or a producer's own, says of itself."""
    if "detail-type" not in document or "detail" not in document:
        if (shape := shapes.shape_of(document)) is not None:
            return _shaped(document, body, shape)
        return _Extracted(document, body, keys=_members(document, KEY_MEMBERS))
    names = s3_events.names_in_bridged(document)
    if names is not None:
        return _Extracted(document, body, *names, event_id=document.get("id"))
    detail = document["detail"]
    inner = _members(detail, KEY_MEMBERS) if isinstance(detail, dict) else ()
    return _Extracted(document, body, keys=(*inner, *_members(document, KEY_MEMBERS)), event_id=document.get("id"))


def _shaped(document: Any, body: bytes, shape: shapes.Shape, part: str = "") -> _Extracted:
    tenants = (name for part in shape.parts if isinstance(part, dict) for name in _members(part, KEY_MEMBERS))
    return _Extracted(document, body, shape.key, shape.event_id, (*tenants, *shape.keys), part=part)


def _members(document: Mapping[str, Any], names: Sequence[str]) -> tuple[object, ...]:
    return tuple(document.get(name) for name in names)


def _first(*values: object) -> object:
    return next((value for value in values if value not in _NOTHING), None)


def _with_pointer(events: list[Event], pointer: str, raw: bytes) -> list[Event]:
    """The events of a body that was fetched by a pointer.

    An event that is the whole body travels as the pointer; all others have to fit in a message.
    """
    if len(events) == 1 and events[0].body == raw:
        return [replace(events[0], pointer=pointer)]
    largest = max((len(event.body) for event in events), default=0)
    if largest > MAX_BODY_BYTES:
        raise MalformedMessageError(
            f"an event has {largest} bytes, more than {MAX_BODY_BYTES}: "
            "only one that is all of what an S3 pointer leads to may be larger",
        )
    return events


def _event(event_id: object, key: object, body: bytes) -> Event:
    if key is None or key == "":
        raise MalformedMessageError(
            "no partition key found: send a message attribute 'partition_key', "
            "or set source.partition_key to a JMESPath that finds one",
        )
    return Event(_scalar("event id", event_id, MAX_ID_BYTES), _scalar("partition key", key, MAX_KEY_BYTES), body)


def _scalar(name: str, value: object, max_bytes: int) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 8 * max_bytes:
        value = str(value)
    if not isinstance(value, str):
        raise MalformedMessageError(f"the {name} is neither text nor a whole number: {value!r:.80}")
    if not value:
        raise MalformedMessageError(f"the {name} is empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise MalformedMessageError(f"the {name} is no text: it holds half of a surrogate pair") from error
    if size > max_bytes:
        raise MalformedMessageError(f"the {name} is longer than {max_bytes} bytes")
    return value


def _escape(text: str) -> str:
    """Percent-encode a text, because SQS attributes take no control characters."""
    return quote(text, safe=" /:.@#=+,")
