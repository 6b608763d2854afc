"""Gathers single items into calls of up to 10, for queue calls that take a batch and may fail for a part of it.

Guarantees: an item handed in is either flushed, or given up by name after `max_tries`; it is never forgotten. An item
that is being flushed when the task is cancelled is neither: the message behind it was not deleted and comes again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Generic, TypeVar

from router.core.errors import SourceUnavailableError
from router.core.lanes.backoff import backoff
from router.core.messages.batches import BATCH
from router.ports import Clock

T = TypeVar("T")

FIRST_BACKOFF_S: Final = 0.1
LAST_BACKOFF_S: Final = 5.0


class Batcher(Generic[T]):
    """Runs `flush` on batches of items.

    The items that `flush` returns are tried again, and all of the batch when it raises SourceUnavailableError. An item
    that has failed `max_tries` times is handed to `give_up`.
    """

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
        self._waiting: deque[tuple[T, int]] = deque()  # each with the number of its next try
        self._unfinished = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, item: T) -> None:
        """Hand in one item, to be flushed soon."""
        self._unfinished += 1
        self._idle.clear()
        self._waiting.append((item, 1))
        self._wake.set()

    async def drained(self) -> None:
        """Wait until every item handed in is flushed or given up."""
        await self._idle.wait()

    async def run(self) -> None:
        """Flush batches until cancelled, up to `parallel` at once."""
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
                await self._flush_once(batch)

    async def _flush_once(self, batch: Sequence[tuple[T, int]]) -> None:
        try:
            failed = await self._flush([item for item, _ in batch])
        except SourceUnavailableError:
            failed = [item for item, _ in batch]
        if failed:
            await self._failed(batch, {id(item) for item in failed})
        else:
            self._done(len(batch))

    async def _failed(self, batch: Sequence[tuple[T, int]], again: Collection[int]) -> None:
        tries = max(count for _, count in batch)
        await self._clock.sleep(backoff(FIRST_BACKOFF_S, LAST_BACKOFF_S, tries, self._clock.jitter()))
        for item, count in batch:
            if id(item) not in again:
                self._done(1)
            elif count >= self._max_tries:
                self._give_up(item)
                self._done(1)
            else:
                self._waiting.append((item, count + 1))
                self._wake.set()

    def _done(self, count: int) -> None:
        self._unfinished -= count
        if not self._unfinished:
            self._idle.set()
