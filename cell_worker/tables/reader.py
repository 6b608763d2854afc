"""The component that follows a table: reads its stream, has the changes applied, and remembers in the table how far.

Guarantees: every change is applied at least once, and those of one partition key in their order. What was applied is
remembered only afterwards, by compare-and-set: when two instances follow one table, one of them notices. Where changes
may be missing, because the table was never followed, not for a day, or was restored, all its items are applied as new
ones first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from cell_worker import clock
from cell_worker.api.tables import Apply, Change, ItemKey, Put, TableItem, key_in
from cell_worker.contract.protocol import Reason
from cell_worker.contract.strict_reader import Unreadable
from cell_worker.tables.shards import PLACES, Places, StreamShards, readable, why_gap
from cell_worker.tables.stream import FollowedTable, TrimmedError

READER: Final = "#reader"
"""Begins the keys of what readers keep in the table. No change of these items is applied."""
IDLE_S: Final = 0.5
"""How long the reader waits after a turn that has found nothing."""
LIST_EVERY_S: Final = 30.0
"""How long a list of the stream's shards counts, unless one of them ends."""
SAVE_EVERY_MS: Final = 3600 * 1000
"""How old the remembered places may get while nothing changes."""


class FollowError(Exception):
    """The table can't be followed as it is; the text says why."""


class TableReader:
    """The component that has the changes of one table applied, in the background."""

    def __init__(self, table: FollowedTable, apply: Apply, name: str) -> None:
        self.name = name
        self._table = table
        self._apply = apply
        self._key = ItemKey(READER, name)
        self._log = structlog.get_logger("reader").bind(table=table.name)
        self._stored: TableItem | None = None  # the places, as the table has them
        self._places: Places | None = None
        self._listed: StreamShards | None = None
        self._listed_at = 0.0
        self._applied = 0
        self._why_unreadable: Reason | None = None

    async def run(self) -> None:
        """Follow the table until cancelled. Raises what `turn` raises."""
        self._forget()
        while True:
            if not await self.turn():
                await clock.sleep(IDLE_S)

    async def turn(self) -> bool:
        """Look once into each shard that may be read. False when no record was found.

        Raises RetryEvent, FollowError, and what `apply` raises: then nothing more counts as applied.
        """
        listed, places = await self._where()
        found = False
        for shard_id in readable(listed, places):
            try:
                records = await self._table.read(shard_id, places.after.get(shard_id, ""))
            except TrimmedError:
                self._listed = await self._table.shards()
                await self._begin_anew(self._listed, f"changes of the shard {shard_id} are gone")
                return True
            self._note_unreadable(records.unreadable)
            changes = [change for change in records.changes if not _is_own(change)]
            await self._applied_all(changes)
            places = places.at(shard_id, records)
            if changes or records.ended:
                places = await self._saved(places)
            self._places = places
            found = found or bool(records.changes) or records.ended
            if records.ended:
                self._listed = None  # its children are to be found
        return found

    async def check(self) -> str:
        """Say how many changes were applied, and whether some could not be read."""
        said = f"follows {self._table.name}, {self._applied} changes applied"
        return f"{said}; left out what can't be read: {self._why_unreadable}" if self._why_unreadable else said

    async def restart(self) -> None:
        """Replace the table's clients, and forget all that the table itself remembers."""
        await self._table.restart()
        self._forget()

    def _forget(self) -> None:
        self._stored = self._places = self._listed = None

    async def _where(self) -> tuple[StreamShards, Places]:
        """Return the stream's shards, and how far they were read. Closes a gap first, if there is one."""
        if self._places is None:
            self._stored = (await self._table.get(self._key)).get(self._key)
            self._places = _places_in(self._stored)
        now = clock.monotonic()
        if self._listed is None or now - self._listed_at > LIST_EVERY_S:
            self._listed, self._listed_at = await self._table.shards(), now
            if (why := why_gap(self._listed, self._places, clock.time_ms())) is not None:
                await self._begin_anew(self._listed, why)
        assert self._places is not None
        if clock.time_ms() - self._places.saved_ms > SAVE_EVERY_MS:
            self._places = await self._saved(self._places)
        return self._listed, self._places

    async def _begin_anew(self, listed: StreamShards, why: Reason) -> None:
        """Apply every item of the table as a new one, and go on from the beginning of the stream."""
        self._log.warning("applies all items of the table, since changes may be missing", why=why)
        async for items in self._table.scan():
            await self._applied_all([change for item in items if not _is_own(change := Change(None, item))])
        self._places = await self._saved(Places(listed.stream, 0))

    async def _applied_all(self, changes: Sequence[Change]) -> None:
        if changes:
            await self._apply(changes)
            self._applied += len(changes)

    async def _saved(self, places: Places) -> Places:
        listed = self._listed
        kept = places.without_those_gone(listed) if listed is not None else places
        kept = msgspec.structs.replace(kept, saved_ms=clock.time_ms())
        item = self._key.of(places=msgspec.json.encode(kept).decode())
        if not await self._table.write(Put(item, self._stored)):
            self._forget()
            raise FollowError(f"another instance follows {self._table.name} too")
        self._stored = item
        return kept

    def _note_unreadable(self, reasons: Sequence[Reason]) -> None:
        if reasons:
            self._log.error("left out changes that can't be read", count=len(reasons), why=reasons[0])
            self._why_unreadable = reasons[0]


def _places_in(item: TableItem | None) -> Places | None:
    """Read the places that a table remembers. None without any, or when they are damaged: then all is applied again."""
    found = PLACES.read(str(item.get("places", "")).encode()) if item is not None else None
    return None if isinstance(found, Unreadable) else found


def _is_own(change: Change) -> bool:
    item = change.new or change.old
    return item is not None and key_in(item).pk == READER
