"""The objects of the archive: which records share one, how it is named, and how it is compressed.

An object holds what one router knows of the events that ended in one minute and whose slots are in one range.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import zstandard

from router.core.archive.records import ArchivedEvent
from router.core.slot_map.slots import SLOTS

ROOT: Final = "archive/v1/"
"""With what the name of every object begins; the number is that of the schema."""
SUFFIX: Final = ".jsonl.zst"
RANGES: Final = 16  # of slots: one key's events lie in one object of so many, and each costs a call a minute
SLOTS_A_RANGE: Final = SLOTS // RANGES
MINUTE_MS: Final = 60_000
MAX_OBJECT_BYTES: Final = 16 * 1024 * 1024
"""A longer object is ended, and what follows begins the next one."""
_LEVEL: Final = 1
_WINDOW_LOG: Final = 18  # 256 KiB: a router has 16 objects open at once, and the default takes megabytes for each
_HASH_LOG: Final = 13  # 32 KiB: the tables of all these objects together stay in the CPU's cache
_TOGETHER_BYTES: Final = 128 * 1024
"""So much is compressed in one go, as each of them gives Python's lock away and has to wait for it."""
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")


class ArchivePart(NamedTuple):
    """What the records of one object have in common."""

    minute: int  # since 1970
    range_: int  # of slots, from 0

    @property
    def slots(self) -> str:
        """Name the slots of the range, so that names sort as they do."""
        first = self.range_ * SLOTS_A_RANGE
        return f"{first:05d}-{first + SLOTS_A_RANGE - 1:05d}"


def part_of(record: ArchivedEvent) -> ArchivePart:
    """Return in which part of the archive a record belongs."""
    return ArchivePart(record.ended_at_ms // MINUTE_MS, record.slot // SLOTS_A_RANGE)


def by_part(records: Sequence[ArchivedEvent]) -> Mapping[ArchivePart, Sequence[ArchivedEvent]]:
    """Sort records into the parts that they belong in, each in the order that they came in."""
    found: defaultdict[int, list[ArchivedEvent]] = defaultdict(list)
    for record in records:
        found[record.ended_at_ms // MINUTE_MS * RANGES + record.slot // SLOTS_A_RANGE].append(record)
    return {part_of(records[0]): records for records in found.values()}


def minute_prefix(environment: str, minute: int) -> str:
    """Return with what the names of all objects of a minute begin."""
    at = datetime.fromtimestamp(minute * 60, UTC)
    return f"{ROOT}environment={environment}/date={at:%Y-%m-%d}/hour={at:%H}/minute={at:%M}/"


def object_key(environment: str, part: ArchivePart, router: str, number: int) -> str:
    """Name an object. No other has its name: the router's is its own, and it counts its objects."""
    name = _NO_NAME.sub("-", router)
    return f"{minute_prefix(environment, part.minute)}slots={part.slots}/{name}-{number:06d}{SUFFIX}"


@dataclass(slots=True, eq=False)
class OpenObject:
    """An object that records are still added to: one zstd frame, which grows."""

    key: str
    events: int = 0
    size: int = 0  # compressed, as far as it is known
    _lines: list[bytes] = field(default_factory=list)  # not compressed yet
    _lines_bytes: int = 0
    _chunks: list[bytes] = field(default_factory=list)
    _stream: Any = field(default_factory=lambda: _compressor().compressobj())

    def add(self, lines: bytes, events: int) -> None:
        """Add the lines of so many events at its end."""
        self._lines.append(lines)
        self._lines_bytes += len(lines)
        if self._lines_bytes >= _TOGETHER_BYTES:
            self._compress()
        self.events += events

    def end(self) -> bytes:
        """End the frame, and return all of the object."""
        self._compress()
        self._keep(self._stream.flush())
        return b"".join(self._chunks)

    def _compress(self) -> None:
        self._keep(self._stream.compress(b"".join(self._lines)))
        self._lines, self._lines_bytes = [], 0

    def _keep(self, chunk: bytes) -> None:
        if chunk:
            self._chunks.append(chunk)
            self.size += len(chunk)


def _compressor() -> zstandard.ZstdCompressor:
    options = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, window_log=_WINDOW_LOG, hash_log=_HASH_LOG, write_checksum=True
    )
    return zstandard.ZstdCompressor(compression_params=options)
