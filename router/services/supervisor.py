"""Runs a process's background tasks. When one of them ends, the process ends too, instead of going on without it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from router.core.errors import CellRouterError


class TaskDiedError(CellRouterError):
    """A background task ended before it was told to."""


async def run_until(stop: asyncio.Event, tasks: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """Run the named tasks until `stop` is set, then cancel them. Raises TaskDiedError when a task ends before that."""
    running = {asyncio.create_task(task, name=name) for name, task in tasks.items()}
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({*running, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (*running, stopped):
            task.cancel()
        await asyncio.gather(*running, stopped, return_exceptions=True)
    for task in done - {stopped}:
        raise TaskDiedError(f"the task '{task.get_name()}' ended") from task.exception()
