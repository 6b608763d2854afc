"""What every cell has as components, whatever its handler: the worker itself and its store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cell_worker.store.sqlite import SqliteStore


class StoreComponent:
    """The store as a component."""

    name = "store"

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def check(self) -> str:
        """A write."""
        await self._store.check()
        return "SQLite takes writes" if self._store.taken else "SQLite takes writes; in standby"

    async def restart(self) -> None:
        """Open the file anew."""
        await self._store.reopen()


class WorkerComponent:
    """The worker itself as a component."""

    name = "worker"

    def __init__(self, stop: asyncio.Event, injected: Callable[[], str]) -> None:
        self._stop = stop
        self._injected = injected

    async def check(self) -> str:
        """That the event loop answers is the check."""
        injected = self._injected()
        return f"takes events; injected: {injected}" if injected else "takes events"

    async def restart(self) -> None:
        """Drain and end; who started it starts the next one."""
        self._stop.set()
