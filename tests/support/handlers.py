"""Handlers for tests that misbehave, or that wait to be let go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from cell_worker.api import Cell, Component, Event


async def stuck(event: Event, cell: Cell) -> None:
    """Never ends, but can be cancelled."""
    await asyncio.Event().wait()


async def stuck_thread(event: Event, cell: Cell) -> None:
    """Never ends, and can't be cancelled: a blocking call in a thread, as boto3's."""
    await asyncio.to_thread(threading.Event().wait)


class Gate:
    """A handler that notes what has begun and waits until it may go on."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.open = asyncio.Event()

    async def __call__(self, event: Event, cell: Cell) -> None:
        self.begun.append(event.event_id)
        await self.open.wait()


class NeedsMore:
    """Can't be made without an argument."""

    def __init__(self, more: str) -> None:
        self.more = more


class NotCallable:
    """Has no __call__."""


class HangsAtBothEnds:
    """Its start or its stop never returns, as `CELL_ID` says: what it opens is away."""

    async def start(self, cell: Cell) -> Sequence[Component]:
        if cell.cell_id == "hangs-at-start":
            await asyncio.Event().wait()
        return ()

    async def __call__(self, event: Event, cell: Cell) -> None:
        return

    async def stop(self) -> None:
        await asyncio.Event().wait()


class CannotStart:
    """A handler whose start fails."""

    async def start(self, cell: Cell) -> Sequence[Component]:
        raise ValueError("no such folder: rules")

    async def stop(self) -> None:
        raise NotImplementedError

    async def __call__(self, event: Event, cell: Cell) -> None:
        raise NotImplementedError


class Unspeakable(Exception):
    """As real ones are whose message misses its arguments."""

    def __str__(self) -> str:
        raise ValueError


class PlainCanary:
    """Its canary can't be awaited."""

    async def __call__(self, event: Event, cell: Cell) -> None:
        return

    def canary(self, cell: Cell) -> None:
        """No coroutine."""
