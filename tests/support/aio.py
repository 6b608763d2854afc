"""Runs a test's coroutine in real time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

END_S: Final = 10.0
"""How many seconds the tasks that a story leaves behind have to end."""
SHORTEST_PAUSE_S: Final = 0.03
LONGEST_PAUSE_S: Final = 0.15  # a state that lasts only half a second must not be missed


def run(story: Coroutine[Any, Any, T], limit_s: float = 60, end_s: float = END_S) -> T:
    """Run a story to its end. A test that hangs fails after `limit_s`, and so does one whose tasks can't be ended.

    asyncio.run itself would cancel such a task and wait for it without a limit.
    """

    async def main() -> T:
        try:
            async with asyncio.timeout(limit_s):
                return await story
        finally:
            await _end_what_is_left(end_s)

    return asyncio.run(main())


async def _end_what_is_left(within_s: float) -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        _, still_there = await asyncio.wait(left, timeout=within_s)
        assert not still_there, f"cancelled, and still there: {still_there}"


async def until(condition: Callable[[], Awaitable[bool]], what: str, limit_s: float = 40) -> None:
    """Poll a condition, less and less often. Raises AssertionError with `what` if it is false for `limit_s` seconds."""
    pause_s = SHORTEST_PAUSE_S
    try:
        async with asyncio.timeout(limit_s):
            while not await condition():
                await asyncio.sleep(pause_s)  # noqa: TID251 - a poll with a deadline, on real servers
                pause_s = min(1.1 * pause_s, LONGEST_PAUSE_S)
    except TimeoutError as error:
        raise AssertionError(f"not within {limit_s:g} s: {what}") from error
