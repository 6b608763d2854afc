"""The port of a cell's own tables, with their streams: one suite for the one in memory and for DynamoDB."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack

import pytest

from cell_worker import aws
from cell_worker.api import Change, ItemKey, Put, TableItem
from cell_worker.tables.dynamodb import DynamoTable, TableError
from cell_worker.tables.memory import MemoryTable
from cell_worker.tables.reader import TableReader
from cell_worker.tables.stream import FollowedTable, TrimmedError
from router.adapters.aws.resources import create_own_table
from router.adapters.aws.session import AwsConfig, open_client
from tests.support.aio import run
from tests.support.stores import REGION, SESSION

A = ItemKey("acme#mug", "acme#mug")
B = ItemKey("ann-ORDER-1", "0001")
Story = Callable[[FollowedTable], Awaitable[None]]


@pytest.fixture(params=["memory", "dynamodb"])
def on(request: pytest.FixtureRequest) -> Iterator[Callable[[Story], None]]:
    """Runs a story on a table of its own, of one kind."""
    if request.param == "memory":
        yield lambda story: run(_told(MemoryTable("t"), story))
        return
    endpoint = request.getfixturevalue("dynamodb_endpoint")
    name = f"own-{uuid.uuid4().hex[:12]}"
    with pytest.MonkeyPatch().context() as patch:
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(variable, "test")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setattr(aws, "aws_session", lambda: SESSION)
        asyncio.run(_make(endpoint, name))
        yield lambda story: run(_told(DynamoTable(name), story))


async def _make(endpoint: str, name: str) -> None:
    async with AsyncExitStack() as stack:
        dynamodb = await open_client(stack, AwsConfig(REGION, endpoint), "dynamodb")
        await create_own_table(dynamodb, name, {"cellrouter": "test"})


async def _told(table: FollowedTable, story: Story) -> None:
    try:
        await story(table)
    finally:
        await table.close()


def test_an_item_is_read_as_it_was_written(on: Callable[[Story], None]) -> None:
    """Texts, empty ones too, and whole numbers up to 2^53. What isn't there is left out."""

    async def story(table: FollowedTable) -> None:
        item = A.of(title="Mug, größer", empty="", stock=0, large=2**53, below=-7)
        assert await table.write(Put(item))
        assert await table.get(A, B) == {A: item}

    on(story)


def test_a_write_is_done_if_all_is_as_it_was_and_else_not_at_all(on: Callable[[Story], None]) -> None:
    """Also for an item that is to be new, or that has an attribute more."""

    async def story(table: FollowedTable) -> None:
        first, second = A.of(stock=1), A.of(stock=2, sold=1)
        assert await table.write(Put(first))
        assert not await table.write(Put(B.of(x=1)), Put(first))
        assert await table.get(B) == {}
        assert await table.write(Put(second, first), Put(B.of(x=1)))
        assert not await table.write(Put(A.of(stock=3, sold=9), A.of(stock=2)))  # `sold` was not read
        assert not await table.write(Put(A.of(stock=3), first))
        assert not await table.write(Put(ItemKey("c", "c").of(x=2), ItemKey("c", "c").of(x=1)))
        assert await table.get(A) == {A: second}

    on(story)


def test_of_many_that_write_at_once_one_succeeds(on: Callable[[Story], None]) -> None:
    """The others are told that it is not as it was."""

    async def story(table: FollowedTable) -> None:
        assert await table.write(Put(A.of(stock=0)))
        written = await asyncio.gather(*(table.write(Put(A.of(stock=n), A.of(stock=0))) for n in range(1, 6)))
        assert sum(written) == 1
        assert (await table.get(A))[A]["stock"] == written.index(True) + 1

    on(story)


def test_as_many_items_as_a_transaction_takes(on: Callable[[Story], None]) -> None:
    """They are read in one call too, and found by a scan. One more, or the same twice, is a fault of the workload."""

    async def story(table: FollowedTable) -> None:
        items = [ItemKey(f"p{n}", "x").of(n=n, text="x" * 1000) for n in range(100)]
        assert await table.write(*map(Put, items))
        keys = [ItemKey(f"p{n}", "x") for n in range(100)]
        assert len(await table.get(*keys)) == 100
        scanned: list[TableItem] = [item async for page in table.scan() for item in page]
        assert sorted(int(item["n"]) for item in scanned) == list(range(100))
        for wrong in (items[:1] * 2, [*items, A.of()]):
            with pytest.raises(ValueError, match="at most 100 different ones"):
                await table.write(*map(Put, wrong))

    on(story)


def test_the_stream_tells_old_and_new_of_each_change(on: Callable[[Story], None]) -> None:
    """In the order of a key, and again from any place that was told."""

    async def story(table: FollowedTable) -> None:
        for stock in range(3):
            assert await table.write(Put(A.of(stock=stock), A.of(stock=stock - 1) if stock else None))
        listed = await table.shards()
        assert listed.stream
        (shard,) = [shard.shard_id for shard in listed.shards]
        records = await table.read(shard, "")
        expected = [Change(None, A.of(stock=0)), Change(A.of(stock=0), A.of(stock=1))]
        assert list(records.changes) == [*expected, Change(A.of(stock=1), A.of(stock=2))]
        assert (records.ended, list(records.unreadable)) == (False, [])
        again = await table.read(shard, records.last)
        assert (list(again.changes), again.last) == ([], records.last)
        assert await table.write(Put(B.of(x=1)))
        assert [change.new for change in (await table.read(shard, records.last)).changes] == [B.of(x=1)]
        await table.restart()
        assert [change.new for change in (await table.read(shard, records.last)).changes] == [B.of(x=1)]

    on(story)


def test_a_reader_follows_and_goes_on(on: Callable[[Story], None]) -> None:
    """The next one has only what came after."""

    async def story(table: FollowedTable) -> None:
        applied: list[TableItem | None] = []

        async def apply(changes: Sequence[Change]) -> None:
            applied.extend(change.new for change in changes)

        async def catch_up() -> list[TableItem | None]:
            reader = TableReader(table, apply, "stream")
            applied.clear()
            while await reader.turn():
                pass
            return applied

        assert await table.write(Put(A.of(stock=1)))
        assert A.of(stock=1) in await catch_up()
        assert await table.write(Put(A.of(stock=2), A.of(stock=1)))
        assert await catch_up() == [A.of(stock=2)]
        assert await catch_up() == []

    on(story)


def test_a_place_that_the_stream_does_not_know_is_trimmed() -> None:
    """As one is that lies more than a day back."""
    table = MemoryTable("t")

    async def story(_: FollowedTable) -> None:
        assert await table.write(Put(A.of()))
        table.trim()
        with pytest.raises(TrimmedError):
            await table.read("shard-1", "0")

    run(_told(table, story))


def test_a_table_that_is_not_there_is_said_so(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what makes it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("dynamodb_endpoint"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)

    async def story(table: FollowedTable) -> None:
        for call in (table.get(A), table.write(Put(A.of())), table.shards()):
            with pytest.raises(TableError, match=r"cells\.table"):
                await call

    run(_told(DynamoTable("nobody-has-made-it"), story))
