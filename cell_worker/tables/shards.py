"""Which shards of a table's stream are read next, and from where. Nothing here calls anything.

A stream consists of shards. One ends after some hours, or when the table's load grows, and its children go on: they are
read only when it has been read to its end, so that changes of one key come in their order. After a day a shard and its
changes are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from cell_worker.api.tables import Change
from cell_worker.contract.protocol import Reason
from cell_worker.contract.strict_reader import StrictReader, Whole

MAX_PLACES_BYTES: Final = 256 * 1024
KEPT_MS: Final = 23 * 3600 * 1000
"""A stream keeps a change for a day. A reader that was away for almost as long may have missed some."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard of a stream, as the stream itself lists it."""

    shard_id: str
    parent: str | None


@dataclass(frozen=True, slots=True)
class StreamShards:
    """A stream with all shards that it still has."""

    stream: str
    shards: Sequence[Shard]


@dataclass(frozen=True, slots=True)
class Records:
    """What one look into a shard has found."""

    changes: Sequence[Change]
    last: str
    """The number of the last record that was looked at, to go on after; as it was given when there was none."""
    ended: bool
    """Whether no record will ever follow."""
    unreadable: Sequence[Reason] = ()
    """Why some of the records are not among the changes."""


class Places(msgspec.Struct, frozen=True):
    """How far a stream has been read: what the table remembers of it."""

    stream: str
    saved_ms: Whole  # when this was written
    after: dict[str, str] = {}  # by shard, the number of the last record that was applied
    ended: list[str] = []  # shards of which every record was applied

    def at(self, shard_id: str, records: Records) -> Places:
        """Return the places once these records are applied."""
        if records.ended:
            after = {shard: number for shard, number in self.after.items() if shard != shard_id}
            return Places(self.stream, self.saved_ms, after, [*self.ended, shard_id])
        after = self.after | ({shard_id: records.last} if records.last else {})
        return Places(self.stream, self.saved_ms, after, self.ended)

    def without_those_gone(self, listed: StreamShards) -> Places:
        """Forget ended shards that are neither listed nor the parent of one that is."""
        named = {shard.shard_id for shard in listed.shards} | {shard.parent for shard in listed.shards}
        return Places(self.stream, self.saved_ms, self.after, [shard for shard in self.ended if shard in named])


PLACES: Final[StrictReader[Places]] = StrictReader("places in a stream", Places, MAX_PLACES_BYTES)


def readable(listed: StreamShards, places: Places) -> list[str]:
    """Return the shards that may be read now: those not ended whose parents are."""
    there, ended = {shard.shard_id for shard in listed.shards}, set(places.ended)
    return [
        shard.shard_id
        for shard in listed.shards
        if shard.shard_id not in ended and (shard.parent not in there or shard.parent in ended)
    ]


def why_gap(listed: StreamShards, places: Places | None, now_ms: int) -> Reason | None:
    """Say why changes may be missing between these places and the stream. None when there are all."""
    if places is None:
        return "it was never followed"
    if places.stream != listed.stream:
        return "it has another stream than before"
    if now_ms - places.saved_ms > KEPT_MS:
        return "it was not followed for a day"
    there = {shard.shard_id for shard in listed.shards}
    if gone := sorted(places.after.keys() - there):
        return f"the shard {gone[0]} is gone, and was not read to its end"
    return None
