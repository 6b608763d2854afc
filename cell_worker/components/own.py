"""The components that every cell has, whatever its handler: the worker itself and its store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cell_worker.contract.protocol import Reason
from cell_worker.store.store import Store


class StoreComponent:
    """The cell's store as a component, checked by a write and restarted by opening it again."""

    name = "store"

    def __init__(self, store: Store) -> None:
        self._store = store

    async def check(self) -> str:
        """Write to the store, and say whether the instance is in standby. Raises StoreError."""
        await self._store.check()
        return f"{self._store.name} takes writes{'' if self._store.taken else '; in standby'}"

    async def restart(self) -> None:
        """Close what the store has open and open it again. Raises StoreError."""
        await self._store.reopen()


class WorkerComponent:
    """The worker itself as a component. It also shows injected faults, and what handlers do that they should not."""

    name = "worker"

    def __init__(self, stop: asyncio.Event, why_unwell: Callable[[], Reason | None]) -> None:
        self._stop = stop
        self._why_unwell = why_unwell

    async def check(self) -> str:
        """Say that the worker takes events. The check is that the event loop answers at all."""
        unwell = self._why_unwell()
        return f"takes events; {unwell}" if unwell else "takes events"

    async def restart(self) -> None:
        """Drain the worker and end it. Whoever started it starts the next instance."""
        self._stop.set()
