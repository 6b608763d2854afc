"""A cell gets as many events a second as the policy says that it bears, however many routers send to it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from router.core.models import HoldCause
from router.core.scaling.wanted import Scaling
from router.core.telemetry import LaneFailed
from tests.support.fake_clock import play
from tests.support.router_world import World

CELL, OTHER = "cell-0000", "cell-0001"
RATE = 20.0


@pytest.mark.parametrize("count", [1, 3])
def test_a_cell_gets_no_more_than_it_bears_and_its_quiet_keys_do_not_wait_for_the_loud_one(count: int) -> None:
    """What is above the rate is held and counted; the other cell has all its own, and in the end nothing is lost."""
    world = World(2, max_messages=120)
    loud, *quiet = world.keys_of(CELL, 9)
    others = world.keys_of(OTHER, 8)
    rates = {loud: 60.0} | dict.fromkeys([*quiet, *others], 0.5)
    world.registry.decided = replace(world.registry.decided, version=1, scaling=Scaling(1, 9, cell_rate=RATE))

    async def story() -> None:
        async with AsyncExitStack() as stack:
            for number in range(count):
                router = await stack.enter_async_context(world.routing(f"router-{number}"))
                await router.dispatcher.routed.wait()
            loading = asyncio.create_task(world.send_steadily(rates, 30))
            await world.clock.sleep(10)
            begun = world.clock.now
            await world.clock.sleep(15)
            done = [at for at in world.cells.cells[CELL].done_at.values() if at > begun]
            assert len(done) == pytest.approx(RATE * 15, rel=0.1)
            assert len(done) <= RATE * 15 + count
            await loading
            waited = world.latencies(quiet, begun, begun + 10)
            assert waited[round(0.9 * (len(waited) - 1))] < 2
            assert max(world.latencies(others, begun, begun + 10)) < 2
            world.registry.decided = replace(world.registry.decided, version=2, scaling=None)
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == dict.fromkeys(world.sent, 1)
    assert world.notes.count_held(HoldCause.CELL_RATE) > 1000 > 10 * world.notes.count_held(HoldCause.OVER_SHARE)
    assert not world.notes.count(LaneFailed)
