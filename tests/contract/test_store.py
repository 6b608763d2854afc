"""The cell's Store port: one suite for the fake in memory, for SQLite and for DynamoDB."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cell_worker.store.sqlite import SqliteStore
from cell_worker.store.store import FencedError, Store, StoreError
from tests.support.aio import run
from tests.support.stores import Make, named, on


def test_an_event_and_its_lines_are_there_after_the_commit(make: Make) -> None:
    """The event counts as seen, and its lines wait in their order."""

    async def story(store: Store) -> None:
        assert not await store.seen(named("a"))
        assert await store.commit(named("a"), [b"1\n", b"2\n"])
        assert await store.commit(named("b"), [])
        assert await store.seen(named("a"))
        assert await store.seen(named("b"))
        assert [line for _, line in await store.outbox(10)] == [b"1\n", b"2\n"]
        assert await store.outbox_size() == 2

    on(make, story)


def test_a_second_commit_of_an_event_changes_nothing(make: Make) -> None:
    """The second commit returns False and adds no line."""

    async def story(store: Store) -> None:
        assert await store.commit(named("a"), [b"1\n"])
        assert not await store.commit(named("a"), [b"again\n"])
        assert [line for _, line in await store.outbox(10)] == [b"1\n"]

    on(make, story)


def test_many_commits_at_once_each_get_their_own_answer(make: Make) -> None:
    """When the same event is among them twice, exactly one of the two is new."""

    async def story(store: Store) -> None:
        ids = [f"e{i % 150}" for i in range(300)]
        answers = await asyncio.gather(*(store.commit(named(event), [event.encode()]) for event in ids))
        new = [event for event, answer in zip(ids, answers, strict=True) if answer]
        assert sorted(new) == sorted(set(ids))
        assert sorted(line.decode() for _, line in await store.outbox(1000)) == sorted(set(ids))

    on(make, story)


def test_lines_are_forgotten_up_to_a_number_but_for_those_kept(make: Make) -> None:
    """The sink deletes like this after a call that was refused in part."""

    async def story(store: Store) -> None:
        await store.commit(named("a"), [b"1", b"2", b"3", b"4"])
        numbers = [seq for seq, _ in await store.outbox(3)]
        await store.delete(numbers[-1], keep=[numbers[1]])
        assert [line for _, line in await store.outbox(10)] == [b"2", b"4"]
        assert await store.outbox_size() == 2

    on(make, story)


def test_a_look_into_the_outbox_is_bounded_in_bytes_too(make: Make) -> None:
    """It returns as many lines as fit, but at least one, or a long line would never leave."""

    async def story(store: Store) -> None:
        await store.commit(named("a"), [b"123", b"456", b"789"])
        assert [line for _, line in await store.outbox(10, max_bytes=6)] == [b"123", b"456"]
        assert [line for _, line in await store.outbox(10, max_bytes=1)] == [b"123"]
        assert [line for _, line in await store.outbox(1, max_bytes=6)] == [b"123"]

    on(make, story)


def test_many_look_ups_at_once_each_get_their_own_answer(make: Make) -> None:
    """They share queries. One event is looked up twice, and there are more than one query takes."""

    async def story(store: Store) -> None:
        for event in ("e1", "e5", "e299"):
            await store.commit(named(event), [])
        numbers = [*range(600), 5, 5, 7]
        answers = await asyncio.gather(*(store.seen(named(f"e{number}")) for number in numbers))
        assert [number for number, seen in zip(numbers, answers, strict=True) if seen] == [1, 5, 299, 5, 5]

    on(make, story)


def test_what_is_committed_outlives_the_instance(make: Make) -> None:
    """The next generation knows the events and gets the lines."""

    async def story(store: Store) -> None:
        await store.commit(named("a"), [b"1"])
        successor = make()
        assert await successor.highest_generation() == 1
        await successor.open(2)
        await successor.take()
        assert await successor.seen(named("a"))
        assert await successor.outbox_size() == 1
        await successor.close()

    on(make, story)


def test_an_older_generation_is_refused(make: Make) -> None:
    """A late commit of the older instance changes nothing, and it can neither take the store back nor open it again."""

    async def story(zombie: Store) -> None:
        successor = make()
        await successor.open(2)
        await successor.take()
        for call in (zombie.commit(named("a"), [b"late"]), zombie.take(), zombie.check(), zombie.outbox(10)):
            with pytest.raises(FencedError):
                await call
        assert not await successor.seen(named("a"))
        assert await successor.outbox_size() == 0
        again = make()
        with pytest.raises(FencedError):
            await again.open(1)
        await again.close()
        await successor.close()

    on(make, story)


def test_an_instance_in_standby_disturbs_nobody(make: Make) -> None:
    """The older instance goes on. The newer one gets no lines, though it can write and its generation is known."""

    async def story(older: Store) -> None:
        newer = make()
        await newer.open(2)
        await newer.check()
        assert await older.commit(named("a"), [b"1", b"2"])
        assert await newer.outbox(10) == []
        assert await newer.outbox_size() == 0
        assert await older.highest_generation() == 2
        await older.take()
        await older.check()
        ((first, _), _) = await older.outbox(10)
        await older.delete(first)
        again = make()
        await again.open(1)  # as after a restart of its process
        assert await again.commit(named("b"), [b"3"])
        await newer.take()
        assert [line for _, line in await newer.outbox(10)] == [b"2", b"3"]
        assert await newer.outbox_size() == 2
        for store in (again, newer):
            await store.close()

    on(make, story)


def test_taking_a_store_again_changes_nothing(make: Make) -> None:
    """This happens when the registry admits an instance whose first event has taken the store."""

    async def story(store: Store) -> None:
        await store.commit(named("a"), [b"1"])
        await store.take()
        await store.check()
        assert [line for _, line in await store.outbox(10)] == [b"1"]
        assert await store.outbox_size() == 1

    on(make, story)


def test_a_commit_takes_the_store(make: Make) -> None:
    """Two instances can never both commit, even when nobody has admitted the newer one."""

    async def story(older: Store) -> None:
        newer = make()
        await older.commit(named("a"), [b"1"])
        await newer.open(2)
        assert await newer.commit(named("b"), [b"2"])
        with pytest.raises(FencedError):
            await older.commit(named("c"), [])
        assert [line for _, line in await newer.outbox(10)] == [b"1", b"2"]
        assert await newer.outbox_size() == 2
        await newer.close()

    on(make, story)


def test_a_waiting_commit_that_is_cancelled_disturbs_no_other(tmp_path: Path) -> None:
    """Its handler was cancelled; the other commits of the group get their answers."""

    async def main() -> None:
        store = SqliteStore(tmp_path / "store.db")
        await store.open(1)
        tasks = [asyncio.create_task(store.commit(named(f"e{i}"), [b"x"])) for i in range(20)]
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop: they have begun
        tasks[7].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[7], asyncio.CancelledError)
        assert [answer for i, answer in enumerate(answers) if i != 7] == [True] * 19
        await store.close()

    run(main())


def test_a_full_disk_writes_nothing_in_part_and_works_again_when_there_is_room(tmp_path: Path) -> None:
    """The error names the path and the event is not seen; with room again it can be committed."""
    path = tmp_path / "store.db"

    async def main() -> None:
        store = SqliteStore(path)
        await store.open(1)
        await store._do(lambda db: db.execute("PRAGMA max_page_count = 20"))
        with pytest.raises(StoreError, match=r"store\.db.*full"):
            await store.commit(named("big"), [b"x" * 500_000])
        assert not await store.seen(named("big"))
        assert await store.outbox_size() == 0
        assert await store.highest_generation() == 1
        await store._do(lambda db: db.execute("PRAGMA max_page_count = 100000"))
        assert await store.commit(named("big"), [b"x" * 500_000])
        await store.close()

    run(main())


def garbage(path: Path) -> None:
    """Write what is no database."""
    path.write_bytes(b"this is no database at all, " * 100)


def cut_off(path: Path) -> None:
    """Write the first pages of a database."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000))")
    path.write_bytes(path.read_bytes()[:5000])


def foreign(path: Path) -> None:
    """Write a database that has a table with a name of the store's."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE outbox (note TEXT)")


def directory(path: Path) -> None:
    """Put something in the place of the file that can't be opened."""
    path.mkdir()


@pytest.mark.parametrize("spoil", [garbage, cut_off, foreign, directory])
def test_a_file_that_can_not_be_used_is_named_with_the_page_that_helps(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """The store says so when it is opened, and not with every commit afterwards."""
    path = tmp_path / "store.db"
    spoil(path)

    async def main() -> None:
        store = SqliteStore(path)
        with pytest.raises(StoreError, match=f"{path}: .*repair-a-store.md"):
            await store.open(1)
        await store.close()

    run(main())


def test_a_store_that_has_been_closed_refuses_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    """A handler that goes on after the worker's end gets an error. A store that was never open can be closed."""

    async def main() -> None:
        store = SqliteStore(tmp_path / "store.db")
        await store.open(1)
        await store.close()
        for call in (store.commit(named("a"), []), store.commit(named("b"), []), store.seen(named("a"))):
            with pytest.raises(StoreError, match=r"store\.db"):
                await call
        await SqliteStore(tmp_path / "never" / "opened.db").close()
        assert not (tmp_path / "never").exists()

    run(main())


def test_a_check_in_standby_really_writes(tmp_path: Path) -> None:
    """Each check adds a frame to the write-ahead log, and fails on a volume that takes no writes."""
    path = tmp_path / "store.db"

    async def main() -> None:
        older, newer = SqliteStore(path), SqliteStore(path)
        await older.open(1)
        await older.take()
        await newer.open(2)
        for _ in range(3):
            before = path.with_name("store.db-wal").stat().st_size
            await newer.check()
            assert path.with_name("store.db-wal").stat().st_size > before
        await newer._do(lambda db: db.execute("PRAGMA query_only = 1"))
        with pytest.raises(StoreError, match="readonly"):
            await newer.check()
        assert await older.commit(named("a"), [])
        await older.close()
        await newer.close()

    run(main())


def test_the_generation_of_a_store_of_an_older_version_is_known(tmp_path: Path) -> None:
    """Such a store only has the fence."""
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE fence (id INTEGER PRIMARY KEY CHECK (id = 1), generation INTEGER NOT NULL)")
        db.execute("INSERT INTO fence VALUES (1, 7)")

    async def main() -> None:
        store = SqliteStore(path)
        assert await store.highest_generation() == 7
        await store.open(8)
        assert await store.highest_generation() == 8
        await store.close()

    run(main())


def test_another_process_of_a_higher_generation_fences_this_one(tmp_path: Path) -> None:
    """The fence is in the file: a commit or a check after it is refused."""
    path = tmp_path / "store.db"
    other = "import asyncio, pathlib, sys; from cell_worker.store.sqlite import SqliteStore"
    other += "; store = SqliteStore(pathlib.Path(sys.argv[1]))"
    other += "; run = asyncio.new_event_loop().run_until_complete; run(store.open(2)); run(store.take())"

    async def main() -> None:
        store = SqliteStore(path)
        await store.open(1)
        await store.commit(named("a"), [])
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", other, str(path)], check=True, timeout=30)
        with pytest.raises(FencedError, match="generation 2 has the cell's store; this is 1"):
            await store.commit(named("b"), [])
        with pytest.raises(FencedError):
            await store.check()
        assert await store.highest_generation() == 2
        await store.close()

    run(main())


def test_events_that_cannot_come_again_are_forgotten(tmp_path: Path) -> None:
    """The store forgets events after 15 days, and keeps younger ones."""
    path = tmp_path / "store.db"

    async def main() -> None:
        store = SqliteStore(path)
        await store.open(1)
        for event in ("old", "young"):
            await store.commit(named(event), [])
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("UPDATE done SET at_ms = at_ms - 16 * 24 * 3600 * 1000 WHERE identity = '1:k/old'")
        assert not await store.prune()
        assert not await store.seen(named("old"))
        assert await store.seen(named("young"))
        await store.close()

    run(main())


def test_a_reopened_store_goes_on(tmp_path: Path) -> None:
    """Commits under way still succeed while the file is reopened, as at the component's restart."""

    async def main() -> None:
        store = SqliteStore(tmp_path / "store.db")
        await store.open(1)
        tasks = [asyncio.create_task(store.commit(named(f"e{i}"), [b"x"])) for i in range(50)]
        await store.reopen()
        assert await asyncio.gather(*tasks) == [True] * 50
        assert await store.outbox_size() == 50
        await store.close()

    run(main())
