"""The handler of stress runs: each event says how much work it is, and has no effect but a line in the cell's sink."""

from __future__ import annotations

import asyncio
from typing import Final

from cell_worker.api import Cell, Event, RejectEvent

MAX_WORK_MS: Final = 60_000.0


async def handle(event: Event, cell: Cell) -> None:
    """Take as long as the event says, as one that waits for others does; then emit its number."""
    body = event.json()
    work_ms = body.get("work_ms", 0) if isinstance(body, dict) else None
    if isinstance(work_ms, bool) or not isinstance(work_ms, int | float) or not 0 <= work_ms <= MAX_WORK_MS:
        raise RejectEvent(
            f"work_ms must be a number from 0 to {MAX_WORK_MS:g}: this handler is for `cellrouter stress`"
        )
    await asyncio.sleep(work_ms / 1000)  # noqa: TID251 - it is the work
    cell.emit({"n": body.get("n")})
