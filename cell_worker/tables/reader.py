"""The component that follows a table: reads its stream, has the changes applied, and remembers in the table how far.

Guarantees: every change is applied at least once, and those of one partition key in their order. What was applied is
remembered only afterwards, by compare-and-set: when two instances follow one table, one of them notices. Where changes
may be missing, because the table was never followed, not for a day, or was restored, all its items are applied as new
ones first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Final

import msgspec
import structlog

from cell_worker import clock
from cell_worker.api.tables import Apply, Change, ItemKey, Put, TableItem, key_in
from cell_worker.contract.protocol import Reason
from cell_worker.contract.strict_reader import Unreadable
from cell_worker.tables.shards import PLACES, Places, Records, StreamShards, readable, why_gap
from cell_worker.tables.stream import FollowedTable, TrimmedError

READER: Final = "#reader"
"""Begins the keys of what readers keep in the table. No change of these items is applied."""
IDLE_S: Final = 0.5
"""How long the reader waits after a turn that has found nothing."""
LIST_EVERY_S: Final = 30.0
"""How long a list of the stream's shards counts, unless one of them ends."""
SAVE_EVERY_MS: Final = 3600 * 1000
"""How old the remembered places may get while nothing changes."""


MAX_CONFLICTS: Final = 5
"""How often in a row another reader may come first. While an instance takes over, the old one may do so for once."""
BEHIND_S: Final = 5.0
"""A check says how far the reader is behind, from this on."""
STUCK_AFTER_S: Final = 60.0
"""A turn that takes longer is stuck. One takes seconds at most, and what it calls is given up after 8 s."""


class FollowError(Exception):
    """The reader doesn't get on; the text says why."""


class _OvertakenError(Exception):
    """Another reader has remembered its places in between."""


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
        self._conflicts = 0
        self._turn_began_at: float | None = None
        self._caught_up_at: float | None = None  # when nothing was left to read; None while it was never run
        self._why_unreadable: Reason | None = None

    async def run(self) -> None:
        """Follow the table until cancelled. Raises what `turn` raises."""
        self._forget()
        self._caught_up_at = self._caught_up_at or clock.monotonic()
        while True:
            if not await self.turn():
                self._caught_up_at = clock.monotonic()
                await clock.sleep(IDLE_S)

    async def turn(self) -> bool:
        """Look once into each shard that may be read. False when no record was found, or another reader came first.

        Raises RetryEvent, FollowError, and what `apply` raises: then nothing more counts as applied.
        """
        self._turn_began_at = clock.monotonic()
        try:
            return await self._turn()
        except _OvertakenError as error:
            self._forget()
            self._conflicts += 1
            if self._conflicts >= MAX_CONFLICTS:
                raise FollowError(f"another instance follows {self._table.name} too") from error
            self._log.warning("another instance follows the table too; goes on from its places")
            return False
        finally:
            self._turn_began_at = None

    async def _turn(self) -> bool:
        listed, places = await self._where()
        found = False
        for shard_id in readable(listed, places):
            after = places.after.get(shard_id, "")
            try:
                records = await self._table.read(shard_id, after)
            except TrimmedError:
                # One that can't even be read from its beginning is gone, though it is listed: its children go on.
                passed = None if after else places.at(shard_id, Records((), "", ended=True))
                await self._begin_anew(f"changes of the shard {shard_id} are gone", passed)
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

    def behind_s(self) -> float:
        """Return for how long changes may have waited that are not applied yet. Not a number in standby."""
        return nan if self._caught_up_at is None else clock.monotonic() - self._caught_up_at

    async def check(self) -> str:
        """Say how many changes were applied, and which could not be read. Raises FollowError when it is stuck."""
        if (began_at := self._turn_began_at) is not None and (took_s := clock.monotonic() - began_at) > STUCK_AFTER_S:
            raise FollowError(f"has been applying changes of {self._table.name} for {took_s:.0f} s")
        behind = f", {self.behind_s():.0f} s behind" if self.behind_s() >= BEHIND_S else ""
        said = f"follows {self._table.name}, {self._applied} changes applied{behind}"
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
            listed = await self._table.shards()
            if (why := why_gap(listed, self._places, clock.time_ms())) is not None:
                await self._begin_anew(why)
            self._listed, self._listed_at = listed, now  # not before there is no gap
        assert self._places is not None
        if clock.time_ms() - self._places.saved_ms > SAVE_EVERY_MS:
            self._places = await self._saved(self._places)
        return self._listed, self._places

    async def _begin_anew(self, why: Reason, places: Places | None = None) -> None:
        """Apply every item of the table as a new one, and go on from these places, or from the stream's beginning."""
        if self._stored is None:
            self._log.info("follows the table for the first time")
        else:
            self._log.warning("applies all items of the table, since changes may be missing", why=why)
        self._listed, listed = None, await self._table.shards()
        async for items in self._table.scan():
            await self._applied_all([change for item in items if not _is_own(change := Change(None, item))])
        self._places = await self._saved(places or Places(listed.stream, 0))

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
            raise _OvertakenError
        self._stored, self._conflicts = item, 0
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
