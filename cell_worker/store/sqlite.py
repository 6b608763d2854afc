"""The cell's own store in one SQLite file on its volume: which events are done, and the lines that they emitted.

Guarantees:

- An event's identity and its lines are written together or not at all, and no identity is written twice.
- Once `commit` has returned, both survive a crash of the process and of the machine.
- After an instance has taken the store, no commit of a lower generation succeeds, and it gets no more lines to deliver.

An instance that has opened the store without taking it is in standby. It gets no lines either, and does not disturb the
instance that has the store.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from cell_worker import clock
from cell_worker.contract.protocol import EventName
from cell_worker.store.grouped import Grouped
from cell_worker.store.store import MAX_OUTBOX_BYTES, REMEMBER_S, Done, FencedError, StoreError

T = TypeVar("T")
Write = tuple[EventName, Sequence[bytes], bytes]
"""One commit: the event, its lines, and its body's digest."""

PRUNE_ROWS: Final = 500
"""How many events one step of pruning forgets: so few that no commit waits long for it."""
MAX_GROUP: Final = 256
"""The most commits in one transaction, and the most look-ups in one query."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS done (identity TEXT PRIMARY KEY, digest BLOB NOT NULL, generation INTEGER NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS done_at ON done (at_ms);
CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, line BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS fence (id INTEGER PRIMARY KEY CHECK (id = 1), generation INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS instances (generation INTEGER PRIMARY KEY, writes INTEGER NOT NULL);
"""  # noqa: E501 - SQL reads best a table a line
_READ_ALL: Final = """
SELECT identity, digest, generation, at_ms FROM done LIMIT 0;
SELECT seq, line FROM outbox LIMIT 0;
SELECT id, generation FROM fence LIMIT 0;
SELECT generation, writes FROM instances LIMIT 0;
"""
"""Fails where a file has other tables of these names: else commits would fail, later and for ever."""
_BY_ID: Final = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'processed'"
"""Whether an older version has left its table, which knows events by their ids alone. It goes with its last row."""
_UNUSABLE: Final = {
    *(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB),
}
"""What SQLite says of a file that is damaged, no store of a cell, or not to be used: it takes a person to mend that."""


class SqliteStore:
    """The Store port on one SQLite file, which a single thread reads and writes.

    Commits that arrive while one is on its way to the disk share the next transaction (group commit). Look-ups share a
    query in the same way.
    """

    name = "SQLite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._generation = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._db: sqlite3.Connection | None = None
        self._commits = Grouped(self._commit_group, _fitting)
        self._lookups = Grouped(self._look_up, _fitting)
        self._lines = 0
        self.taken = False

    async def open(self, generation: int) -> None:
        """Open the file in standby: write down this generation, and leave the fence as it is."""
        self._generation = generation
        await self._do(lambda db: _count_write(db, generation))

    async def take(self) -> None:
        """Raise the fence to this generation, so that lower ones can use the store no more."""
        await self._do(lambda db: _take(db, self._generation))
        self.taken = True
        self._lines = await self._do(lambda db: _one(db, "SELECT COUNT(*) FROM outbox"))

    async def highest_generation(self) -> int:
        """The highest generation that has opened the store or, in a store of an older version, has taken it."""
        query = "SELECT MAX(COALESCE(MAX(generation), 0), ?) FROM instances"
        return await self._do(lambda db: _one(db, query, _fence(db)))

    async def seen(self, event: EventName) -> Done | None:
        """Look the event up, together with other look-ups that wait."""
        return await self._lookups.ask(event)

    async def commit(self, event: EventName, lines: Sequence[bytes], digest: bytes = b"") -> bool:
        """Write the event in the next transaction, together with other commits that wait."""
        return await self._commits.ask((event, lines, digest))

    async def outbox(self, limit: int, max_bytes: int = MAX_OUTBOX_BYTES) -> list[tuple[int, bytes]]:
        """The oldest lines in the order of their commits, at most `limit` of them and `max_bytes` in all."""
        lines = await self._do(lambda db: _oldest(db, self._generation, limit, max_bytes))
        if not lines:
            self._lines = 0  # a predecessor may have delivered some after they were counted
        return lines

    async def delete(self, last_seq: int, keep: Sequence[int] = ()) -> None:
        """Delete delivered lines from the outbox, in one statement."""

        def work(db: sqlite3.Connection) -> int:
            statement = f"DELETE FROM outbox WHERE seq <= ? AND seq NOT IN ({_placeholders(keep)})"  # noqa: S608 - ?s
            with db:
                return db.execute(statement, (last_seq, *keep)).rowcount

        self._lines -= await self._do(work)

    async def outbox_size(self) -> int:
        """How many lines wait. They are counted as they come and go, without asking SQLite."""
        return self._lines

    async def check(self) -> None:
        """Count one more write of this generation. SQLite would not write a row that does not change."""
        await self._do(lambda db: _count_write(db, self._generation))

    async def prune(self) -> bool:
        """Forget up to PRUNE_ROWS events that can't come again. False when no more of them are left."""
        before = clock.time_ms() - 1000 * REMEMBER_S
        return await self._do(lambda db: _prune(db, before))

    async def close(self) -> None:
        """Finish the commits that wait and close the file. Whatever comes later is refused with a StoreError."""
        await self._commits.idle()
        try:
            await self._in_thread(self._disconnect)
        except StoreError:
            return  # what was committed is on the disk in any case
        finally:
            self._thread.shutdown(wait=False)

    async def reopen(self) -> None:
        """Close the file and open it again. Raises StoreError."""
        await self._in_thread(self._disconnect)
        await self.check()

    def _disconnect(self) -> None:
        """Close the connection. Runs in the store's thread, so that no commit finds its connection closed."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    async def _look_up(self, events: Sequence[EventName]) -> list[Done | None]:
        return await self._do(lambda db: _look_up(db, events))

    async def _commit_group(self, group: Sequence[Write]) -> list[bool]:
        if not self.taken:
            await self.take()  # this also counts the lines that are there
        written = await self._do(lambda db: _commit_group(db, self._generation, group))
        self._lines += sum(len(lines) for (_, lines, _), new in zip(group, written, strict=True) if new)
        return written

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            if self._db is None:
                self._db = _connect(self._path)
            return work(self._db)

        return await self._in_thread(run)

    async def _in_thread(self, run: Callable[[], T]) -> T:
        """Run a function in the store's own thread, since SQLite blocks and its connection belongs to one thread."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except (sqlite3.Error, OSError, RuntimeError) as error:  # RuntimeError: the thread has ended, after `close`
            raise StoreError(f"the cell's store {self._path}: {error}{_advice(error)}") from error


def _fitting(waiting: Sequence[object]) -> int:
    return min(len(waiting), MAX_GROUP)


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=5, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # an acknowledged event must survive a power cut
        db.executescript(_SCHEMA)
        db.executescript(_READ_ALL)
    except BaseException:
        db.close()
        raise
    return db


def _advice(error: Exception) -> str:
    """What to do about a file that can't be used; empty where the fault may pass by itself."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF  # the rest says only where in SQLite
    lasts = code in _UNUSABLE or isinstance(error, PermissionError)
    return ": docs/how-to/repair-a-store.md says how to mend it" if lasts else ""


def _one(db: sqlite3.Connection, query: str, *values: object) -> int:
    return int(db.execute(query, values).fetchone()[0])


def _oldest(db: sqlite3.Connection, generation: int, limit: int, max_bytes: int) -> list[tuple[int, bytes]]:
    rows: list[tuple[int, bytes]] = []
    size = 0
    if _check_fence(db, generation) < generation:
        return rows
    for seq, line in db.execute("SELECT seq, line FROM outbox ORDER BY seq LIMIT ?", (limit,)):
        size += len(line)
        if rows and size > max_bytes:
            break
        rows.append((seq, line))
    return rows


def _placeholders(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _fence(db: sqlite3.Connection) -> int:
    """The generation that has the store; 0 when none has taken it yet."""
    return _one(db, "SELECT COALESCE(MAX(generation), 0) FROM fence")


def _check_fence(db: sqlite3.Connection, generation: int) -> int:
    """The generation that has the store. Raises FencedError when it is higher than this one."""
    highest = _fence(db)
    if highest > generation:
        raise FencedError(f"generation {highest} has the cell's store; this is {generation}")
    return highest


def _raise_fence(db: sqlite3.Connection, generation: int) -> None:
    """Give the store to this generation. Needs an open transaction. Raises FencedError."""
    if _check_fence(db, generation) < generation:
        db.execute("INSERT OR REPLACE INTO fence VALUES (1, ?)", (generation,))


def _take(db: sqlite3.Connection, generation: int) -> None:
    with _transaction(db):
        _raise_fence(db, generation)


def _count_write(db: sqlite3.Connection, generation: int) -> None:
    """Write down that this generation has opened or checked the store. Raises FencedError."""
    with _transaction(db):
        _check_fence(db, generation)
        db.execute(
            "INSERT INTO instances VALUES (?, 1) ON CONFLICT (generation) DO UPDATE SET writes = writes + 1",
            (generation,),
        )


def _look_up(db: sqlite3.Connection, events: Sequence[EventName]) -> list[Done | None]:
    marks = _placeholders(events)
    query = f"SELECT identity, digest FROM done WHERE identity IN ({marks})"  # noqa: S608 - ?s
    names = [event.identity for event in events]
    done: dict[str, bytes] = dict(db.execute(query, names))
    by_id: set[str] = set()
    if _one(db, _BY_ID):
        query = f"SELECT event_id FROM processed WHERE event_id IN ({marks})"  # noqa: S608 - ?s
        by_id = {row[0] for row in db.execute(query, [event.event_id for event in events])}
    return [
        Done(done[name]) if name in done else Done() if event.event_id in by_id else None
        for event, name in zip(events, names, strict=True)
    ]


def _prune(db: sqlite3.Connection, before_ms: int) -> bool:
    """Forget up to PRUNE_ROWS events of each table. Whether there may be more."""
    more = _forget(db, "done", "identity", before_ms)
    if _one(db, _BY_ID):
        more |= _forget(db, "processed", "event_id", before_ms)
        if not _one(db, "SELECT COUNT(*) FROM (SELECT 1 FROM processed LIMIT 1)"):
            db.execute("DROP TABLE processed")
    return more


def _forget(db: sqlite3.Connection, table: str, column: str, before_ms: int) -> bool:
    rows = f"SELECT {column} FROM {table} WHERE at_ms < ? LIMIT ?"  # noqa: S608 - names of ours
    statement = f"DELETE FROM {table} WHERE {column} IN ({rows})"  # noqa: S608 - names of ours
    return db.execute(statement, (before_ms, PRUNE_ROWS)).rowcount == PRUNE_ROWS


def _commit_group(db: sqlite3.Connection, generation: int, group: Sequence[Write]) -> list[bool]:
    written, now_ms = [], clock.time_ms()
    with _transaction(db):
        _raise_fence(db, generation)
        for event, lines, digest in group:
            row = (event.identity, digest, generation, now_ms)
            new = db.execute("INSERT OR IGNORE INTO done VALUES (?, ?, ?, ?)", row).rowcount == 1
            if new and lines:
                db.executemany("INSERT INTO outbox (line) VALUES (?)", [(line,) for line in lines])
            written.append(new)
    return written


class _transaction:  # noqa: N801 - reads as the statement that it is
    """BEGIN IMMEDIATE … COMMIT. The fence is read under the write lock, so nobody can raise it in between."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:  # SQLite has ended it itself when the disk is full
                self._db.execute("ROLLBACK")
