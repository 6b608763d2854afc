"""A table is followed without a gap: through shards that end, a day without a reader, a restored table, a rival."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import isnan

import pytest

from cell_worker import clock
from cell_worker.api import Change, ItemKey, Put
from cell_worker.tables.memory import MemoryTable
from cell_worker.tables.reader import MAX_CONFLICTS, READER, FollowError, TableReader
from cell_worker.tables.shards import Places, Records, Shard, StreamShards, readable, why_gap
from cell_worker.tables.stream import TrimmedError
from tests.support.runtime_world import in_loop, turns

DAY_MS = 24 * 3600 * 1000


class Follower:
    """Notes what is applied, as the values of items by their partition keys."""

    def __init__(self, table: MemoryTable) -> None:
        self.table = table
        self.applied: list[tuple[str, object]] = []
        self.fails = self.hangs = False
        self.reader = TableReader(table, self._apply, "stream")

    async def put(self, pk: str, value: int) -> None:
        """Write an item, or another value into it."""
        key = ItemKey(pk, "x")
        was = (await self.table.get(key)).get(key)
        assert await self.table.write(Put(key.of(value=value), was))

    async def catch_up(self) -> list[tuple[str, object]]:
        """Read all there is, and return what was applied since the last time."""
        while await self.reader.turn():
            pass
        applied, self.applied = self.applied, []
        return applied

    def successor(self) -> Follower:
        """Make the follower of the next instance."""
        return Follower(self.table)

    async def _apply(self, changes: Sequence[Change]) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise ValueError("can't")
        self.applied += [(str(each.new["PK"]), each.new.get("value")) for each in changes if each.new is not None]


class Haunted(MemoryTable):
    """A table whose stream lists shards that it has deleted."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.gone: set[str] = set()

    async def read(self, shard_id: str, after: str) -> Records:
        if shard_id in self.gone:
            raise TrimmedError(shard_id)
        return await super().read(shard_id, after)


@in_loop
async def test_a_reader_goes_on_where_its_predecessor_was() -> None:
    """What was applied comes no more, and a reader's own places never come."""
    follower = Follower(MemoryTable("t"))
    await follower.put("a", 1)
    assert set(await follower.catch_up()) == {("a", 1)}
    await follower.put("a", 2)
    follower = follower.successor()
    assert await follower.catch_up() == [("a", 2)]
    assert await follower.successor().catch_up() == []


@in_loop
async def test_what_was_not_applied_comes_again() -> None:
    """A failure of the workload loses nothing."""
    follower = Follower(MemoryTable("t"))
    await follower.catch_up()
    await follower.put("a", 1)
    follower.fails = True
    with pytest.raises(ValueError, match="can't"):
        await follower.reader.turn()
    follower.fails = False
    assert await follower.catch_up() == [("a", 1)]


@in_loop
async def test_changes_of_a_key_keep_their_order_through_shards_that_end() -> None:
    """A child is read only when its parent has been read to its end."""
    follower = Follower(MemoryTable("t"))
    await follower.catch_up()
    for value in range(1, 9):
        for pk in "abcd":
            await follower.put(pk, value)
        if value % 2:
            follower.table.split()
    applied = await follower.catch_up()
    for pk in "abcd":
        assert [value for key, value in applied if key == pk] == list(range(1, 9))
    assert await follower.successor().catch_up() == []


@pytest.mark.parametrize("how", ["a day", "restored", "trimmed"])
@in_loop
async def test_after_a_gap_all_items_come_as_new_ones(how: str) -> None:
    """Nobody knows which changes are missing."""
    follower = Follower(MemoryTable("t"))
    await follower.catch_up()
    await follower.put("a", 1)
    assert await follower.catch_up() == [("a", 1)]
    await follower.put("b", 2)
    follower.table.trim()
    with pytest.MonkeyPatch.context() as patch:
        if how == "a day":
            now = clock.time_ms() + DAY_MS
            patch.setattr(clock, "time_ms", lambda: now)
        if how == "restored":
            follower.table.stream_label = "2"
        assert set(await follower.successor().catch_up()) == {("a", 1), ("b", 2)}
        assert await follower.successor().catch_up() == []


@in_loop
async def test_two_that_follow_one_table_notice_each_other() -> None:
    """The later one's places win, and the other one begins anew from them."""
    first = Follower(MemoryTable("t"))
    await first.catch_up()
    await first.put("a", 1)
    second = first.successor()
    assert await second.catch_up() == [("a", 1)]
    assert not await first.reader.turn()
    await first.put("a", 2)
    first.applied = []
    assert await first.catch_up() == [("a", 2)]


@in_loop
async def test_a_reader_that_never_comes_first_says_so() -> None:
    """Then something is wrong: no instance takes over for so long."""
    follower = Follower(MemoryTable("t"))
    await follower.catch_up()
    key = ItemKey(READER, "stream")
    for value in range(1, MAX_CONFLICTS):
        await _overtaken(follower, key, value)
        assert not await follower.reader.turn()
    await _overtaken(follower, key, MAX_CONFLICTS)
    with pytest.raises(FollowError, match="another instance follows t too"):
        await follower.reader.turn()


@in_loop
async def test_a_reader_that_is_stuck_is_not_healthy() -> None:
    """As when what it applies waits for something that never comes. A restart cancels it."""
    follower = Follower(MemoryTable("t"))
    await follower.put("a", 1)
    follower.hangs = True
    stuck = asyncio.create_task(follower.reader.turn())
    await turns()
    assert "0 changes applied" in await follower.reader.check()
    with pytest.MonkeyPatch.context() as patch:
        now = clock.monotonic() + 61
        patch.setattr(clock, "monotonic", lambda: now)
        with pytest.raises(FollowError, match="has been applying changes of t for 61 s"):
            await follower.reader.check()
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)
    follower.hangs = False
    assert set(await follower.catch_up()) == {("a", 1)}


@in_loop
async def test_a_reader_says_how_far_it_is_behind() -> None:
    """It is so while changes wait, whether it is slow or fails; in standby nobody knows."""
    follower = Follower(MemoryTable("t"))
    assert isnan(follower.reader.behind_s())
    now = 1000.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "monotonic", lambda: now)
        running = asyncio.create_task(follower.reader.run())
        await turns()
        now += 3
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert follower.reader.behind_s() == 3
        assert "behind" not in await follower.reader.check()
        follower.hangs = True
        await follower.put("a", 1)
        running = asyncio.create_task(follower.reader.run())
        await turns()
        now += 40
        assert "43 s behind" in await follower.reader.check()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@in_loop
async def test_a_shard_that_is_listed_and_gone_is_passed_over() -> None:
    """DynamoDB lists one for a while after it has deleted it. All items come once more, and its children are read."""
    table = Haunted("t")
    follower = Follower(table)
    await follower.put("a", 1)
    table.split()
    table.split()
    table.gone |= {"shard-1", "shard-2", "shard-3"}
    assert set(await follower.catch_up()) == {("a", 1)}
    await follower.put("a", 2)
    assert await follower.catch_up() == [("a", 2)]
    assert await follower.successor().catch_up() == []


async def _overtaken(follower: Follower, key: ItemKey, value: int) -> None:
    """Have another reader remember other places between this one's look at them and its own."""
    await follower.put("a", value)
    await follower.reader._where()
    was = follower.table.items[key]
    assert await follower.table.write(Put({**was, "value": value}, was))


@in_loop
async def test_damaged_places_are_no_end() -> None:
    """All items come again then."""
    follower = Follower(MemoryTable("t"))
    await follower.put("a", 1)
    await follower.catch_up()
    key = ItemKey(READER, "stream")
    assert await follower.table.write(Put(key.of(places="{"), follower.table.items[key]))
    assert ("a", 1) in await follower.successor().catch_up()


@in_loop
async def test_a_table_in_which_nothing_changes_is_not_written_each_turn() -> None:
    """A reader's own places must not have it write them again; once an hour it says that it is there."""
    follower = Follower(MemoryTable("t"))
    await follower.catch_up()
    written = follower.table.writes
    for _ in range(5):
        await follower.catch_up()
    assert follower.table.writes == written
    with pytest.MonkeyPatch.context() as patch:
        now = clock.time_ms() + DAY_MS // 20
        patch.setattr(clock, "time_ms", lambda: now)
        await follower.catch_up()
        await follower.catch_up()
    assert follower.table.writes == written + 1


def test_shards_are_read_parents_first() -> None:
    """A parent that is gone was read long ago, or there is a gap, which `why_gap` tells."""
    shards = StreamShards("s", [Shard("c", "b"), Shard("b", "a"), Shard("d", "gone")])
    begun = Places("s", 0)
    assert readable(shards, begun) == ["b", "d"]
    ended = begun.at("b", Records((), "9", ended=True))
    assert readable(shards, ended) == ["c", "d"]
    assert ended.at("d", Records((), "9", ended=False)).after == {"d": "9"}
    assert ended.without_those_gone(StreamShards("s", [Shard("d", None)])).ended == []
    assert why_gap(shards, begun, 0) is None
    assert why_gap(shards, Places("s", 0, {"x": "1"}), 0) == "the shard x is gone, and was not read to its end"
