"""Small well-behaved handlers for tests."""

from __future__ import annotations

import asyncio

from cell_worker.api import Cell, Event


async def handle(event: Event, cell: Cell) -> None:
    """Emit one line about the event."""
    cell.emit({"event_id": event.event_id, "generation": cell.generation})


async def slow(event: Event, cell: Cell) -> None:
    """Emit one line about the event after 0.2 seconds."""
    await asyncio.sleep(0.2)  # noqa: TID251 - the test needs work that takes time
    await handle(event, cell)
