"""The outside of a notification, read without decoding what is inside: its kind decides how the body is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from router.core.errors import UnconfirmedSubscriptionError
from router.core.messages.shapes import names_in_attributes
from router.core.messages.strict_json import JsonText

_SNS: Final = "the SNS notification"
_NAMING: Final = ("event_id", "partition_key")
_CONFIRMATIONS: Final[Mapping[bytes, str]] = {
    b'"SubscriptionConfirmation"': (
        "it is no event: SNS asks whether the topic {topic} may send to this queue, and sends nothing of it until that "
        "is confirmed. cellrouter follows no such link by itself. If the topic is wanted, run `aws sns "
        "confirm-subscription` with TopicArn and Token of this message within 3 days of its Timestamp; then, and also "
        "if it is not wanted, drop this entry of the dead-letter queue"
    ),
    b'"UnsubscribeConfirmation"': (
        "it is no event: SNS says that the subscription of this queue to the topic {topic} has ended, so nothing of it "
        "comes any more. If it is still wanted, subscribe the queue again; then, and also if it is not wanted, drop "
        "this entry of the dead-letter queue"
    ),
}
_SECOND_LIST_BYTES: Final = len('{"Records":0,"Records":[]}')


class Notification(msgspec.Struct, gc=False):
    """The members by which a notification of S3 (Records) or of SNS (the others) is known."""

    Records: list[msgspec.Raw] | None = None
    Type: msgspec.Raw = msgspec.Raw()
    TopicArn: str | None = None
    Message: str | None = None
    MessageAttributes: msgspec.Raw = msgspec.Raw()


class SnsAttribute(msgspec.Struct, gc=False):
    """One of the MessageAttributes of an SNS notification. The value of a Binary one is base64."""

    Type: str
    Value: str


_attributes: Final = msgspec.json.Decoder(dict[str, SnsAttribute])
_notification: Final = msgspec.json.Decoder(Notification)
_NEITHER: Final = Notification()


def notification_in(raw: bytes) -> Notification:
    """Return what a body shows of a notification; without members for any other body, also for what is no JSON."""
    try:
        return _notification.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return _NEITHER


def check_confirmed(notification: Notification) -> None:
    """Raise UnconfirmedSubscriptionError when SNS asks whether a subscription is wanted, or says that it has ended.

    Whoever may write to the queue can write such a message, so no process of ours ever follows its link.
    """
    what = _CONFIRMATIONS.get(bytes(notification.Type))
    if what is not None and notification.TopicArn is not None:
        raise UnconfirmedSubscriptionError(what.format(topic=repr(notification.TopicArn)[:200]))


def certainly_one_list(body: JsonText, records: Sequence[bytes]) -> bool:
    """Whether an S3 notification has one list of Records for certain, and every name in it its usual spelling.

    `records` are the bytes of its records. False means that only decoding the body can tell.
    """
    if "\\" in body.text:
        return False
    # A second list takes some bytes beside the records and their commas.
    return len(body.raw) - len(b",".join(records)) < _SECOND_LIST_BYTES or body.raw.count(b'"Records"') == 1


def unwrap(body: JsonText, notification: Notification) -> tuple[str, dict[str, str]]:
    """Return the Message of an SNS notification, and those of its attributes that name an event.

    Raises MalformedMessageError when the notification is ambiguous.
    """
    raw = body.raw
    # Quotes inside the Message are escaped, so a name between two plain quotes is the notification's own member.
    if b"\\u" in raw or raw.count(b'"Message"') > 1 or raw.count(b'"MessageAttributes"') > 1:
        body.named(_SNS).decode()  # finds members that are there twice
    attributes = bytes(notification.MessageAttributes)
    given = _naming(JsonText(attributes.decode(), attributes, _SNS).decode()) if attributes else {}
    return str(notification.Message), given


def attributes_in(raw: bytes) -> Mapping[str, SnsAttribute]:
    """Return the attributes that an SNS notification brings; none for any other body."""
    notification = notification_in(raw)
    try:
        return _attributes.decode(notification.MessageAttributes) if notification.TopicArn else {}
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return {}


def _naming(attributes: Any) -> dict[str, str]:
    if not isinstance(attributes, dict):
        return {}
    values = {name: value for name, attribute in attributes.items() if (value := _value(attribute))}
    return names_in_attributes(values) | {name: values[name] for name in _NAMING if name in values}


def _value(attribute: Any) -> str:
    value = attribute.get("Value") if isinstance(attribute, dict) else None
    return value if isinstance(value, str) else ""
