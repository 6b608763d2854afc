"""Fixtures that the acceptance tests of one file share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.support.infirmary import Infirmary
from tests.support.system import System

CELLS = 4
STORY_S = 400.0


@pytest.fixture(scope="module")
def in_infirmary(
    redis_url: str, aws_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Callable[[Infirmary], Awaitable[None]]], None]]:
    """Plays a story in the file's infirmary once its cells are well, and then accounts for every event."""
    system = System(redis_url, aws_endpoint, tmp_path_factory.mktemp("infirmary"), cells=CELLS, fifo=False)
    infirmary = Infirmary(system)

    async def play(story: Callable[[Infirmary], Awaitable[None]]) -> None:
        async with asyncio.timeout(STORY_S):
            await infirmary.well()
            await story(infirmary)
            await infirmary.accounted()

    with asyncio.Runner() as runner:  # background tasks stand still between two stories
        opened = infirmary.open()
        runner.run(opened.__aenter__())
        try:
            yield lambda story: runner.run(play(story))
        finally:
            runner.run(opened.__aexit__(None, None, None))
