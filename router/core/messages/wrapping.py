"""The outside of a body, read without decoding what is inside: which kind it is decides how it is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from router.core.messages.strict_json import decode

_NOTIFICATION: Final = "the SNS notification"
_NAMING: Final = ("event_id", "partition_key")
_SECOND_LIST_BYTES: Final = len('{"Records":0,"Records":[]}')


class Outside(msgspec.Struct, gc=False):
    """The members by which a notification of S3 or SNS is known."""

    Records: list[msgspec.Raw] | None = None
    TopicArn: str | None = None
    Message: str | None = None
    MessageAttributes: msgspec.Raw = msgspec.Raw()


_outside: Final = msgspec.json.Decoder(Outside)
_NEITHER: Final = Outside()


def look(raw: bytes) -> Outside:
    """The outside of a body; empty for what is neither notification, nor JSON at all."""
    try:
        return _outside.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return _NEITHER


def certainly_one_list(text: str, raw: bytes, bodies: Sequence[bytes]) -> bool:
    """Whether there is one list of Records, and every name in the notification has its usual spelling.

    `raw` is the notification `text`, `bodies` are the records in it. False: that takes an exact look.
    """
    if "\\" in text:
        return False
    # A second list takes some bytes beside the records and their commas.
    return len(raw) - len(b",".join(bodies)) < _SECOND_LIST_BYTES or raw.count(b'"Records"') == 1


def unwrap(text: str, raw: bytes, outside: Outside) -> tuple[str, dict[str, str]]:
    """What an SNS notification carries, and the attributes in it that name an event. Raises MalformedMessageError.

    Quotes inside its Message are escaped, so that a name between two plain ones is the notification's own.
    """
    if b"\\u" in raw or raw.count(b'"Message"') > 1 or raw.count(b'"MessageAttributes"') > 1:
        decode(text, raw, _NOTIFICATION)  # looks for members that are there twice
    attributes = bytes(outside.MessageAttributes)
    given = _naming(decode(attributes.decode(), attributes, _NOTIFICATION)) if attributes else {}
    return str(outside.Message), given


def _naming(attributes: Any) -> dict[str, str]:
    values = {name: _value(attributes.get(name)) for name in _NAMING} if isinstance(attributes, dict) else {}
    return {name: value for name, value in values.items() if value}


def _value(attribute: Any) -> str:
    value = attribute.get("Value") if isinstance(attribute, dict) else None
    return value if isinstance(value, str) else ""
