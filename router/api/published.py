"""Publishes what a process shows: one task makes a snapshot, and everybody reads the newest one as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from router.ports import Clock

T = TypeVar("T")

PUBLISH_S: Final = 0.5
"""Between two snapshots. Sorting the latencies of 50 lanes takes about 2 ms, so this costs less than 1 % of a CPU."""


class Published(Generic[T]):
    """The newest snapshot that `make` has made. Gauges and GET /cells read the same one, and compute nothing."""

    def __init__(self, make: Callable[[], T], clock: Clock) -> None:
        self._make = make
        self._clock = clock
        self.newest = make()

    async def run(self) -> None:
        """Make a snapshot every PUBLISH_S seconds until cancelled."""
        while True:
            self.newest = self._make()
            await self._clock.sleep(PUBLISH_S)
