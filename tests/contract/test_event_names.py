"""By what a store knows an event: its partition key and its id, and what an older version left of ids alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cell_worker import clock
from cell_worker.contract.protocol import EventName
from cell_worker.store.dynamodb import DynamoStore
from cell_worker.store.sqlite import SqliteStore
from cell_worker.store.store import REMEMBER_S, Done, Store
from cell_worker.store.table_items import MAX_ID_BYTES, done_item_id
from tests.support.aio import run
from tests.support.stores import Make, lines_of, named, on
from tests.support.strict_dynamodb import StrictDynamo

LONG = "i" * 3000
TRICKY = [
    *(named("1", "a"), named("1", "b"), named("a", "1"), named("1:a/1", "1"), named("1", "1:a/1")),
    *(named("b/c", "a"), named("c", "a/b"), named("c", "1:a/b"), named("/1", "a"), named("1", "a/")),
    *(named(LONG, "a"), named(LONG, "b"), named(f"{LONG}x", "a"), named("é", "a"), named("\0", "a")),
]
"""Events that would be taken for one another if key and id were only put side by side."""
OLD_TABLE = """
CREATE TABLE processed (event_id TEXT PRIMARY KEY, generation INTEGER NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX processed_at ON processed (at_ms);
"""
"""What the version before this one made. It is not to be changed with ours."""


def test_the_same_id_of_two_keys_is_two_events(make: Make) -> None:
    """None of the tricky events is seen before it is committed, each is new, and each is seen afterwards."""

    async def story(store: Store) -> None:
        for event in TRICKY:
            assert await store.seen(event) is None
            assert await store.commit(event, [event.event_id[:20].encode()])
        assert not any(await asyncio.gather(*(store.commit(event, []) for event in TRICKY)))
        assert all(await asyncio.gather(*(store.seen(event) for event in TRICKY)))
        assert len(await lines_of(store)) == len(TRICKY)

    on(make, story)


def test_the_digest_of_a_body_is_remembered(make: Make) -> None:
    """It is that of the first commit, also for an instance that comes later."""

    async def story(store: Store) -> None:
        assert await store.commit(named("a"), [], b"12345678")
        assert not await store.commit(named("a"), [], b"other")
        assert await store.seen(named("a")) == Done(b"12345678")
        successor = make()
        await successor.open(2)
        assert await successor.seen(named("a")) == Done(b"12345678")
        await successor.close()

    on(make, story)


pairs = st.tuples(st.text("1:/a\0é", max_size=4), st.text("1:/a\0é", max_size=4))


@given(pairs, pairs)
@example(("a", "b/c"), ("a/b", "c"))
@example(("1:a/", "b"), ("1", "a/b"))
def test_no_two_events_have_the_same_identity(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Whatever key and id hold: colons, slashes, digits, nothing."""
    assert (EventName(*one).identity == EventName(*other).identity) == (one == other)


def test_a_long_identity_has_its_hash_for_an_item() -> None:
    """DynamoDB takes no key above 2048 bytes, and a hash is no other event's identity."""
    ids = [done_item_id(event) for event in TRICKY]
    assert len(set(ids)) == len(ids)
    assert max(len(item_id.encode()) for item_id in ids) <= MAX_ID_BYTES + len("done/")
    assert all(one != other for one, other in combinations(ids, 2))


def old_file(path: Path, age_s: float, *ids: str) -> None:
    """Make the file as the version before this one has left it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(OLD_TABLE)
        rows = [(event_id, 1, round(clock.time_ms() - 1000 * age_s)) for event_id in ids]
        db.executemany("INSERT INTO processed VALUES (?, ?, ?)", rows)


def test_a_file_of_an_older_version_is_read_by_its_ids(tmp_path: Path) -> None:
    """An event that is done there stays done, whatever its key. What is committed now is known by its key too."""
    path = tmp_path / "store.db"
    old_file(path, 60, "old", "1:k/new")

    async def story(store: SqliteStore) -> None:
        assert await store.seen(named("old")) == await store.seen(named("old", "other key")) == Done()
        assert await store.seen(named("new")) is None
        assert await store.commit(named("new"), [])
        assert await store.seen(named("new", "other key")) is None
        assert not await store.prune()
        assert await store.seen(named("old"))

    on(lambda: SqliteStore(path), story)


def test_the_table_of_an_older_version_goes_when_its_last_row_is_forgotten(tmp_path: Path) -> None:
    """Fifteen days after the upgrade nothing of it is left, and nothing is looked for in it."""
    path = tmp_path / "store.db"
    old_file(path, REMEMBER_S + 1, *(f"e{number}" for number in range(501)))

    async def story(store: SqliteStore) -> None:
        assert await store.prune()
        assert not await store.prune()
        assert await store.seen(named("e1")) is None

    on(lambda: SqliteStore(path), story)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT COUNT(*) FROM sqlite_master WHERE name LIKE 'processed%'").fetchone() == (0,)


def old_table(items: dict[str, dict[str, object]], generation: int, *ids: str) -> None:
    """Write into the table what the version before this one writes when it takes the store and commits."""
    items["fence"] = {**items.get("fence", {"id": {"S": "fence"}}), "generation": {"N": str(generation)}}
    items["fence"] |= {"tail": {"N": "0"}, "nonce": {"S": "n"}, "added": {"N": "0"}}
    expires = {"N": str(clock.time_ms() // 1000 + REMEMBER_S)}
    for event_id in ids:
        items[f"event/{event_id}"] = {"id": {"S": f"event/{event_id}"}, "generation": {"N": "1"}, "expires": expires}


async def taken(make: Callable[[], DynamoStore], generation: int) -> DynamoStore:
    """Make a store that this generation has taken."""
    store = make()
    await store.open(generation)
    await store.take()
    return store


def test_a_table_of_an_older_version_is_read_by_its_ids(
    server: tuple[StrictDynamo, Callable[[], DynamoStore]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is after each time that an older version had it last, for fifteen days, also by later instances."""
    dynamo, make = server

    async def story() -> None:
        old_table(dynamo.items, 1, "old", "1:k/new")
        store = await taken(make, 2)
        assert await store.seen(named("old")) == await store.seen(named("old", "other key")) == Done()
        assert await store.seen(named("new")) is None
        assert await store.commit(named("new"), [])
        assert await store.seen(named("new", "other key")) is None
        await store.close()
        store = await taken(make, 3)
        assert await store.seen(named("old"))
        await store.close()
        now_ms = clock.time_ms() + 1000 * (REMEMBER_S - 60)
        monkeypatch.setattr(clock, "time_ms", lambda: now_ms)
        old_table(dynamo.items, 4, "after a rollback")
        store = await taken(make, 5)
        monkeypatch.setattr(clock, "time_ms", lambda: now_ms + 120_000)
        assert await store.seen(named("old")) is None
        assert await store.seen(named("after a rollback"))
        await store.close()

    run(story())


def test_a_table_without_a_past_is_read_once_for_an_event(
    server: tuple[StrictDynamo, Callable[[], DynamoStore]],
) -> None:
    """Nothing is looked for by its id alone in a new table, nor by the instances after the first."""
    dynamo, make = server

    async def story() -> None:
        for generation in (1, 2, 3):
            store = await taken(make, generation)
            dynamo.told.read_units = 0
            assert await store.seen(named("a")) is None
            assert dynamo.told.read_units == 1
            await store.close()

    run(story())
