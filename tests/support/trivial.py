"""Small well-behaved handlers for tests."""

from __future__ import annotations

import asyncio
import json

from cell_worker.api import Cell, Event, RejectEvent, RetryEvent


async def handle(event: Event, cell: Cell) -> None:
    """Emit one line about the event."""
    cell.emit({"event_id": event.event_id, "generation": cell.generation})


async def slow(event: Event, cell: Cell) -> None:
    """Emit one line about the event after 0.2 seconds."""
    await asyncio.sleep(0.2)  # noqa: TID251 - the test needs work that takes time
    await handle(event, cell)


async def as_told(event: Event, cell: Cell) -> None:
    """Do what the event's body says: a number of seconds to take first, or an outcome."""
    match json.loads(event.body):
        case "failed":
            raise ValueError("as told")
        case "rejected":
            raise RejectEvent("as told")
        case "retry":
            raise RetryEvent("as told")
        case int() | float() as seconds:
            await asyncio.sleep(seconds)  # noqa: TID251 - the test needs work that takes time


async def spin(event: Event, cell: Cell) -> None:
    """Compute until the event's time is over, and let others have a turn now and then."""
    while True:
        sum(range(20_000))
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop, no wait
