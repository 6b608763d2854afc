"""A table that is kept in memory, with its stream: for the tests of handlers, where it stands for the one in DynamoDB.

The contract suite runs on both. This one also does what DynamoDB does seldom: `split` ends all shards of its stream.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from cell_worker.api.tables import PK, Change, ItemKey, Put, TableItem, key_in
from cell_worker.tables.shards import Records, Shard, StreamShards
from cell_worker.tables.stream import TrimmedError, check_count

_AT_A_TIME = 100


@dataclass
class _MemoryShard:
    shard: Shard
    records: list[Change] = field(default_factory=list)
    trimmed: int = 0  # how many of them are gone
    ended: bool = False


class MemoryTable:
    """A cell's own table with its stream, as long as the process lives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.items: dict[ItemKey, TableItem] = {}
        self.reads = 0
        """How many items were read by their keys."""
        self.writes = 0
        """How many items were written."""
        self.stream_label = "1"
        self._shards = [_MemoryShard(Shard("shard-1", None))]

    async def get(self, *keys: ItemKey) -> dict[ItemKey, TableItem]:
        """Read the items with these keys; those that don't exist are left out."""
        check_count(keys)
        self.reads += len(keys)
        return {key: self.items[key] for key in keys if key in self.items}

    async def write(self, *puts: Put) -> bool:
        """Write all the items or none. False when one is not as it was."""
        keys = [key_in(put.item) for put in puts]
        check_count(keys)
        if any(self.items.get(key) != put.was for key, put in zip(keys, puts, strict=True)):
            return False
        for key, put in zip(keys, puts, strict=True):
            self.items[key] = dict(put.item)
            self.writes += 1
            if put.item != put.was:
                self._note(Change(put.was, dict(put.item)))
        return True

    async def scan(self) -> AsyncIterator[Sequence[TableItem]]:
        """Read the whole table, page by page."""
        found = list(self.items.values())
        for first in range(0, len(found), _AT_A_TIME):
            yield found[first : first + _AT_A_TIME]

    async def shards(self) -> StreamShards:
        """List the shards of the stream."""
        return StreamShards(f"{self.name}/stream/{self.stream_label}", [each.shard for each in self._shards])

    async def read(self, shard_id: str, after: str) -> Records:
        """Read records of a shard, after one number or from the beginning."""
        (shard,) = [each for each in self._shards if each.shard.shard_id == shard_id]
        first = int(after) if after else shard.trimmed
        if first < shard.trimmed:
            raise TrimmedError(shard_id)
        found = shard.records[first : first + _AT_A_TIME]
        last = first + len(found)
        return Records(found, str(last) if found else after, shard.ended and last == len(shard.records))

    async def restart(self) -> None:
        """Do nothing: there is no client to replace."""

    async def close(self) -> None:
        """Do nothing: there is no client to close."""

    def split(self) -> None:
        """End all shards that are open. Two children go on for each."""
        for each in [shard for shard in self._shards if not shard.ended]:
            each.ended = True
            for _ in range(2):
                name = f"shard-{len(self._shards) + 1}"
                self._shards.append(_MemoryShard(Shard(name, each.shard.shard_id)))

    def trim(self) -> None:
        """Lose all records that the stream has so far, as it does after a day."""
        for shard in self._shards:
            shard.trimmed = len(shard.records)

    def _note(self, change: Change) -> None:
        """Write a change into the stream, in the open shard that its partition key falls into."""
        pk = str((change.new or change.old or {}).get(PK))
        shards = [shard for shard in self._shards if not shard.ended]
        shards[zlib.crc32(pk.encode()) % len(shards)].records.append(change)
