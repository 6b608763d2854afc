"""The one place where the worker asks for the time, waits, and draws random numbers."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - the one place in the worker
import time


def monotonic() -> float:
    """The seconds since some fixed moment. This clock never goes back."""
    return time.monotonic()  # noqa: TID251 - the one place in the worker


def cpu_s() -> float:
    """The seconds of CPU time that this process has used, all its threads together."""
    return time.process_time()


def time_ms() -> int:
    """The wall clock's time, in milliseconds since 1970 (UTC)."""
    return time.time_ns() // 1_000_000


async def sleep(seconds: float) -> None:
    """Wait for that many seconds while other tasks go on."""
    await asyncio.sleep(seconds)  # noqa: TID251 - the one place in the worker


def jitter() -> float:
    """A random number, uniform in [0, 1), to spread retries in time."""
    return random.random()  # noqa: S311 - nothing secret
