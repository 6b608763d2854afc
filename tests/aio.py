"""Runs a test's coroutine in real time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

END_S: Final = 10.0
"""For tasks that a story leaves behind."""


def run(story: Coroutine[Any, Any, T], limit_s: float = 60, end_s: float = END_S) -> T:
    """To its end; a test that hangs fails after `limit_s`, and so does one that leaves a task which can't be ended.

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


async def until(condition: Callable[[], Awaitable[bool]], what: str, limit_s: float = 20) -> None:
    """Ask again and again. Raises AssertionError with `what` when it doesn't become true."""
    try:
        async with asyncio.timeout(limit_s):
            while not await condition():  # noqa: ASYNC110 - what is waited for is in another process
                await asyncio.sleep(0.05)  # noqa: TID251 - a poll with a deadline, on real servers
    except TimeoutError as error:
        raise AssertionError(f"not within {limit_s:g} s: {what}") from error
