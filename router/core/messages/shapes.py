"""Shapes of JSON objects that name their event in members of their own: CloudEvents, AWS Config, DynamoDB, CloudTrail.

Each is known by its members, without a configuration. What these functions return is only what a document says of
itself: which of it counts is the parser's order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from router.core.errors import MalformedMessageError
from router.core.messages.event_ids import of_cloud_event
from router.core.messages.s3_events import partition_of

TEST_TEXT: Final = "CloudTrail validation message."
"""What CloudTrail sends to a topic, as plain text, when a trail is given it."""
SOURCE: Final = "source of the CloudEvent"
"""The name under which `names_in_attributes` gives the source: SQS takes no attribute with blanks in its name."""
_PREFIXES: Final = ("ce-", "ce_", "cloudevents_", "cloudevents-")  # as HTTP, Kafka and AMQP have them, in lower case
_NEEDED: Final = ("specversion", "source", "id")
_MAX_ITEM_KEY_BYTES: Final = 1024  # of a partition key; an item's own may have three times that
_MAX_BUCKET_CHARS: Final = 255


@dataclass(frozen=True, slots=True)
class Shape:
    """The names in a document of a known shape; None and an empty text are no names."""

    key: object = None  # goes before the message group of a FIFO queue
    event_id: object = None
    parts: Sequence[Any] = ()  # in which a tenant's name is looked for next, the best first
    keys: Sequence[object] = ()  # go after those


@dataclass(frozen=True, slots=True)
class DeliveredLog:
    """One file that CloudTrail has delivered, and the body of its event."""

    bucket: str
    key: str
    document: Mapping[str, Any]


def shape_of(document: Mapping[str, Any]) -> Shape | None:
    """Return the names in a CloudEvent, a notification of AWS Config or a record of DynamoDB; None for others."""
    return _cloud_event(document) or stream_record(document) or _of_config(document)


def names_in_attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the names that a CloudEvent in binary mode has in message attributes; nothing for other messages."""
    lower = {name.lower(): value for name, value in attributes.items()}
    for prefix in [name.removesuffix(_NEEDED[0]) for name in lower if name.endswith(_NEEDED[0])]:
        if prefix not in _PREFIXES:
            continue
        version, source, event_id = (lower.get(f"{prefix}{name}", "") for name in _NEEDED)
        name = of_cloud_event(source, event_id)
        if version.startswith("1.") and name:
            names = {"event_id": name, SOURCE: source}
            return names | ({"partition_key": key} if (key := lower.get(f"{prefix}partitionkey")) else {})
    return {}


def stream_record(document: Mapping[str, Any]) -> Shape | None:
    """Return the names in a record of DynamoDB Streams, as Pipes, Lambda and Kinesis pass it on; None for others."""
    change = document.get("dynamodb")
    if document.get("eventSource") != "aws:dynamodb" or not isinstance(change, dict):
        return None
    keys = change.get("Keys")
    return Shape(event_id=document.get("eventID"), keys=(_item(document, keys) if isinstance(keys, dict) else None,))


def log_files(document: Mapping[str, Any]) -> list[DeliveredLog] | None:
    """Return the files that CloudTrail's own notification names, None for other documents.

    Of several, each gets a notification of its own, with nothing else in it: a message can't grow by being split.
    Raises MalformedMessageError when it names no file.
    """
    bucket, keys = document.get("s3Bucket"), document.get("s3ObjectKey")
    if not isinstance(keys, list) or bucket is None:
        return None
    if not isinstance(bucket, str) or not 0 < len(bucket) <= _MAX_BUCKET_CHARS:
        raise MalformedMessageError("CloudTrail's notification names no bucket: s3Bucket is no name of one")
    if not keys or not all(isinstance(key, str) and key for key in keys):
        raise MalformedMessageError("CloudTrail's notification names no file: s3ObjectKey has to be a list of keys")
    if len(keys) == 1:
        return [DeliveredLog(bucket, keys[0], document)]
    return [DeliveredLog(bucket, key, {"s3Bucket": bucket, "s3ObjectKey": [key]}) for key in keys]


def _cloud_event(document: Mapping[str, Any]) -> Shape | None:
    match document:
        case {"specversion": str(version), "source": str(source), "id": str(event_id)}:
            name = of_cloud_event(source, event_id)
            if version.startswith("1.") and name:
                return Shape(document.get("partitionkey"), name, (document.get("data"), document), (source,))
    return None


def _of_config(document: Mapping[str, Any]) -> Shape | None:
    """The account that AWS Config tells of, or else the resource or the snapshot."""
    if not isinstance(document.get("messageType"), str):
        return None
    return Shape(parts=(document,), keys=tuple(_told_by_config(document)))


def _told_by_config(document: Mapping[str, Any]) -> Iterator[object]:
    items = [document.get("configurationItem"), document.get("configurationItemSummary"), document]
    items = [item[0] if isinstance(item, list) and item else item for item in items]
    told = [item for item in items if isinstance(item, dict)]
    for name in ("awsAccountId", "accountId"):
        yield from (item.get(name) for item in told)
    bucket, key = document.get("s3Bucket"), document.get("s3ObjectKey")
    if isinstance(bucket, str) and isinstance(key, str):
        yield partition_of(bucket, key)
    for name in ("resourceId", "configSnapshotId"):
        yield from (item.get(name) for item in told)


def _item(document: Mapping[str, Any], keys: Mapping[str, Any]) -> str:
    """Table and primary key of an item: `Orders/id=7`, so that its changes go one way."""
    arn, table = document.get("eventSourceARN"), document.get("tableName")
    if isinstance(arn, str) and ":table/" in arn:
        table = arn.partition(":table/")[2].partition("/")[0]
    parts = (f"{name}={_plain(value)}" for name, value in sorted(keys.items()))
    item = f"{table if isinstance(table, str) else ''}/{','.join(parts)}"
    raw = item.encode("utf-8", "surrogatepass")
    return item if len(raw) <= _MAX_ITEM_KEY_BYTES else f"item/{hashlib.sha256(raw).hexdigest()}"


def _plain(value: object) -> object:
    """The value of DynamoDB's JSON: 101 of {"N": "101"}."""
    return next(iter(value.values())) if isinstance(value, dict) and len(value) == 1 else value
