"""How a worker's process is told to end, and how it leaves no task behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable


def on_signals(stop: asyncio.Event, notice_s: Callable[[], float]) -> None:
    """Stop at a SIGTERM or SIGINT, after the notice that there is to be. A signal after the stop ends the process."""
    noticed = asyncio.Event()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        if noticed.is_set() or not (seconds := notice_s()):
            stop.set()
        else:
            noticed.set()
            asyncio.get_running_loop().call_later(seconds, stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)


async def end_what_is_left(within_s: float) -> None:
    """Cancel the tasks that handlers have left, and give them some time to end."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=within_s)
