"""Reads CloudTrail logs: which object a notification names, and the records in that object's bytes.

Whatever is wrong with a log raises a RejectEvent whose text names the object. A log is decompressed while it arrives,
and its size is limited meanwhile. So is what it would become in memory: its values are counted before any is made, and
its records are made one at a time.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import chain
from typing import Any, Final, TypeVar
from urllib.parse import unquote_plus

import msgspec

from cell_worker.api import RejectEvent

T = TypeVar("T")

GZIP_MAGIC: Final = b"\x1f\x8b"
CHUNK_BYTES: Final = 256 * 1024
WBITS_GZIP: Final = 31
MAX_MEMBERS: Final = 1024
"""A gzip file may have many members in a row. CloudTrail writes one; millions of tiny ones would only cost time."""
MAX_RECORDS: Final = 200_000
"""More records than CloudTrail puts into any log."""
MAX_RECORD_BYTES: Final = 1024 * 1024
"""CloudTrail's own limit: no record of an event is larger."""
FEW_VALUES: Final = 50_000
"""So many values a log may have whatever its size."""
BYTES_A_VALUE: Final = 32
"""A log as large as allowed may have one value in so many bytes. CloudTrail's have one in 40 or more. The list of all
records takes 80 bytes each before any is made, so `{},{},…` would take 27 times its size."""
DIGEST_FOLDER: Final = "/CloudTrail-Digest/"
"""The part of a key that marks CloudTrail's integrity files."""
MAX_NAME_BYTES: Final = 1024
"""S3 has no longer key or version id. With one, a server may close the connection, which would look like a fault."""
_ACCOUNT: Final = re.compile(r"(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?([0-9]{12})/CloudTrail[A-Za-z-]*/")


@dataclass(frozen=True, slots=True)
class LogObject:
    """The name of an S3 object, or of one version of it."""

    bucket: str
    key: str
    version_id: str | None
    size: int = field(default=0, compare=False)  # as the notification tells, which may be wrong; 0 when it doesn't

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def is_digest(self) -> bool:
        """Whether it is one of CloudTrail's integrity files, which lie beside the logs and have no records."""
        return DIGEST_FOLDER in self.key

    @property
    def account(self) -> str | None:
        """The account whose log CloudTrail puts under such a key. None when the key names none, or more than one."""
        found = set(_ACCOUNT.findall(self.key))
        return found.pop() if len(found) == 1 and self.key.count("AWSLogs/") == 1 else None


class TooLarge(RejectEvent):
    """A log is larger than was asked for. Of an object as it is stored, `size` says how large."""

    def __init__(self, why: str, size: int = 0) -> None:
        super().__init__(why)
        self.size = size


class _Log(msgspec.Struct):
    Records: list[msgspec.Raw]


_LOG: Final = msgspec.json.Decoder(_Log)


def _exact(literal: str) -> Decimal | str:
    """A number of a record as it is written: a float would round it. A text, if no Decimal can be so large."""
    try:
        return Decimal(literal)
    except InvalidOperation:
        return literal


_RECORD: Final = msgspec.json.Decoder(dict[str, Any], float_hook=_exact)


class LogRecords(Sequence[dict[str, Any]]):
    """The records of a log. Each is decoded when it is asked for, and forgotten when its reader forgets it."""

    def __init__(self, source: LogObject, raws: list[msgspec.Raw]) -> None:
        self._source = source
        self._raws = raws

    def __len__(self) -> int:
        return len(self._raws)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._decoded, self._raws)

    def __getitem__(self, index: Any) -> Any:
        """Decode one record. Raises RejectEvent when it is no map or too large."""
        return self._decoded(self._raws[index])

    def _decoded(self, raw: msgspec.Raw) -> dict[str, Any]:
        if memoryview(raw).nbytes > MAX_RECORD_BYTES:
            raise RejectEvent(f"{self._source} has a record of more than {MAX_RECORD_BYTES} bytes: CloudTrail has none")
        return _decoded(self._source, _RECORD, raw)


def log_object(notification: Any, buckets: AbstractSet[str] = frozenset()) -> LogObject:
    """Find the object that a notification names: of S3, direct or through EventBridge, or of CloudTrail by SNS.

    Raises RejectEvent for others.

    Where there are `buckets`, an object of another one is rejected.
    """
    source = _named_object(notification)
    if buckets and source.bucket not in buckets:
        raise RejectEvent(f"{source!s:.300} lies in a bucket that CELL_SECURITY_BUCKETS doesn't name: it is not read")
    if max(len(source.key.encode()), len((source.version_id or "").encode())) > MAX_NAME_BYTES:
        raise RejectEvent(f"{source!s:.300} has a key or a version id longer than S3's {MAX_NAME_BYTES} bytes")
    if not {".", ".."}.isdisjoint(source.key.split("/")):
        raise RejectEvent(f"{source!s:.300} has a dot for a part of its key, which may lead elsewhere on the way to S3")
    return source


def _named_object(notification: Any) -> LogObject:
    match notification:
        case {"source": "aws.s3", "detail-type": str(kind), "detail": detail}:
            return _bridged_object(kind, detail)
        case {"s3": {"bucket": {"name": str(bucket)}, "object": {"key": str(key)} as s3_object}} if bucket and key:
            name = notification.get("eventName", "ObjectCreated:")
            if not str(name).removeprefix("s3:").startswith("ObjectCreated:"):
                raise RejectEvent(f"the notification is of {name}, not of an object's creation")
            return _object(bucket, _unquoted(key), s3_object, "versionId")
        case {"s3Bucket": str(bucket), "s3ObjectKey": [str(key)]} if bucket and key:
            return LogObject(bucket, key, None)  # as it is in the bucket: CloudTrail encodes no key
        case _:
            raise RejectEvent(
                "the body is neither an S3 notification record, with s3.bucket.name and s3.object.key, "
                "nor such a notification through EventBridge, nor CloudTrail's own, with s3Bucket and s3ObjectKey",
            )


def _unquoted(key: str) -> str:
    """A key as it is in the bucket: notifications URL-encode it as forms do. One encoded wrongly stays as it is."""
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        return key


def _bridged_object(kind: str, detail: Any) -> LogObject:
    """Read a notification through EventBridge. Its fields have other names, and its keys are not URL-encoded."""
    if kind != "Object Created":
        raise RejectEvent(f"the notification is of {kind}, not of an object's creation")
    match detail:
        case {"bucket": {"name": str(bucket)}, "object": {"key": str(key)} as s3_object} if bucket and key:
            return _object(bucket, key, s3_object, "version-id")
        case _:
            raise RejectEvent(
                "the body is not an S3 notification through EventBridge: "
                "detail.bucket.name and detail.object.key are needed",
            )


def _object(bucket: str, key: str, told: Mapping[str, Any], version_name: str) -> LogObject:
    version, size = told.get(version_name), told.get("size")
    return LogObject(
        bucket,
        key,
        version if isinstance(version, str) and version else None,
        size if isinstance(size, int) and size > 0 else 0,
    )


def parse(chunks: Iterable[bytes], source: LogObject, max_bytes: int) -> LogRecords:
    """Find the records of a log that arrives in chunks, gzipped or plain. Raises RejectEvent; so does decoding them."""
    text = _text(chunks, source, max_bytes)
    most = max(FEW_VALUES, max_bytes // BYTES_A_VALUE)
    if text.count(b",") > most:  # there is one between any two
        raise RejectEvent(f"{source} would fill the memory: it has more than {most} values")
    raws = _decoded(source, _LOG, text).Records
    if len(raws) > MAX_RECORDS:
        raise RejectEvent(f"{source} has {len(raws)} records, more than the {MAX_RECORDS} that are allowed")
    return LogRecords(source, raws)


def _decoded(source: LogObject, decoder: msgspec.json.Decoder[T], text: bytes | bytearray | msgspec.Raw) -> T:
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        raise RejectEvent(f"{source} is not a CloudTrail log: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RejectEvent(f"{source} is not JSON: {error}") from error
    except RecursionError as error:
        raise RejectEvent(f"{source} is nested too deeply") from error


def check_size(source: LogObject, size: int, max_bytes: int) -> None:
    """Raise TooLarge when an object has more bytes, as it is stored, than it may have."""
    if size > max_bytes:
        raise TooLarge(f"{source} is too large: more than {max_bytes} bytes as stored", size)


def _text(chunks: Iterable[bytes], source: LogObject, max_bytes: int) -> bytearray:
    """Join what arrives, decompressed. Raises RejectEvent as soon as there are more than `max_bytes`."""
    pieces = (chunk[at : at + CHUNK_BYTES] for chunk in chunks for at in range(0, len(chunk), CHUNK_BYTES))
    text = bytearray()
    rest = _start(b"", pieces)
    if not rest.startswith(GZIP_MAGIC):
        for piece in chain((rest,), pieces):
            text += piece
            if len(text) > max_bytes:
                raise TooLarge(f"{source} is too large: more than {max_bytes} bytes of JSON")
        return text
    for _ in range(MAX_MEMBERS):
        rest = _start(_decompress_member(rest, pieces, text, source, max_bytes), pieces)
        if not rest.startswith(GZIP_MAGIC):
            break
    if any(piece.strip(b"\0") for piece in chain((rest,), pieces)):  # zeros are padding, which gzip allows
        raise RejectEvent(f"{source} is a corrupt gzip file: something else follows its end")
    return text


def _start(rest: bytes, pieces: Iterator[bytes]) -> bytes:
    """Add to the rest of a piece until it has as many bytes as tell whether a gzip member begins."""
    while len(rest) < len(GZIP_MAGIC) and (piece := next(pieces, b"")):
        rest += piece
    return rest


def _decompress_member(
    piece: bytes, pieces: Iterator[bytes], text: bytearray, source: LogObject, max_bytes: int
) -> bytes:
    """Append one member's content to `text`, and return what follows the member in its last piece."""
    member = zlib.decompressobj(WBITS_GZIP)
    while not member.eof:
        piece = piece or next(pieces, b"")
        try:
            made = member.decompress(piece, min(CHUNK_BYTES, max_bytes - len(text) + 1))
        except zlib.error as error:
            raise RejectEvent(f"{source} is a corrupt gzip file: {error}") from error
        if not piece and not made and not member.eof:
            raise RejectEvent(f"{source} is a truncated gzip file")
        text += made
        if len(text) > max_bytes:
            raise TooLarge(f"{source} is too large: more than {max_bytes} bytes decompressed")
        piece = member.unconsumed_tail
    return member.unused_data
