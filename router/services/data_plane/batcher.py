"""Items one by one → calls of up to 10, for queue calls that take a batch and may fail for a part of it.

Guarantees: an item handed in is either flushed, or given up by name after `max_tries`; never forgotten. What is being
flushed when the task is cancelled counts as neither: the message behind it was not deleted and comes again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from router.core.errors import SourceUnavailableError
from router.core.lanes.backoff import backoff
from router.core.messages.batches import BATCH
from router.ports import Clock

T = TypeVar("T")

FIRST_BACKOFF_S: Final = 0.1
LAST_BACKOFF_S: Final = 5.0


class Batcher(Generic[T]):
    """Runs `flush` on batches; what it returns, and everything when it raises, is tried again."""

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[T]]],
        give_up: Callable[[T], object],
        clock: Clock,
        *,
        max_tries: int,
        linger_s: float = 0.005,  # how long the first of a batch waits for nine more
        parallel: int = 4,
    ) -> None:
        self._flush = flush
        self._give_up = give_up
        self._clock = clock
        self._max_tries = max_tries
        self._linger_s = linger_s
        self._parallel = parallel
        self._waiting: deque[tuple[T, int]] = deque()
        self._open = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, item: T) -> None:
        """Hand one item in."""
        self._open += 1
        self._idle.clear()
        self._waiting.append((item, 1))
        self._wake.set()

    async def drained(self) -> None:
        """Wait until nothing handed in is left."""
        await self._idle.wait()

    async def run(self) -> None:
        """Flush until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._parallel):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            if len(self._waiting) < BATCH:
                await self._clock.sleep(self._linger_s)
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            if not self._waiting:
                self._wake.clear()
            if batch:
                await self._once(batch)

    async def _once(self, batch: Sequence[tuple[T, int]]) -> None:
        try:
            failed = await self._flush([item for item, _ in batch])
        except SourceUnavailableError:
            failed = [item for item, _ in batch]
        tries = max(n for _, n in batch)
        if failed:
            await self._clock.sleep(backoff(FIRST_BACKOFF_S, LAST_BACKOFF_S, tries, self._clock.jitter()))
        again = {id(item) for item in failed}
        for item, n in batch:
            if id(item) not in again:
                self._done()
            elif n >= self._max_tries:
                self._give_up(item)
                self._done()
            else:
                self._waiting.append((item, n + 1))
                self._wake.set()

    def _done(self) -> None:
        self._open -= 1
        if not self._open:
            self._idle.set()
