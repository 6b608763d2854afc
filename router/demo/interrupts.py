"""Lets Ctrl-C and its like end a task in order, so that everything it has started is ended too."""

from __future__ import annotations

import asyncio
import signal


def cancel_on_signal() -> list[int]:
    """Let Ctrl-C, SIGTERM and SIGHUP cancel the running task; return a list that then holds the signal's number."""
    task, received = asyncio.current_task(), list[int]()
    assert task is not None, "a coroutine runs in a task"

    def on_signal(number: int) -> None:
        if not received:
            received.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    return received
