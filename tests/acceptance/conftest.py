"""Fixtures that the acceptance tests of one file share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.support.sick_system import SickSystem
from tests.support.system import System

CELLS = 4
STORY_S = 400.0


@pytest.fixture(scope="module")
def in_sick_system(
    redis_url: str, aws_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Callable[[SickSystem], Awaitable[None]]], None]]:
    """Plays a story in the file's world once its cells are well, and then accounts for every event."""
    system = System(redis_url, aws_endpoint, tmp_path_factory.mktemp("world"), cells=CELLS, fifo=False)
    world = SickSystem(system)

    async def play(story: Callable[[SickSystem], Awaitable[None]]) -> None:
        async with asyncio.timeout(STORY_S):
            await world.well()
            await story(world)
            await world.accounted()

    with asyncio.Runner() as runner:  # background tasks stand still between two stories
        opened = world.open()
        runner.run(opened.__aenter__())
        try:
            yield lambda story: runner.run(play(story))
        finally:
            runner.run(opened.__aexit__(None, None, None))
