"""Which archived events are replayed, in which order, when each is due, and as which message. Pure."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec.structs import replace
from xxhash import xxh3_64_intdigest

from router.core.archive.objects import MINUTE_MS
from router.core.archive.records import ArchivedEvent, body_of
from router.core.messages.parser import held_draft
from router.core.messages.proofs import AttributeKeys
from router.core.models import Draft, Event, Origin, Outcome, Whole

LIVE: Final = "live"
"""The environment that nothing is ever replayed into: its events have had their effects there."""

_SHARES: Final = 1  # the seed of the hash


@dataclass(frozen=True, slots=True)
class Selection:
    """Which archived events are meant: those that ended in the time, and fit each condition that is given."""

    from_ms: int
    to_ms: int  # not included
    keys: frozenset[str] = frozenset()  # empty: every one
    cells: frozenset[str] = frozenset()
    outcomes: frozenset[Outcome] = frozenset()
    share: float = 1.0  # of the keys, from 0 to 1: always the same ones, of all cells

    def takes(self, record: ArchivedEvent) -> bool:
        """Whether an event is meant. What its cell only knew already has another line that says how it ended."""
        return (
            self.from_ms <= record.ended_at_ms < self.to_ms
            and not record.duplicate
            and (not self.keys or record.partition_key in self.keys)
            and (not self.cells or record.cell in self.cells)
            and (not self.outcomes or record.outcome in self.outcomes)
            and in_share(record.partition_key, self.share)
        )

    def minutes(self) -> range:
        """Return the minutes since 1970 whose objects have to be read."""
        return range(self.from_ms // MINUTE_MS, -(-self.to_ms // MINUTE_MS))

    @property
    def name(self) -> str:
        """Name the selection, the same for the same one and another for each other one."""
        parts = [self.from_ms, self.to_ms, *map(sorted, (self.keys, self.cells, self.outcomes))]
        parts += [self.share] if self.share < 1 else []
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def in_share(key: str, share: float) -> bool:
    """Tell whether a key is among this share of all; by another hash than its slot, so that each cell has its part."""
    return share >= 1 or xxh3_64_intdigest(key.encode(), seed=_SHARES) < share * 2**64


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a replay has come, so that it goes on there."""

    selection: str  # its name
    environment: str  # that is replayed into
    started_at_ms: Whole  # when the replay began, the first time
    minute: Whole  # that is being sent
    sent_of_minute: Whole = 0  # events of that minute which the queue has taken, in their order
    sent: Whole = 0  # of all minutes
    done: bool = False  # all are sent

    def after(self, count: int) -> Checkpoint:
        """Return where the replay is when so many more events were sent."""
        return replace(self, sent_of_minute=self.sent_of_minute + count, sent=self.sent + count)

    def at_minute(self, minute: int) -> Checkpoint:
        """Return where the replay is at the begin of a minute."""
        return replace(self, minute=minute, sent_of_minute=0)


def in_order(streams: Iterable[Iterable[ArchivedEvent]]) -> Iterator[ArchivedEvent]:
    """Merge what the objects of a minute hold, by the time at which events ended; so it is a key's order too."""
    return heapq.merge(*streams, key=lambda record: record.ended_at_ms)


def due_s(record: ArchivedEvent, selection: Selection, speed: float | None) -> float:
    """Return how long after its start a replay sends an event; `speed` None: at once."""
    return 0.0 if speed is None else (record.ended_at_ms - selection.from_ms) / 1000 / speed


def replay_draft(record: ArchivedEvent, run: str, keys: AttributeKeys, max_bytes: int, *, fifo: bool) -> Draft:
    """Return the message that brings an event into another environment, under its own id and key.

    `run` names the replay: a FIFO queue takes the same event twice in two replays, and once in one.
    """
    origin = Origin(
        record.message_id,
        record.sent_at_ms,
        record.attributes,
        record.types,
        record.binaries,
        record.trace_header,
        record.group_id,
        record.dedup_id,
        record.whole,
    )
    event = Event(record.event_id, record.partition_key, body_of(record), pointer=record.pointer, origin=origin)
    draft = replace(held_draft(event, 0, keys, max_bytes), trace_header=record.trace_header)
    if not fifo:
        return draft
    group = hashlib.sha256(record.partition_key.encode()).hexdigest()
    name = repr((run, record.partition_key, record.event_id)).encode()
    return replace(draft, group_id=group, dedup_id=hashlib.sha256(name).hexdigest())
