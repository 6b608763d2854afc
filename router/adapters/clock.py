"""The real clock. The only module that asks the system for time or chance."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - this is the Clock port's adapter
import time


class SystemClock:
    """Clock by the system."""

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()  # noqa: TID251 - this is the Clock port's adapter

    def time_ms(self) -> int:
        """Ms since 1970."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)  # noqa: TID251 - this is the Clock port's adapter

    def jitter(self) -> float:
        """Uniform in [0, 1)."""
        return random.random()  # noqa: S311 - spreads retries; nothing secret
