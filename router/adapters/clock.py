"""The Clock port on the system's clock. No other module asks the system for time or chance."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - this is the Clock port's adapter
import time


class SystemClock:
    """The system's time, and its random numbers."""

    # Asked several times for each event, so there is no function of ours around them.
    monotonic = staticmethod(time.monotonic)  # noqa: TID251 - this is the Clock port's adapter
    jitter = staticmethod(random.random)

    def time_ms(self) -> int:
        """Return the time of day in ms since 1970."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        await asyncio.sleep(seconds)  # noqa: TID251 - this is the Clock port's adapter
