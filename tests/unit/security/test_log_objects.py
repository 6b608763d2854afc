"""Log objects: the name in a notification, and the log in an object's bytes or the reason why there is none."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell_worker.api import RejectEvent
from cell_worker.handlers.security.logs import LogObject, log_object, parse

SOURCE = LogObject("logs", "AWSLogs/1/a.json.gz", None)
MIB = 1024 * 1024
LOG = json.dumps({"Records": [{"eventName": "A"}]}).encode()


def notification(key: str = "a.json.gz", **changes: Any) -> dict[str, Any]:
    """An S3 notification record."""
    s3 = {"bucket": {"name": "logs"}, "object": {"key": key, "size": 1, "sequencer": "00"}}
    return {"eventVersion": "2.1", "eventName": "ObjectCreated:Put", "s3": s3} | changes


def test_keys_are_decoded() -> None:
    """A notification URL-encodes its key as a form does."""
    assert log_object(notification("AWSLogs/my+logs/caf%C3%A9%2B1.json")).key == "AWSLogs/my logs/café+1.json"


def test_a_key_that_is_encoded_wrongly_stays_as_it_is() -> None:
    """As the router has it in the event's id: what was made up in its place would be another object."""
    assert log_object(notification("a+%FF.gz")).key == "a+%FF.gz"


def test_cloudtrails_own_notification_names_its_object() -> None:
    """Its key is as in the bucket; one of several keys is no event of ours."""
    assert log_object({"s3Bucket": "logs", "s3ObjectKey": ["a+b%2F"]}) == LogObject("logs", "a+b%2F", None)
    for keys in ([], ["a", "b"], "a", [1], [""]):
        with pytest.raises(RejectEvent, match="notification"):
            log_object({"s3Bucket": "logs", "s3ObjectKey": keys})


def test_the_version_is_kept() -> None:
    """Of a versioned object, the version that the notification names is read."""
    s3 = {"bucket": {"name": "logs"}, "object": {"key": "a", "versionId": "v1"}}
    assert log_object(notification(s3=s3)).version_id == "v1"
    assert log_object(notification()).version_id is None


def bridged(key: str = "a.json.gz", kind: str = "Object Created", **entity: Any) -> dict[str, Any]:
    """The same through EventBridge."""
    detail = {"version": "0", "bucket": {"name": "logs"}, "object": {"key": key, "size": 1, "sequencer": "00"} | entity}
    return {"version": "0", "id": "1", "detail-type": kind, "source": "aws.s3", "account": "1", "detail": detail}


def test_notifications_through_eventbridge_are_read() -> None:
    """Their keys are not URL-encoded, and the version has another name."""
    assert log_object(bridged("AWSLogs/my+logs/100%25.json")) == LogObject("logs", "AWSLogs/my+logs/100%25.json", None)
    assert log_object(bridged(**{"version-id": "v1"})).version_id == "v1"
    assert log_object(bridged(versionId="v1")).version_id is None


@pytest.mark.parametrize(
    "body",
    [
        bridged(kind="Object Deleted"),
        bridged(key=""),
        bridged() | {"detail": {"bucket": {"name": "logs"}}},
        bridged() | {"detail": None},
        bridged() | {"source": "shop"},
        {"source": "aws.s3", "detail-type": "AWS API Call via CloudTrail", "detail": {"eventName": "PutObject"}},
        None,
        [],
        "text",
        {},
        {"Records": [notification()]},
        {"Event": "s3:TestEvent"},
        {"s3": {"bucket": {"name": 1}, "object": {"key": "a"}}},
        {"s3": {"bucket": {"name": "b"}, "object": {"key": ""}}},
        notification(eventName="ObjectRemoved:Delete"),
    ],
)
def test_other_bodies_are_rejected(body: Any) -> None:
    """Only a notification that a named object was created is accepted."""
    with pytest.raises(RejectEvent, match=r"notification"):
        log_object(body)


@pytest.mark.parametrize(
    "stored",
    [
        LOG,
        gzip.compress(LOG, mtime=0),
        gzip.compress(LOG, mtime=0) + b"\0" * 512,
        gzip.compress(LOG[:10], mtime=0) + gzip.compress(LOG[10:], mtime=0),
    ],
    ids=["plain", "gzip", "padded", "two members"],
)
def test_logs_are_read(stored: bytes) -> None:
    """Every form of gzip is read, and plain JSON too."""
    assert list(parse([stored], SOURCE, MIB)) == [{"eventName": "A"}]


def bomb() -> bytes:
    """About 64 KiB that decompress to 64 MiB."""
    return gzip.compress(b" " * (64 * MIB), mtime=0)


CORRUPT = bytearray(gzip.compress(LOG * 1, mtime=0))
CORRUPT[-6] ^= 0xFF


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (gzip.compress(LOG, mtime=0)[:-9], "truncated gzip"),
        (b"\x1f\x8b", "truncated gzip"),
        (bytes(CORRUPT), "corrupt gzip file: .*incorrect data check"),
        (b"\x1f\x8b" + b"garbage and more", "corrupt gzip"),
        (gzip.compress(LOG, mtime=0) + b"more", "corrupt gzip file: something else"),
        (gzip.compress(b"", mtime=0) * 2000, "corrupt gzip file: something else"),
        (bomb(), "too large: more than 1048576 bytes decompressed"),
        (b" " * (MIB + 1), "too large: more than 1048576 bytes of JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe not text", "not JSON"),
        (b'{"Records": [', "not JSON"),
        (b'{"Records": [{"a": NaN}]}', "not JSON"),
        (b"[" * 100_000, "nested too deeply|not a CloudTrail log"),
        (b'{"Records": [' + b'{"a":' * 50_000, "nested too deeply"),
        (b"{}", "not a CloudTrail log: .*`Records`"),
        (b"[]", "not a CloudTrail log"),
        (b'{"Records": {}}', "not a CloudTrail log: .*array"),
        (b'{"Records": [1]}', "not a CloudTrail log: .*object"),
        (zlib.compress(LOG), "not JSON"),
    ],
)
def test_what_is_no_log_is_rejected_with_a_reason(stored: bytes, reason: str) -> None:
    """The reason is a sentence that names the object and its defect."""
    with pytest.raises(RejectEvent, match=reason) as caught:
        list(parse([stored], SOURCE, MIB))
    assert str(caught.value).startswith("s3://logs/AWSLogs/1/a.json.gz ")


@given(stored=st.binary(max_size=200) | st.binary(max_size=100).map(gzip.compress))
def test_any_bytes_are_a_log_or_rejected(stored: bytes) -> None:
    """No bytes in a bucket, whatever they are, raise another exception."""
    try:
        list(parse([stored], SOURCE, MIB))
    except RejectEvent as error:
        reason = str(error)
    else:
        reason = str(SOURCE)
    assert str(SOURCE) in reason
