"""Time, asked for in one place."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - spreads retries; the one place in the worker
import time


def monotonic() -> float:
    """Seconds that never go back."""
    return time.monotonic()  # noqa: TID251 - the one place in the worker


def time_ms() -> int:
    """Wall time, ms since 1970."""
    return time.time_ns() // 1_000_000


async def sleep(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)  # noqa: TID251 - the one place in the worker


def jitter() -> float:
    """Uniform in [0, 1)."""
    return random.random()  # noqa: S311 - nothing secret
