"""A clock that a test owns: time passes only when everything waits for it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random  # noqa: TID251 - seeded: the test owns chance too
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class FakeClock:
    """The Clock port on virtual time."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 1000.0
        self._random = random.Random(seed)
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def time_ms(self) -> int:
        return 1_700_000_000_000 + round(self.now * 1000)

    async def sleep(self, seconds: float) -> None:
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + max(0.0, seconds), next(self._order), wake))
        await wake

    def jitter(self) -> float:
        return self._random.random()

    async def pass_time(self) -> None:
        """Let virtual time pass until cancelled: whenever nothing else is ready to go on."""
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined] # what the loop runs after this task
        while True:
            await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop, not a wait
            while self._sleepers and not ready:
                at, _, wake = heapq.heappop(self._sleepers)
                if not wake.done():  # a sleeper that was cancelled waits no more
                    self.now = max(self.now, at)
                    wake.set_result(None)
                    break


def play(clock: FakeClock, story: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on virtual time."""

    async def main() -> T:
        passing = asyncio.create_task(clock.pass_time())
        try:
            async with asyncio.timeout(60):  # of real time: a test that hangs must not hang the suite
                return await story
        finally:
            passing.cancel()

    return asyncio.run(main())
