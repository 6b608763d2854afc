"""Handlers for tests that misbehave, or that wait until the test lets them go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from cell_worker.api import Cell, Component, Event


async def stuck(event: Event, cell: Cell) -> None:
    """Never end, but allow to be cancelled."""
    await asyncio.Event().wait()


async def stuck_thread(event: Event, cell: Cell) -> None:
    """Never end and never be cancelled, like a blocking call of boto3 in a thread."""
    await asyncio.to_thread(threading.Event().wait)


class Gate:
    """A handler that notes which events have begun, and waits until it is opened."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.open = asyncio.Event()

    async def __call__(self, event: Event, cell: Cell) -> None:
        self.begun.append(event.event_id)
        await self.open.wait()


class NeedsMore:
    """A handler class that can't be made without an argument."""

    def __init__(self, more: str) -> None:
        self.more = more


class NotCallable:
    """A class without __call__, so it is no handler."""


class HangsAtBothEnds:
    """A handler whose start or stop hangs, as `CELL_ID` says, like one whose database is unreachable."""

    async def start(self, cell: Cell) -> Sequence[Component]:
        if cell.cell_id == "hangs-at-start":
            await asyncio.Event().wait()
        return ()

    async def __call__(self, event: Event, cell: Cell) -> None:
        return

    async def stop(self) -> None:
        await asyncio.Event().wait()


class CannotStart:
    """A handler whose start raises."""

    async def start(self, cell: Cell) -> Sequence[Component]:
        raise ValueError("no such folder: rules")

    async def stop(self) -> None:
        raise NotImplementedError

    async def __call__(self, event: Event, cell: Cell) -> None:
        raise NotImplementedError


class Unspeakable(Exception):
    """An exception whose text raises, as that of real ones does when arguments are missing."""

    def __str__(self) -> str:
        raise ValueError


class Rehearsing:
    """A handler that emits a line for each event, and for each rehearsal too."""

    async def __call__(self, event: Event, cell: Cell) -> None:
        cell.emit({"id": event.event_id})

    rehearse = __call__


class PlainRehearsal:
    """A handler whose rehearsal is no coroutine, so it can't be used."""

    async def __call__(self, event: Event, cell: Cell) -> None:
        return

    def rehearse(self, event: Event, cell: Cell) -> None:
        """Return at once: this method is no coroutine."""


class PlainCanary:
    """A handler whose canary is no coroutine, so it can't be used."""

    async def __call__(self, event: Event, cell: Cell) -> None:
        return

    def canary(self, cell: Cell) -> None:
        """Return at once: this method is no coroutine."""
