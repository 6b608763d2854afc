"""Lets Ctrl-C and its like end a task in order, so that everything it has started is ended too."""

from __future__ import annotations

import asyncio
import signal
from typing import Any


def cancel_on_signal(task: asyncio.Task[Any]) -> list[int]:
    """Let Ctrl-C, SIGTERM and SIGHUP cancel a task; return a list that will then hold the signal's number."""
    received: list[int] = []

    def on_signal(number: int) -> None:
        if not received:
            received.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    return received
