"""The dashboard's streams on real sockets: they are told what is new, and keep no process from its end."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from tests.support.aio import run, until
from tests.support.dashboard_rig import dashboard

pytestmark = pytest.mark.one_kind  # it asks for no server


async def told(answer: aiohttp.ClientResponse) -> Any:
    """Read the next thing that a page is told; None at the end of the stream."""
    async for line in answer.content:
        if line.startswith(b"data: "):
            return json.loads(line[6:])
    return None


def test_a_page_hears_of_a_change_and_of_the_end_of_its_process() -> None:
    """The server ends the stream in order, and does not wait for pages that stay open."""

    async def story() -> None:
        async with aiohttp.ClientSession() as session, dashboard() as rig:
            async with session.get(f"{rig.url}fleet/live") as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                assert answer.headers["cache-control"] == "no-store"
                while (await told(answer))["status"] != "well":
                    pass
                rig.world.falls_ill()
                while (await told(answer))["status"] != "acting":
                    pass
                assert rig.world.feed.streams == 1
                rig.end()
                while await told(answer) is not None:
                    pass
            await rig.ended()
            assert rig.world.feed.streams == 0

    run(story())


def test_a_page_that_is_closed_gives_its_stream_back() -> None:
    """Else a few reloads would take the streams of all."""

    async def story() -> None:
        async with aiohttp.ClientSession() as session, dashboard() as rig:
            for _ in range(3):
                async with session.get(f"{rig.url}fleet/live") as answer:
                    await told(answer)

            async def given_back() -> bool:
                return rig.world.feed.streams == 0

            await until(given_back, "the server hears that its clients have gone")

    run(story())
