"""A queue message → the events in it.

Understood: S3 notifications (an event for each record), either of these inside an SNS wrapping, `s3:TestEvent` (no
event at all), and any other JSON object as one event. Message attributes of the producer come first: `event_id`
and `partition_key` name an event outright, which is also how a hold queue's messages carry theirs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote, unquote_plus

import jmespath
import jmespath.exceptions
import jmespath.functions
import msgspec

from router.core.errors import ConfigError, MalformedMessageError
from router.core.models import Draft, Event, Message

MAX_BODY_BYTES: Final = 1024 * 1024  # SQS' own limit; a larger body didn't come from SQS
MAX_KEY_BYTES: Final = 1024
ATTEMPT: Final = "cellrouter.attempt"  # the attribute by which a hold queue's message is known
DEFAULT_KEY_PATH: Final = "partition_key || tenant_id || tenant || account_id || account"
DEFAULT_ID_PATH: Final = "event_id || id"
_ACCOUNT_IN_KEY: Final = re.compile(r"(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?(\d{12})/")


class _Functions(jmespath.functions.Functions):  # type: ignore[misc] # jmespath has no type hints
    """What JMESPath lacks for keys that hide in a path."""

    @jmespath.functions.signature({"types": ["string"]}, {"types": ["string"]})  # type: ignore[untyped-decorator]
    def _func_match(self, text: str, pattern: str) -> str | None:
        """`match(text, pattern)`: the first group of the first match, or null."""
        found = re.search(pattern, text)
        return found.group(1) if found else None


_OPTIONS: Final = jmespath.Options(custom_functions=_Functions())


def compile_path(path: str) -> Callable[[Any], Any]:
    """A JMESPath expression as a function, with `match(text, 'regex with one group')` added. Raises ConfigError."""
    try:
        expression = jmespath.compile(path)
    except jmespath.exceptions.JMESPathError as error:
        raise ConfigError(f"{path!r} is no JMESPath expression: {error}") from error
    return lambda document: expression.search(document, options=_OPTIONS)


@dataclass(frozen=True, slots=True)
class Extraction:
    """How key and id are found in an event's JSON. For an S3 record the defaults need neither."""

    partition_key: str = ""  # JMESPath; empty: the account in an AWSLogs/ key, else the bucket; else DEFAULT_KEY_PATH
    event_id: str = ""  # JMESPath; empty: bucket, key and version of an S3 record; else DEFAULT_ID_PATH


class _Entity(msgspec.Struct):
    key: str
    versionId: str = ""  # noqa: N815 - S3's own spelling
    sequencer: str = ""
    eTag: str = ""  # noqa: N815 - S3's own spelling


class _Bucket(msgspec.Struct):
    name: str


class _S3(msgspec.Struct):
    bucket: _Bucket
    object: _Entity


class _S3Record(msgspec.Struct):
    s3: _S3


class _Body(msgspec.Struct):
    """The parts of a body by which its kind is known; everything else is skipped undecoded."""

    Records: msgspec.Raw = msgspec.Raw()
    Event: msgspec.Raw = msgspec.Raw()
    TopicArn: msgspec.Raw = msgspec.Raw()
    Message: msgspec.Raw = msgspec.Raw()


_body = msgspec.json.Decoder(_Body)
_records = msgspec.json.Decoder(list[msgspec.Raw])
_record = msgspec.json.Decoder(_S3Record)
_text = msgspec.json.Decoder(str)
_any = msgspec.json.Decoder()


class Parser:
    """Turns messages into events. Pure: the same message gives the same events."""

    def __init__(self, extraction: Extraction) -> None:
        self._key_path = compile_path(extraction.partition_key or DEFAULT_KEY_PATH)
        self._id_path = compile_path(extraction.event_id or DEFAULT_ID_PATH)
        self._s3_key_path = self._key_path if extraction.partition_key else None
        self._s3_id_path = self._id_path if extraction.event_id else None

    def parse(self, message: Message) -> list[Event]:
        """The events of a message, none for a test event. Raises MalformedMessageError with a reason for people."""
        try:
            return self._parse(message, message.body, unwrap=True)
        except RecursionError as error:
            raise MalformedMessageError("the body is nested too deeply to be read") from error
        except msgspec.ValidationError as error:
            raise MalformedMessageError(f"the body can't be read: {error}") from error
        except (msgspec.DecodeError, ValueError) as error:
            raise MalformedMessageError(f"the body is not JSON: {error}") from error

    def _parse(self, message: Message, body: str, *, unwrap: bool) -> list[Event]:
        raw = body.encode()
        if not raw.strip():
            raise MalformedMessageError("the body is empty")
        if len(raw) > MAX_BODY_BYTES:
            raise MalformedMessageError(f"the body has {len(raw)} bytes, more than {MAX_BODY_BYTES}")
        if ATTEMPT in message.attributes:
            return [_held(message, raw)]
        if not raw.lstrip().startswith(b"{"):
            _any.decode(raw)  # not JSON at all is the better reason
            raise MalformedMessageError("the body is JSON but not an object")
        parts = _body.decode(raw)
        if unwrap and parts.TopicArn and parts.Message:
            return self._parse(message, _text.decode(parts.Message), unwrap=False)
        if bytes(parts.Event) == b'"s3:TestEvent"':
            return []
        if parts.Records:
            return self._from_notification(message, parts.Records)
        return [self._from_json(message, raw)]

    def _from_notification(self, message: Message, raw: msgspec.Raw) -> list[Event]:
        try:
            events = [self._from_s3(message, record) for record in _records.decode(raw)]
        except msgspec.ValidationError as error:
            raise MalformedMessageError(f"the body is no S3 notification, though it has Records: {error}") from error
        if not events:
            raise MalformedMessageError("the notification's list of Records is empty")
        return events

    def _from_s3(self, message: Message, raw: msgspec.Raw) -> Event:
        s3 = _record.decode(raw).s3
        entity = s3.object
        document = _any.decode(raw) if self._s3_key_path or self._s3_id_path else None
        key = self._s3_key_path(document) if self._s3_key_path else _s3_partition(s3)
        default_id = f"{s3.bucket.name}/{entity.key}#{entity.versionId or entity.sequencer}.{entity.eTag}"
        event_id = self._s3_id_path(document) if self._s3_id_path else default_id
        return _event(event_id or default_id, _named(message, "partition_key", key), bytes(raw))

    def _from_json(self, message: Message, raw: bytes) -> Event:
        document = _any.decode(raw)
        key = _named(message, "partition_key", self._search(self._key_path, document))
        event_id = _named(message, "event_id", self._search(self._id_path, document))
        return _event(event_id or message.message_id, key or message.group_id, raw)

    def _search(self, path: Callable[[Any], Any], document: Any) -> Any:
        try:
            return path(document)
        except jmespath.exceptions.JMESPathError as error:
            raise MalformedMessageError(f"the JMESPath expression can't be applied to it: {error}") from error


def held_draft(event: Event, delay_s: int) -> Draft:
    """The message that carries an event through a hold queue: its body untouched, the rest as attributes."""
    return Draft(
        body=event.body.decode(),
        attributes={
            "event_id": _escape(event.event_id),
            "partition_key": _escape(event.partition_key),
            ATTEMPT: str(event.attempt),
        },
        delay_s=delay_s,
    )


def _held(message: Message, raw: bytes) -> Event:
    attributes = message.attributes
    try:
        attempt = int(attributes[ATTEMPT])
        return _event(unquote(attributes["event_id"]), unquote(attributes["partition_key"]), raw, attempt)
    except KeyError as error:
        raise MalformedMessageError(f"the message has an attribute {ATTEMPT} but none named {error}") from error
    except ValueError as error:
        raise MalformedMessageError(f"the attribute {ATTEMPT} is no number: {error}") from error


def _s3_partition(s3: _S3) -> str:
    account = _ACCOUNT_IN_KEY.search(unquote_plus(s3.object.key))
    return account.group(1) if account else s3.bucket.name


def _named(message: Message, attribute: str, found: object) -> object:
    return message.attributes.get(attribute) or found


def _event(event_id: object, key: object, body: bytes, attempt: int = 1) -> Event:
    if key is None or key == "":
        raise MalformedMessageError(
            "no partition key found: send a message attribute 'partition_key', "
            "or set source.partition_key to a JMESPath that finds one",
        )
    text = _scalar("partition key", key)
    if len(text.encode()) > MAX_KEY_BYTES:
        raise MalformedMessageError(f"the partition key is longer than {MAX_KEY_BYTES} bytes")
    return Event(_scalar("event id", event_id), text, body, attempt)


def _scalar(what: str, value: object) -> str:
    if isinstance(value, str):
        value.encode()  # a lone surrogate is no text: ValueError
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise MalformedMessageError(f"the {what} is neither text nor a whole number: {value!r:.80}")


def _escape(text: str) -> str:
    """SQS attributes take no control characters; percent-encoding keeps every text."""
    return quote(text, safe=" /:.@#=+,")
