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

LINGER_S: Final = 0.005
"""How long the first of a batch waits for nine more. A full batch goes at once."""
ROUNDING_S: Final = 1e-4
"""What is due so soon goes now: sums of times are not exact."""
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
        linger_s: float = LINGER_S,
        parallel: int = 4,
    ) -> None:
        self._flush = flush
        self._give_up = give_up
        self._clock = clock
        self._max_tries = max_tries
        self._linger_s = linger_s
        self._parallel = parallel
        # Each with the number of its next try, and by when it goes at the latest.
        self._waiting: deque[tuple[T, int, float]] = deque()
        self._unfinished = 0
        self._wake = asyncio.Event()  # an item waits that no full batch has taken
        self._due = asyncio.Event()  # a batch is full, or its first item has waited long enough
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, item: T) -> None:
        """Hand in one item, to be flushed soon."""
        self._unfinished += 1
        self._idle.clear()
        self._enqueue(item, 1)

    async def drained(self) -> None:
        """Wait until every item handed in is flushed or given up."""
        await self._idle.wait()

    async def run(self) -> None:
        """Flush batches until cancelled, up to `parallel` at once."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._linger())
            for _ in range(self._parallel):
                group.create_task(self._work())

    def _enqueue(self, item: T, tries: int) -> None:
        self._waiting.append((item, tries, self._clock.monotonic() + self._linger_s))
        if len(self._waiting) < BATCH:
            self._wake.set()
        else:
            self._due.set()

    async def _linger(self) -> None:
        """Let what waits go after its time. One timer for all: one for each worker would cost more than it saves."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting and (left_s := self._waiting[0][2] - self._clock.monotonic()) > ROUNDING_S:
                await self._clock.sleep(left_s)
            if self._waiting:
                self._due.set()

    async def _work(self) -> None:
        while True:
            await self._due.wait()
            taken = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            if len(self._waiting) < BATCH:
                self._due.clear()
                if self._waiting:
                    self._wake.set()
            if taken:
                await self._flush_once(taken)

    async def _flush_once(self, batch: Sequence[tuple[T, int, float]]) -> None:
        try:
            failed = await self._flush([item for item, _, _ in batch])
        except SourceUnavailableError:
            failed = [item for item, _, _ in batch]
        if failed:
            await self._failed(batch, {id(item) for item in failed})
        else:
            self._done(len(batch))

    async def _failed(self, batch: Sequence[tuple[T, int, float]], again: Collection[int]) -> None:
        tries = max(count for _, count, _ in batch)
        await self._clock.sleep(backoff(FIRST_BACKOFF_S, LAST_BACKOFF_S, tries, self._clock.jitter()))
        for item, count, _ in batch:
            if id(item) not in again:
                self._done(1)
            elif count >= self._max_tries:
                self._give_up(item)
                self._done(1)
            else:
                self._enqueue(item, count + 1)

    def _done(self, count: int) -> None:
        self._unfinished -= count
        if not self._unfinished:
            self._idle.set()
