"""Makes objects of the events that have ended: records, lines, and compressed frames that grow. Pure.

It is meant for a thread of its own, and keeps what it works on to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from router.core.archive.objects import MAX_OBJECT_BYTES, ArchivePart, OpenObject, by_part, object_key
from router.core.archive.records import ArchivedEvent, EndedEvent, lines_of, record_of

SLICE: Final = 500  # events at once: their records are gone again before the next ones are made


@dataclass(frozen=True, slots=True)
class PackedObject:
    """An object that is whole, and is to be written."""

    key: str
    body: bytes
    events: int


@dataclass(frozen=True, slots=True)
class Packed:
    """What came of some events."""

    objects: Sequence[PackedObject]  # that are whole now
    failures: Sequence[tuple[Exception, int]]  # how many events can't be written, and why
    open_events: int  # in objects that are not whole yet
    open_bytes: int


class Packer:
    """Puts events into objects, each by its minute and its range of slots."""

    def __init__(self, environment: str, router: str) -> None:
        self._environment = environment
        self._router = router
        self._made = 0
        self._open: dict[ArchivePart, OpenObject] = {}

    def pack(self, events: Sequence[EndedEvent], zero_ms: float, this_minute: int, *, end_all: bool) -> Packed:
        """Add events; end the objects of minutes that are over, those that are long, and if wanted all.

        `zero_ms` is when monotonic time began, in ms since 1970.
        """
        failures: list[tuple[Exception, int]] = []
        for start in range(0, len(events), SLICE):
            records = _records(events[start : start + SLICE], zero_ms, failures)
            for part, found in by_part(records).items():
                self._add(part, found, failures)
        ended = [
            self._end(part, failures)
            for part, each in list(self._open.items())
            if end_all or part.minute != this_minute or each.size >= MAX_OBJECT_BYTES
        ]
        whole = [each for each in ended if each is not None]
        still = self._open.values()
        return Packed(whole, failures, sum(each.events for each in still), sum(each.size for each in still))

    def _add(self, part: ArchivePart, records: Sequence[ArchivedEvent], failures: list[tuple[Exception, int]]) -> None:
        lines, events = _lines(records, failures)
        if not events:
            return
        if part not in self._open:
            self._made += 1
            self._open[part] = OpenObject(object_key(self._environment, part, self._router, self._made))
        try:
            self._open[part].add(lines, events)
        except Exception as error:  # noqa: BLE001 - a frame that has broken is no good any more; the others are
            failures.append((error, self._open.pop(part).events + events))

    def _end(self, part: ArchivePart, failures: list[tuple[Exception, int]]) -> PackedObject | None:
        done = self._open.pop(part)
        try:
            return PackedObject(done.key, done.end(), done.events)
        except Exception as error:  # noqa: BLE001 - as above
            failures.append((error, done.events))
            return None


def _records(
    events: Sequence[EndedEvent], zero_ms: float, failures: list[tuple[Exception, int]]
) -> list[ArchivedEvent]:
    try:
        return [record_of(each, zero_ms) for each in events]
    except Exception as error:  # noqa: BLE001 - a text that is none; the others have to be written
        if len(events) == 1:
            failures.append((error, 1))
            return []
        return [record for each in events for record in _records([each], zero_ms, failures)]


def _lines(records: Sequence[ArchivedEvent], failures: list[tuple[Exception, int]]) -> tuple[bytes, int]:
    """Write records, and count them."""
    try:
        return lines_of(records), len(records)
    except Exception as error:  # noqa: BLE001 - as above
        if len(records) == 1:
            failures.append((error, 1))
            return b"", 0
        alone = [_lines([each], failures) for each in records]
        return b"".join(lines for lines, _ in alone), sum(count for _, count in alone)
