"""Runs a process's background tasks. When one of them ends, the process ends too, instead of going on without it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from router.core.errors import CellRouterError
from router.core.telemetry import TaskDied
from router.ports import Observer

MAX_TEXT: Final = 500  # characters of an error's own text, which may quote what came from outside


class TaskDiedError(CellRouterError):
    """A background task ended before it was told to; the text says which and why."""


async def run_until(stop: asyncio.Event, tasks: Mapping[str, Coroutine[Any, Any, None]], observer: Observer) -> None:
    """Run the named tasks until `stop` is set, then cancel them.

    Raises TaskDiedError when a task ends before that. The observer is told of it at once, since the other tasks may
    take long to end.
    """
    running = {asyncio.create_task(task, name=name) for name, task in tasks.items()}
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({*running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        deaths = [_death(task, observer) for task in done - {stopped}]
    finally:
        for task in (*running, stopped):
            task.cancel()
        await asyncio.gather(*running, stopped, return_exceptions=True)
    for death in deaths:
        raise death


def _death(task: asyncio.Task[Any], observer: Observer) -> TaskDiedError:
    """Tell of the end of a task, unless one that it ran itself was the first to end and is told of already."""
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if isinstance(error, TaskDiedError):
        return error
    observer.observe(TaskDied(task.get_name(), error))
    death = TaskDiedError(f"the task '{task.get_name()}' ended: {error!r:.{MAX_TEXT}}")
    death.__cause__ = error
    return death
