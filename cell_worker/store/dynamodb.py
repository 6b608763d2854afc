"""The cell's own store in a table of DynamoDB, for cells whose disk dies with their task.

Guarantees, the same as of the store in a file:

- An event's identity and its lines are written together or not at all, and none is written twice: one transaction.
- Once `commit` has returned, both are kept in three zones of the region.
- After an instance has taken the store, no commit of a lower generation succeeds, and it gets no more lines to deliver.

Every commit updates the item `fence`, on the condition that nobody else has taken the store or committed since. So two
transactions at once would only get in each other's way, as DynamoDB cancels those that meet on an item: one is under
way at a time, and commits that arrive meanwhile share the next one. That bounds the commits to some 50 transactions a
second with up to 99 events each, for each cell.

An answer may be lost. The same transaction is sent again then, with the same token, and is not done twice. Where even
that stays unanswered, the events get the outcome `retry`; should they have been written, they are found when they come
again. The `nonce` on the fence tells which commit was the newest, for a service that has forgotten the token.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final

from cell_worker import clock
from cell_worker.contract.protocol import EventName
from cell_worker.store.bucket_bodies import Bodies
from cell_worker.store.grouped import Grouped
from cell_worker.store.store import MAX_OUTBOX_BYTES, Done, FencedError, StoreError
from cell_worker.store.table_calls import MAX_GET, ConditionFailedError, Table
from cell_worker.store.table_items import (
    FENCE,
    INSTANCES,
    OUTBOX,
    Chunk,
    FenceItem,
    Item,
    OutboxItem,
    as_item,
    by_id_item_id,
    by_id_until,
    chunk_item_id,
    chunk_of,
    done_item_id,
    done_of,
    gone_of,
    key_of,
    line_number,
    number,
    numbers,
    read_body,
    text,
    whole,
)
from cell_worker.store.table_plan import Commit, Plan, for_bucket, is_small

LOOK_EVERY_S: Final = 1.0
"""How often an empty outbox is looked into: by then this instance is the only one that adds lines to it."""
MAX_ROUNDS: Final = 20
"""How often a transaction is put together anew, after some of its events were found done, before it is given up."""
_MINE: Final = "attribute_not_exists(generation) OR generation <= :generation"


class DynamoStore:
    """The Store port on one table, and on the cell's bucket for what is too long for the table."""

    name = "DynamoDB"

    def __init__(self, table: str, bucket: str) -> None:
        self._table = Table(table)
        self._bodies = Bodies(bucket)
        self._generation = 0
        self._commits = Grouped(self._commit_group, lambda waiting: Plan(waiting).fitting)
        self._lookups = Grouped(self._look_up, lambda waiting: min(len(waiting), MAX_GET // 2))
        self._fence_turn = asyncio.Lock()  # whoever writes the fence
        self._fence = FenceItem()  # as last known
        self._fence_is_sure = False
        self._progress = OutboxItem()
        self._read: dict[int, Chunk] = {}  # the chunks of the last look into the outbox
        self._looked_at = float("-inf")
        self._by_id_until = 0  # in seconds since 1970: until then an older version's items count
        self.taken = False

    async def open(self, generation: int) -> None:
        """Write down this generation in the table, in standby: the fence stays as it is."""
        self._generation = generation
        await self.check()
        with suppress(ConditionFailedError):  # a higher one has opened it before
            await self._table.update(
                INSTANCES, "SET generation = :generation", {":generation": number(generation)}, _MINE
            )

    async def take(self) -> None:
        """Raise the fence to this generation, so that lower ones can use the store no more."""
        async with self._fence_turn:
            await self._take()

    async def highest_generation(self) -> int:
        """The highest generation that has opened the store or taken it."""
        found = await self._table.get(INSTANCES, FENCE)
        return max(whole(as_item(found.get(item_id)), "generation") for item_id in (INSTANCES, FENCE))

    async def seen(self, event: EventName) -> Done | None:
        """Look the event up, together with other look-ups that wait."""
        return await self._lookups.ask(event)

    async def commit(self, event: EventName, lines: Sequence[bytes], digest: bytes = b"") -> bool:
        """Write the event in the next transaction, together with other commits that wait."""
        if is_small(lines):
            return await self._commits.ask(Commit(event, digest, lines))
        stored = await self._bodies.put(for_bucket(lines))
        new = await self._commits.ask(Commit(event, digest, stored=stored))
        if not new:
            await self._bodies.delete([body.key for body in stored])
        return new

    async def outbox(self, limit: int, max_bytes: int = MAX_OUTBOX_BYTES) -> list[tuple[int, bytes]]:
        """The oldest lines in the order of their commits: whole chunks, unless a single one is too long."""
        if not self.taken:
            await self._check_fence()
            return []
        if self._is_empty() and clock.monotonic() - self._looked_at < LOOK_EVERY_S:
            return []
        self._looked_at = clock.monotonic()
        self._read = {}
        lines, fence = await self._oldest(limit, max_bytes)
        if not lines:  # a predecessor may have delivered some after they were counted
            self._progress = OutboxItem(fence.tail + 1, (), fence.added)
        return lines

    async def delete(self, last_seq: int, keep: Collection[int] = ()) -> None:
        """Delete delivered lines: whole chunks, and of others it is written down which lines are gone."""
        known = self._progress
        last = min(chunk_of(last_seq), self._fence.tail)
        chunks = await self._known_chunks([chunk for chunk in known.left(last, 0, last + 1) if chunk <= last])
        kept = {chunk.number: chunk.kept(last_seq, set(keep)) for chunk in chunks}
        partly = [chunk for chunk in chunks if kept[chunk.number]]
        wholly = [chunk for chunk in chunks if not kept[chunk.number]]
        await asyncio.gather(*(self._note_gone(chunk, kept[chunk.number]) for chunk in partly))
        await self._table.delete([chunk_item_id(chunk.number) for chunk in wholly])
        await self._bodies.delete([chunk.stored_at for chunk in wholly if chunk.stored_at])
        deleted = sum(len(chunk.waiting()) - len(kept[chunk.number]) for chunk in chunks)
        later = [chunk for chunk in known.kept if chunk > last]
        still, head = tuple(sorted([chunk.number for chunk in partly] + later)), max(known.head, last + 1)
        is_empty = not still and head > self._fence.tail  # then the count is right, whatever a crash has left uncounted
        await self._note_progress(OutboxItem(head, still, self._fence.added if is_empty else known.deleted + deleted))
        self._read = {}

    async def outbox_size(self) -> int:
        """How many lines wait, by the counts of lines that came and went."""
        return max(0, self._fence.added - self._progress.deleted) if self.taken else 0

    async def check(self) -> None:
        """Count one more write, unless a higher generation has the store."""
        await self._check_fence()
        await self._table.update(INSTANCES, "ADD writes :one", {":one": number(1)})

    async def prune(self) -> bool:
        """Do nothing: DynamoDB deletes what has expired itself, and what it has not deleted yet counts no more."""
        return False

    async def close(self) -> None:
        """Finish the commits that wait and close the connections. Whatever comes later is refused with a StoreError."""
        await self._commits.idle()
        await self._table.close()
        await self._bodies.close()

    async def reopen(self) -> None:
        """Close the connections and open new ones. Raises StoreError."""
        await self._table.reopen()
        await self._bodies.reopen()
        await self.check()

    async def _check_fence(self) -> None:
        found = await self._table.get(FENCE)
        self._refuse_if_higher(FenceItem.read(found.get(FENCE)))

    def _refuse_if_higher(self, fence: FenceItem) -> FenceItem:
        if fence.generation > self._generation:
            raise FencedError(f"generation {fence.generation} has the cell's store; this is {self._generation}")
        return fence

    async def _take(self) -> None:
        found = await self._table.get(FENCE)
        until = by_id_until(found.get(FENCE), clock.time_ms() // 1000)
        raise_fence = "SET generation = :generation, tail = if_not_exists(tail, :zero)"
        raise_fence += ", keyed = :generation, by_id_until = :until"
        values = {":generation": number(self._generation)}
        items = [
            self._mine(FENCE, raise_fence, values | {":zero": number(0), ":until": number(until)}),
            self._mine(OUTBOX, "SET generation = :generation", values),
        ]
        for old in (await self._table.transact(items) or {}).values():
            self._refuse_if_higher(FenceItem.read(old))
            raise StoreError(f"{self._table.what}: it was taken by somebody, and nobody knows by whom")
        self._by_id_until = until
        if not self.taken:
            found = await self._table.get(FENCE, OUTBOX)
            self._know(self._refuse_if_higher(FenceItem.read(found.get(FENCE))))
            self._progress = OutboxItem.read(found.get(OUTBOX))
            self.taken = True

    def _mine(self, item_id: str, update: str, values: Item) -> Item:
        """One item of the transaction that takes the store."""
        return {
            "Update": {
                "TableName": self._table.name,
                "Key": key_of(item_id),
                "UpdateExpression": update,
                "ConditionExpression": _MINE,
                "ExpressionAttributeValues": values,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _know(self, fence: FenceItem) -> None:
        self._fence, self._fence_is_sure = fence, True

    async def _look_up(self, events: Sequence[EventName]) -> list[Done | None]:
        now_s = clock.time_ms() // 1000
        names = [done_item_id] if now_s >= self._by_id_until else [done_item_id, by_id_item_id]
        found = await self._table.get(*{name(event) for event in events for name in names})
        known = [[done_of(found.get(name(event), {}), now_s) for name in names] for event in events]
        return [next((done for done in each if done is not None), None) for each in known]

    async def _commit_group(self, group: Sequence[Commit]) -> list[bool]:
        async with self._fence_turn:
            if not self.taken:
                await self._take()
            written = await self._write(Plan(group))
        answers = []
        for commit in group:
            answers.append(commit.event in written)
            written.discard(commit.event)  # of the same event twice, one is new
        return answers

    async def _write(self, plan: Plan) -> set[EventName]:
        """Write those events of a plan that are not done yet, and return them."""
        nonce = uuid.uuid4().hex
        for _ in range(MAX_ROUNDS):
            if not plan.commits:
                return set()
            fence = await self._sure_fence()
            self._fence_is_sure = False  # until an answer says so
            items = plan.items(self._table.name, fence, nonce, clock.time_ms() // 1000)
            refused = await self._table.transact(items)
            if refused is None or self._was_written(refused, nonce):
                self._know(plan.after(fence, nonce))
                return set(plan.commits)
            if 0 not in refused:
                self._know(fence)
                plan = plan.without(refused.keys())
        raise StoreError(f"{self._table.what}: somebody of the same generation commits to it all the time")

    def _was_written(self, refused: dict[int, Item | None], nonce: str) -> bool:
        """Whether this very commit is the newest one: its answer was lost. Raises FencedError."""
        if 0 not in refused:
            return False
        found = FenceItem.read(refused[0])
        if found.nonce == nonce:
            return True
        self._refuse_if_not_taken(found)
        return False  # another process of this generation has committed since

    def _refuse_if_not_taken(self, fence: FenceItem) -> FenceItem:
        if self._refuse_if_higher(fence).generation < self._generation:
            self.taken = False
            raise StoreError(f"{self._table.what}: it was emptied or restored in use, and is taken anew")
        return fence

    async def _sure_fence(self) -> FenceItem:
        if not self._fence_is_sure:
            found = await self._table.get(FENCE)
            self._know(self._refuse_if_not_taken(FenceItem.read(found.get(FENCE))))
        return self._fence

    def _is_empty(self) -> bool:
        return self._fence_is_sure and self._progress.head > self._fence.tail and not self._progress.kept

    async def _oldest(self, limit: int, max_bytes: int) -> tuple[list[tuple[int, bytes]], FenceItem]:
        """Read chunks until there are lines enough, and with them the fence: it tells how many chunks there are."""
        lines: list[tuple[int, bytes]] = []
        start, tail = 0, self._fence.tail
        while True:
            wanted = self._progress.left(tail, start, MAX_GET - 1)
            found = await self._table.get(FENCE, *map(chunk_item_id, wanted))
            fence = self._refuse_if_higher(FenceItem.read(found.get(FENCE)))
            if not self._fence_is_sure and not self._fence_turn.locked():
                self._know(fence)  # the answer to a commit was lost
            for chunk in wanted:
                if not self._fits(await self._chunk(chunk, found), lines, limit, max_bytes):
                    return lines, fence
            start, tail = start + len(wanted), fence.tail
            if not self._progress.left(tail, start, 1):
                return lines, fence

    def _fits(self, chunk: Chunk, lines: list[tuple[int, bytes]], limit: int, max_bytes: int) -> bool:
        """Add a chunk's lines if they all fit, or those that fit if they are the first. Whether more may follow."""
        waiting = [(line_number(chunk.number, index), chunk.lines[index]) for index in chunk.waiting()]
        room = max_bytes - sum(len(line) for _, line in lines)
        fitting = 0
        for _, line in waiting[: limit - len(lines)]:
            room -= len(line)
            if room < 0 and (lines or fitting):
                break
            fitting += 1
        if fitting < len(waiting) and lines:
            return False
        self._read[chunk.number] = chunk
        lines.extend(waiting[:fitting])
        return fitting == len(waiting)

    async def _chunk(self, chunk: int, found: dict[str, Item]) -> Chunk:
        """A chunk as it was found. Without lines: it is delivered, but an instance ended before it could say so."""
        item_id = chunk_item_id(chunk)
        if (item := found.get(item_id)) is None:
            return Chunk(chunk, (), frozenset())
        stored_at, body = text(item, "stored_at"), item.get("body")
        raw = await self._bodies.get(stored_at) if stored_at else body.get("B") if isinstance(body, dict) else None
        return Chunk(chunk, read_body(f"the item {item_id}", raw), gone_of(item), stored_at)

    async def _known_chunks(self, chunks: Sequence[int]) -> list[Chunk]:
        """Chunks as the last look into the outbox has found them, and those that it has not read as they are now."""
        unknown = [chunk for chunk in chunks if chunk not in self._read]
        for first in range(0, len(unknown), MAX_GET):
            part = unknown[first : first + MAX_GET]
            found = await self._table.get(*map(chunk_item_id, part))
            self._read |= {chunk: await self._chunk(chunk, found) for chunk in part}
        return [self._read[chunk] for chunk in chunks]

    async def _note_gone(self, chunk: Chunk, kept: Collection[int]) -> None:
        gone = set(range(len(chunk.lines))) - set(kept)
        if gone == chunk.gone:
            return
        with suppress(ConditionFailedError):  # a successor has delivered the rest
            item_id = chunk_item_id(chunk.number)
            await self._table.update(item_id, "SET gone = :gone", {":gone": numbers(gone)}, "attribute_exists(id)")

    async def _note_progress(self, progress: OutboxItem) -> None:
        values = {":head": number(progress.head), ":deleted": number(progress.deleted)}
        values |= {":generation": number(self._generation)}
        update = "SET head = :head, deleted = :deleted"
        if progress.kept:
            update, values = f"{update}, kept = :kept", values | {":kept": numbers(progress.kept)}
        else:
            update += " REMOVE kept"
        with suppress(ConditionFailedError):  # a successor goes on from what it found, and skips what is gone
            await self._table.update(OUTBOX, update, values, "generation = :generation")
        self._progress = progress
