"""Runs cellrouter with a clock that is put forward where it would wait for long, as soon as a file is there.

A shadow waits until a minute is over and archived. What is tested is what it does then, and not the wait.
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Final

from router.adapters.clock import SystemClock

FILE = "HURRY_FILE"
"""The environment variable that names the file."""
WAITS: Final = ".waits"
"""What the name of another file ends with, beside that one: it is there as soon as something waits for long."""
LONG_S: Final = 16.0  # longer than a look for results, which takes place in its own time

_time_ms, _sleep = SystemClock.time_ms, SystemClock.sleep
_ahead_ms = [0]


def _hurried_time_ms(clock: SystemClock) -> int:
    return _time_ms(clock) + _ahead_ms[0]


async def _hurried_sleep(clock: SystemClock, seconds: float) -> None:
    if seconds <= LONG_S:
        await _sleep(clock, seconds)
        return
    begun = clock.monotonic()
    while not _may_hurry():
        await _sleep(clock, 0.1)
    _ahead_ms[0] += max(0, round((seconds - (clock.monotonic() - begun)) * 1000))


def _may_hurry() -> bool:
    file = Path(os.environ[FILE])
    Path(f"{file}{WAITS}").touch()
    return file.exists()


if __name__ == "__main__":
    SystemClock.time_ms = _hurried_time_ms  # type: ignore[assignment,method-assign]
    SystemClock.sleep = _hurried_sleep  # type: ignore[assignment,method-assign]
    runpy.run_module("router", run_name="__main__")
