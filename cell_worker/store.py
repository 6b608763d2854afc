"""The cell's own store, on its volume: which events are done, and the lines they emitted, in one transaction.

Guarantees: an event's id and its lines are written together or not at all; no id is written twice; once `commit` has
returned, both survive a crash of the process and of the machine; after an instance of a higher generation has opened
the store, no commit of a lower one succeeds.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

from cell_worker import clock

T = TypeVar("T")

REMEMBER_MS: Final = 15 * 24 * 3600 * 1000  # an SQS message lives 14 days at most
PRUNE_ROWS: Final = 500  # at a time: no commit waits long for it
MAX_GROUP: Final = 256  # commits in one transaction

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS processed (event_id TEXT PRIMARY KEY, generation INTEGER NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS processed_at ON processed (at_ms);
CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, line BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS fence (id INTEGER PRIMARY KEY CHECK (id = 1), generation INTEGER NOT NULL);
"""  # noqa: E501 - SQL reads best a table a line


class StoreError(Exception):
    """The store can't do it now: disk full, I/O error. Nothing was written."""


class FencedError(StoreError):
    """An instance of a higher generation has the store."""


class Store(Protocol):
    """What the runtime needs of a store."""

    async def open(self, generation: int) -> None:
        """Take the store for this generation. Raises FencedError when a higher one has it."""
        ...

    async def highest_generation(self) -> int:
        """The highest generation that ever opened it; 0 for none."""
        ...

    async def seen(self, event_id: str) -> bool:
        """Whether the event is done."""
        ...

    async def commit(self, event_id: str, lines: Sequence[bytes]) -> bool:
        """Write the event and its lines; False when it was done already. Raises StoreError, FencedError."""
        ...

    async def outbox(self, limit: int) -> list[tuple[int, bytes]]:
        """The oldest lines, with their numbers."""
        ...

    async def delete(self, last_seq: int, keep: Sequence[int] = ()) -> None:
        """Forget the lines up to and including `last_seq`, but not those in `keep`."""
        ...

    async def outbox_size(self) -> int:
        """How many lines wait."""
        ...

    async def close(self) -> None:
        """Release it."""
        ...


class SqliteStore:
    """Store in one SQLite file. Commits that arrive while one is on its way to the disk share the next transaction."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._generation = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._db: sqlite3.Connection | None = None
        self._waiting: list[tuple[str, Sequence[bytes], asyncio.Future[bool]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._lines = 0

    async def open(self, generation: int) -> None:
        """Raise the fence."""
        self._generation = generation
        await self._do(lambda db: _raise_fence(db, generation))
        self._lines = await self._do(lambda db: _one(db, "SELECT COUNT(*) FROM outbox"))

    async def highest_generation(self) -> int:
        """From the fence."""
        return await self._do(_fence)

    async def seen(self, event_id: str) -> bool:
        """One look-up by primary key."""
        query = "SELECT COUNT(*) FROM processed WHERE event_id = ?"
        return bool(await self._do(lambda db: _one(db, query, event_id)))

    async def commit(self, event_id: str, lines: Sequence[bytes]) -> bool:
        """Join the next transaction."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((event_id, lines, done))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        return await done

    async def outbox(self, limit: int) -> list[tuple[int, bytes]]:
        """In the order of commits."""
        return await self._do(
            lambda db: db.execute("SELECT seq, line FROM outbox ORDER BY seq LIMIT ?", (limit,)).fetchall()
        )

    async def delete(self, last_seq: int, keep: Sequence[int] = ()) -> None:
        """One statement."""

        def work(db: sqlite3.Connection) -> int:
            marks = ",".join("?" * len(keep))
            statement = f"DELETE FROM outbox WHERE seq <= ? AND seq NOT IN ({marks})"  # noqa: S608 - marks are ?s
            with db:
                return db.execute(statement, (last_seq, *keep)).rowcount

        self._lines -= await self._do(work)

    async def outbox_size(self) -> int:
        """Counted along."""
        return self._lines

    async def check(self) -> None:
        """Raises StoreError when it can't be written."""
        await self._do(lambda db: _raise_fence(db, self._generation))

    async def prune(self) -> bool:
        """Forget a few events that can't come again; False when none is left."""
        before = clock.time_ms() - REMEMBER_MS
        statement = "DELETE FROM processed WHERE event_id IN (SELECT event_id FROM processed WHERE at_ms < ? LIMIT ?)"

        def work(db: sqlite3.Connection) -> int:
            with db:
                return db.execute(statement, (before, PRUNE_ROWS)).rowcount

        return await self._do(work) == PRUNE_ROWS

    async def close(self) -> None:
        """Finish what waits, then let go of the file."""
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self._do(self._disconnect)
        self._thread.shutdown()

    async def reopen(self) -> None:
        """Open the file anew."""
        await self._do(self._disconnect)
        await self.check()

    def _disconnect(self, db: sqlite3.Connection) -> None:
        """In the store's thread, so that no commit meets a closed connection."""
        self._db = None
        db.close()

    async def _flush(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
            try:
                written = await self._do(partial(_commit_group, generation=self._generation, group=group))
            except StoreError as error:
                for _, _, done in group:
                    _settle(done, error)
            else:
                for (_, lines, done), new in zip(group, written, strict=True):
                    self._lines += len(lines) if new else 0
                    _settle(done, new)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """In the store's own thread: SQLite blocks, and its connection belongs to one thread."""

        def run() -> T:
            if self._db is None:
                self._db = _connect(self._path)
            return work(self._db)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the cell's store {self._path}: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=5, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # an acknowledged event must survive a power cut
    db.executescript(_SCHEMA)
    return db


def _one(db: sqlite3.Connection, query: str, *values: object) -> int:
    return int(db.execute(query, values).fetchone()[0])


def _fence(db: sqlite3.Connection) -> int:
    return _one(db, "SELECT COALESCE(MAX(generation), 0) FROM fence")


def _check_fence(db: sqlite3.Connection, generation: int) -> None:
    highest = _fence(db)
    if highest > generation:
        raise FencedError(f"generation {highest} has the cell's store; this is {generation}")


def _raise_fence(db: sqlite3.Connection, generation: int) -> None:
    with _transaction(db):
        _check_fence(db, generation)
        db.execute("INSERT OR REPLACE INTO fence VALUES (1, ?)", (generation,))


def _commit_group(
    db: sqlite3.Connection, generation: int, group: Sequence[tuple[str, Sequence[bytes], object]]
) -> list[bool]:
    written = []
    with _transaction(db):
        _check_fence(db, generation)
        for event_id, lines, _ in group:
            row = (event_id, generation, clock.time_ms())
            new = db.execute("INSERT OR IGNORE INTO processed VALUES (?, ?, ?)", row).rowcount == 1
            if new:
                db.executemany("INSERT INTO outbox (line) VALUES (?)", [(line,) for line in lines])
            written.append(new)
    return written


class _transaction:  # noqa: N801 - reads as the statement that it is
    """BEGIN IMMEDIATE … COMMIT: the fence is read under the write lock, so no other can pass it in between."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:  # not when SQLite has ended it itself, as it does when the disk is full
                self._db.execute("ROLLBACK")


def _settle(done: asyncio.Future[bool], result: bool | StoreError) -> None:
    if done.done():
        return  # its handler was cancelled
    if isinstance(result, StoreError):
        done.set_exception(result)
    else:
        done.set_result(result)
