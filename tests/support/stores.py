"""The stores that the contract suites run on: the fake in memory, and SQLite."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from cell_worker.store.sqlite import SqliteStore
from cell_worker.store.store import Store
from tests.support.aio import run
from tests.support.memory_store import MemoryStore, Volume

Make = Callable[[], Store]
"""Makes the store of one more instance on the same volume."""


def maker(kind: str, directory: Path) -> Make:
    """Make a function that makes stores of this kind, `memory` or `sqlite`, all on one volume."""
    volume = Volume()
    return lambda: MemoryStore(volume) if kind == "memory" else SqliteStore(directory / "cell" / "store.db")


def on(make: Make, story: Callable[[Store], Awaitable[None]]) -> None:
    """Run a story on a store that generation 1 has taken, and close the store."""

    async def main() -> None:
        store = make()
        await store.open(1)
        await store.take()
        await story(store)
        await store.close()

    run(main())
