"""The smallest handler."""

from __future__ import annotations

from cell_worker.api import Cell, Event


async def handle(event: Event, cell: Cell) -> None:
    """Leave a line."""
    cell.emit({"event_id": event.event_id, "generation": cell.generation})
