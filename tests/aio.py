"""Runs a test's coroutine in real time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(story: Coroutine[Any, Any, T], limit_s: float = 60) -> T:
    """To its end; a test that hangs fails after `limit_s`."""

    async def main() -> T:
        async with asyncio.timeout(limit_s):
            return await story

    return asyncio.run(main())


async def until(condition: Callable[[], Awaitable[bool]], what: str, limit_s: float = 20) -> None:
    """Ask again and again. Raises AssertionError with `what` when it doesn't become true."""
    try:
        async with asyncio.timeout(limit_s):
            while not await condition():  # noqa: ASYNC110 - what is waited for is in another process
                await asyncio.sleep(0.05)  # noqa: TID251 - a poll with a deadline, on real servers
    except TimeoutError as error:
        raise AssertionError(f"not within {limit_s:g} s: {what}") from error
