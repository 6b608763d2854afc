"""Runs work beside the event loop, in one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

T = TypeVar("T")


class OneThread:
    """Runs one function after the other in a thread of its own; it ends with the stack."""

    def __init__(self, stack: ExitStack, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        stack.callback(self._pool.shutdown, wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], T]) -> T:
        """Run a function, and return or raise what it does."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
