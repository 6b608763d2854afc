"""Places for work that takes the CPU: keys take turns, and no key has all places."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairPlaces:
    """So many may work at once, and of one key one fewer, so that its long work leaves a place to others."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._of_a_key = max(1, places - 1)
        self._held = Counter[str]()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # the keys in order of their turns

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Wait for a place and hold it. Of the keys that may have one, that whose turn is longest ago gets it."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        self._give()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._take_back(key)
            else:
                self._forget(key, turn)
            self._give()

    def _give(self) -> None:
        """Give the free places away, each to the next key that may have one more."""
        while self._free and (key := next((k for k in self._waiting if self._held[k] < self._of_a_key), None)):
            turn = self._waiting[key].popleft()
            self._waiting.move_to_end(key)
            if not self._waiting[key]:
                del self._waiting[key]
            if not turn.done():
                self._free -= 1
                self._held[key] += 1
                turn.set_result(None)

    def _take_back(self, key: str) -> None:
        self._free += 1
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]

    def _forget(self, key: str, turn: asyncio.Future[None]) -> None:
        if turn in (turns := self._waiting.get(key, deque())):
            turns.remove(turn)
            if not turns:
                del self._waiting[key]
