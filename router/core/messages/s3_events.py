"""What S3 tells of an object, by a notification or through EventBridge: whose it is, and its identity.

Both ways give the same names for the same new object, so its event has the same id whichever way it came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec

from router.core.errors import MalformedMessageError
from router.core.messages.strict_json import JsonText

_ACCOUNT_IN_KEY: Final = re.compile(r"(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?([0-9]{12})/")
_UNSET: Final = msgspec.UNSET
_CREATED: Final = "ObjectCreated:"


class _S3Object(msgspec.Struct, gc=False):
    key: str
    versionId: str | msgspec.UnsetType | None = msgspec.UNSET  # noqa: N815 - S3's own spelling
    sequencer: str | msgspec.UnsetType | None = msgspec.UNSET
    eTag: str | msgspec.UnsetType | None = msgspec.UNSET  # noqa: N815 - S3's own spelling


class _S3Bucket(msgspec.Struct, gc=False):
    name: str


class _S3(msgspec.Struct, gc=False):
    bucket: _S3Bucket
    object: _S3Object


class _Record(msgspec.Struct, gc=False):
    s3: _S3
    eventName: str = ""  # noqa: N815 - S3's own spelling


class _Response(msgspec.Struct, gc=False, rename={"request_id": "x-amz-request-id"}):
    request_id: str | None = None


class _Happened(msgspec.Struct, gc=False):
    eventTime: str = ""  # noqa: N815 - S3's own spelling
    responseElements: _Response | None = None  # noqa: N815 - S3's own spelling


_record: Final = msgspec.json.Decoder(_Record)
_happened: Final = msgspec.json.Decoder(_Happened)


def names_of(raw: bytes, index: int, count: int) -> tuple[str, str]:
    """Return partition key and event id of the record number `index` (from 0) of `count`; no id where none is named.

    Raises MalformedMessageError when it is no S3 record, or is ambiguous.
    """
    try:
        record = _record.decode(raw)
        happening = "" if _is_new(record) else _happening(record.eventName, raw)
    except msgspec.DecodeError as error:
        raise MalformedMessageError(
            f"the body is no S3 notification, though it has Records: number {index + 1} of {count} is none: {error}",
        ) from error
    bucket, entity = record.s3.bucket.name, record.s3.object
    if _may_be_ambiguous(raw, entity):
        JsonText(raw.decode(), raw, f"the S3 record number {index + 1} of {count}").decode()
    key = entity.key
    if "%" in key or "+" in key:
        key = _decoded(key)
    return partition_of(bucket, key), _identity(bucket, key, entity, happening)


def _may_be_ambiguous(raw: bytes, entity: _S3Object) -> bool:
    """Whether a member that routing depends on may be there twice. This takes a fraction of the time of decoding.

    `s3`, `bucket` and `object` need no count: if one were there twice, each would have to have a name or a key.
    """
    start, count = raw.find(b'"s3"'), raw.count
    return (
        count(b'"key"', start) > 1
        or count(b'"name"', start) > 1
        or (entity.sequencer is not _UNSET and count(b'"sequencer"', start) > 1)
        or (entity.eTag is not _UNSET and count(b'"eTag"', start) > 1)
        or (entity.versionId is not _UNSET and count(b'"versionId"', start) > 1)
    )


def _is_new(record: _Record) -> bool:
    """Whether the record tells of a new version of the object, which the version names then."""
    return not record.eventName or record.eventName.removeprefix("s3:").startswith(_CREATED)


def _happening(name: str, raw: bytes) -> str | None:
    """What tells apart several events of one version that are no creation: its tags, say, may be set twice.

    A repeated delivery has the same time and the same id of the request that did it. None where it has neither.
    """
    found = _happened.decode(raw)
    request_id = found.responseElements.request_id if found.responseElements else None
    when = "@".join(filter(None, (found.eventTime, request_id)))
    return f"@{name}@{when}" if when else None


def names_in_bridged(document: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return partition key and event id of an EventBridge event of S3 itself, or None for any other event.

    The id is empty where the envelope's has to do: for all that is no creation, as two changes of an object's tags have
    the same time to the second. API calls on S3 come from `aws.s3` too, through CloudTrail, but don't describe an
    object in this way. Raises MalformedMessageError for an event of S3 that names no object.
    """
    kind = document["detail-type"]
    if document.get("source") != "aws.s3" or not isinstance(kind, str) or not kind.startswith("Object "):
        return None
    match document["detail"]:
        case {"bucket": {"name": str(bucket)}, "object": {"key": str(key)} as found} if bucket:
            entity = _S3Object(key, *(_text(found.get(name)) for name in ("version-id", "sequencer", "etag")))
            is_new = kind == "Object Created"
            return partition_of(bucket, key), _identity(bucket, key, entity, "") if is_new else ""
        case _:
            raise MalformedMessageError(
                f"the EventBridge event {kind!r:.80} of S3 names no object: "
                "detail.bucket.name and detail.object.key are needed",
            )


def with_decoded_key(record: dict[str, Any]) -> dict[str, Any]:
    """Return a decoded record of S3 with its object's key as it is in the bucket, as EventBridge has it."""
    entity = record["s3"]["object"]
    return {**record, "s3": {**record["s3"], "object": {**entity, "key": _decoded(entity["key"])}}}


def partition_of(bucket: str, key: str) -> str:
    """Return the partition key of an object: the account in an AWSLogs/ path, else the bucket."""
    if key.startswith("AWSLogs/") and key[20:21] == "/" and (account := key[8:20]).isdecimal() and account.isascii():
        return account  # nearly all of them, in half the time of the expression below
    found = _ACCOUNT_IN_KEY.search(key)
    return found.group(1) if found else bucket


def _identity(bucket: str, key: str, entity: _S3Object, happening: str | None) -> str:
    """The event id: the same for every delivery that tells of this version of the object. Empty where none is named.

    A bucket whose versioning is suspended calls every version "null", which names none. Nor does an ETag alone: it is
    of the content, which may be written again.
    """
    version = entity.versionId
    if not version or version == "null":
        version = entity.sequencer or ""
    if happening is None or not (version or happening):
        return ""
    return f"{bucket}/{key}#{version}.{entity.eTag or ''}{happening}"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _decoded(key: str) -> str:
    """The key as it is in the bucket: notifications URL-encode it as forms do. A key encoded wrongly stays as it is."""
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        return key
