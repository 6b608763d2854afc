"""How late this process's event loop runs: while it is late, its measurements say more of itself than of cells."""

from __future__ import annotations

from collections import deque
from typing import Final

from router.ports import Clock

EVERY_S: Final = 0.25  # between two measurements
REMEMBER_S: Final = 10.0  # how far back measurements are kept
TOO_LATE_S: Final = 0.25
"""A process whose loop is so late can't tell a slow cell from its own slowness."""


class LoopLag:
    """Sleeps over and over, and notes by how many seconds it was woken late."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._late: deque[tuple[float, float]] = deque()  # when it was woken (monotonic seconds), and how late

    async def run(self) -> None:
        """Measure the lag four times a second until cancelled."""
        while True:
            due = self._clock.monotonic() + EVERY_S
            await self._clock.sleep(EVERY_S)
            now = self._clock.monotonic()
            self._late.append((now, max(0.0, now - due)))
            while self._late[0][0] < now - REMEMBER_S:
                self._late.popleft()

    def worst_of_late_s(self) -> float:
        """Return the longest delay in seconds of the last REMEMBER_S."""
        return self.worst_s(self._clock.monotonic() - REMEMBER_S)

    def worst_s(self, since: float) -> float:
        """Return the longest delay in seconds since that monotonic time, at most REMEMBER_S back; 0.0 for none."""
        return max((late for at, late in self._late if at >= since), default=0.0)
