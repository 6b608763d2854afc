"""How late this process' own event loop is: what it measures then says more of itself than of others."""

from __future__ import annotations

from collections import deque
from typing import Final

from router.ports import Clock

EVERY_S: Final = 0.25
REMEMBER_S: Final = 10.0
TOO_LATE_S: Final = 0.25
"""A loop that late can't tell a slow cell from a slow self."""


class LoopLag:
    """Sleeps over and over, and notes by how much it was woken late."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._late: deque[tuple[float, float]] = deque()  # when, by how much

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = self._clock.monotonic() + EVERY_S
            await self._clock.sleep(EVERY_S)
            now = self._clock.monotonic()
            self._late.append((now, max(0.0, now - due)))
            while self._late[0][0] < now - REMEMBER_S:
                self._late.popleft()

    def worst_s(self, since: float) -> float:
        """The longest delay since then, REMEMBER_S back at most."""
        return max((late for at, late in self._late if at >= since), default=0.0)
