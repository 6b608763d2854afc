"""The port that a reader of a table's changes needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cell_worker.api.tables import MAX_WRITES, CellTable, ItemKey
from cell_worker.tables.shards import Records, StreamShards


class TrimmedError(Exception):
    """What should come next in a shard is gone: a stream keeps a change for a day."""


class FollowedTable(CellTable, Protocol):
    """A cell's own table, of which the stream can be read too."""

    async def shards(self) -> StreamShards:
        """List all shards that the stream still has. Raises RetryEvent."""
        ...

    async def read(self, shard_id: str, after: str) -> Records:
        """Read the next records of a shard, after one number or, if that is empty, from its beginning.

        Raises TrimmedError when they are gone, and RetryEvent.
        """
        ...

    async def restart(self) -> None:
        """Replace the clients; the next calls open new ones."""
        ...

    async def close(self) -> None:
        """Close the clients with their connections."""
        ...


def check_count(keys: Sequence[ItemKey]) -> None:
    """Raise ValueError for keys that no table reads or writes in one call: too many, or one of them twice."""
    if len(set(keys)) != len(keys) or len(keys) > MAX_WRITES:
        raise ValueError(f"{len(keys)} keys: at most {MAX_WRITES} different ones can be read or written together")
