"""A test's story ends, whatever it leaves behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tests.support.aio import run


def test_a_task_that_loses_its_cancellation_fails_the_test_instead_of_hanging_it() -> None:
    """The story has ended, but one of its tasks goes on after its cancellation. The failure names the task."""

    async def deaf() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def story() -> None:
        asyncio.get_running_loop().create_task(deaf(), name="the deaf one")
        await asyncio.sleep(0)  # noqa: TID251 - it begins

    with pytest.raises(AssertionError, match="the deaf one"):
        run(story(), end_s=0.1)


def test_tasks_that_a_story_leaves_are_cancelled() -> None:
    """What the story returned is passed on."""
    tasks = []

    async def story() -> int:
        tasks.append(asyncio.create_task(asyncio.Event().wait()))
        return 7

    assert run(story()) == 7
    assert tasks[0].cancelled()
