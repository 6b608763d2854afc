"""The cell's Store: one suite for the fake in memory and for SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cell_worker.store import FencedError, SqliteStore, Store, StoreError
from tests.aio import run
from tests.memory_store import MemoryStore, Volume

Make = Callable[[], Store]
"""Another instance's store on the same volume."""


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Stores on one volume."""
    volume = Volume()
    return lambda: MemoryStore(volume) if request.param == "memory" else SqliteStore(tmp_path / "cell" / "store.db")


def on(make: Make, story: Callable[[Store], Awaitable[None]]) -> None:
    """Run a story on a store that generation 1 has opened."""

    async def main() -> None:
        store = make()
        await store.open(1)
        await story(store)
        await store.close()

    run(main())


def test_an_event_and_its_lines_are_there_after_the_commit(make: Make) -> None:
    """Seen, and the lines wait in order."""

    async def story(store: Store) -> None:
        assert not await store.seen("a")
        assert await store.commit("a", [b"1\n", b"2\n"])
        assert await store.commit("b", [])
        assert await store.seen("a")
        assert await store.seen("b")
        assert [line for _, line in await store.outbox(10)] == [b"1\n", b"2\n"]
        assert await store.outbox_size() == 2

    on(make, story)


def test_a_second_commit_of_an_event_changes_nothing(make: Make) -> None:
    """It says False and adds no line."""

    async def story(store: Store) -> None:
        assert await store.commit("a", [b"1\n"])
        assert not await store.commit("a", [b"again\n"])
        assert [line for _, line in await store.outbox(10)] == [b"1\n"]

    on(make, story)


def test_many_commits_at_once_each_get_their_own_answer(make: Make) -> None:
    """Also when the same event is among them twice: exactly one is new."""

    async def story(store: Store) -> None:
        ids = [f"e{i % 150}" for i in range(300)]
        answers = await asyncio.gather(*(store.commit(event, [event.encode()]) for event in ids))
        new = [event for event, answer in zip(ids, answers, strict=True) if answer]
        assert sorted(new) == sorted(set(ids))
        assert sorted(line.decode() for _, line in await store.outbox(1000)) == sorted(set(ids))

    on(make, story)


def test_lines_are_forgotten_up_to_a_number_but_for_those_kept(make: Make) -> None:
    """As after a put that was refused in part."""

    async def story(store: Store) -> None:
        await store.commit("a", [b"1", b"2", b"3", b"4"])
        numbers = [seq for seq, _ in await store.outbox(3)]
        await store.delete(numbers[-1], keep=[numbers[1]])
        assert [line for _, line in await store.outbox(10)] == [b"2", b"4"]
        assert await store.outbox_size() == 2

    on(make, story)


def test_what_is_committed_outlives_the_instance(make: Make) -> None:
    """The next generation knows the events and has the lines."""

    async def story(store: Store) -> None:
        await store.commit("a", [b"1"])
        successor = make()
        assert await successor.highest_generation() == 1
        await successor.open(2)
        assert await successor.seen("a")
        assert await successor.outbox_size() == 1
        await successor.close()

    on(make, story)


def test_an_older_generation_is_refused(make: Make) -> None:
    """A woken zombie's late commit changes nothing, and it can't open the store again."""

    async def story(zombie: Store) -> None:
        successor = make()
        await successor.open(2)
        with pytest.raises(FencedError):
            await zombie.commit("a", [b"late"])
        assert not await successor.seen("a")
        assert await successor.outbox_size() == 0
        again = make()
        with pytest.raises(FencedError):
            await again.open(1)
        await again.close()
        await successor.close()

    on(make, story)


def test_a_waiting_commit_that_is_cancelled_disturbs_no_other(tmp_path: Path) -> None:
    """Its handler was cancelled; the others of the group get their answers."""

    async def main() -> None:
        store = SqliteStore(tmp_path / "store.db")
        await store.open(1)
        tasks = [asyncio.create_task(store.commit(f"e{i}", [b"x"])) for i in range(20)]
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop: they have begun
        tasks[7].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[7], asyncio.CancelledError)
        assert [answer for i, answer in enumerate(answers) if i != 7] == [True] * 19
        await store.close()

    run(main())


def test_a_full_disk_writes_nothing_by_halves_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """StoreError with the path; the event isn't seen; afterwards it can be committed."""
    path = tmp_path / "store.db"

    async def main() -> None:
        store = SqliteStore(path)
        await store.open(1)
        await store._do(lambda db: db.execute("PRAGMA max_page_count = 20"))
        with pytest.raises(StoreError, match=r"store\.db.*full"):
            await store.commit("big", [b"x" * 500_000])
        assert not await store.seen("big")
        assert await store.outbox_size() == 0
        await store._do(lambda db: db.execute("PRAGMA max_page_count = 100000"))
        assert await store.commit("big", [b"x" * 500_000])
        await store.close()

    run(main())


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    """Not a traceback of SQLite."""
    path = tmp_path / "store.db"
    path.write_bytes(b"this is no database at all, " * 100)

    async def main() -> None:
        store = SqliteStore(path)
        with pytest.raises(StoreError, match=str(path)):
            await store.open(1)

    run(main())


def test_events_that_cannot_come_again_are_forgotten(tmp_path: Path) -> None:
    """After 15 days; younger ones stay."""
    path = tmp_path / "store.db"

    async def main() -> None:
        store = SqliteStore(path)
        await store.open(1)
        for event in ("old", "young"):
            await store.commit(event, [])
        with sqlite3.connect(path) as db:
            db.execute("UPDATE processed SET at_ms = at_ms - 16 * 24 * 3600 * 1000 WHERE event_id = 'old'")
        db.close()
        assert not await store.prune()
        assert not await store.seen("old")
        assert await store.seen("young")
        await store.close()

    run(main())


def test_a_store_reopened_goes_on(tmp_path: Path) -> None:
    """As the component's restart does, with commits under way."""

    async def main() -> None:
        store = SqliteStore(tmp_path / "store.db")
        await store.open(1)
        tasks = [asyncio.create_task(store.commit(f"e{i}", [b"x"])) for i in range(50)]
        await store.reopen()
        assert await asyncio.gather(*tasks) == [True] * 50
        assert await store.outbox_size() == 50
        await store.close()

    run(main())
