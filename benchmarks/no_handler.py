"""The handler of a measured worker, which does nothing."""

from __future__ import annotations

from cell_worker.api import Cell, Event


async def handle(event: Event, cell: Cell) -> None:
    """Handle an event by doing nothing with it."""
