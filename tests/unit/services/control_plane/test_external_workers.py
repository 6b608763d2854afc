"""People's orders on virtual time, where something else than the controller starts the workers."""

from __future__ import annotations

import asyncio

import pytest

from router.core.errors import PolicyRefusedError
from tests.support.control_world import ControlWorld
from tests.support.fake_clock import play

CELL = "cell-0000"


def test_where_others_start_the_workers_evict_asks_the_instance_to_end() -> None:
    """Whatever has started it starts it again, and the new one is admitted. A replacement is refused with a reason."""

    async def story(world: ControlWorld) -> None:
        tasks = []

        def again(address: str, component: str) -> None:
            assert (address, component) == (f"{CELL}:1", "worker")
            world.machines.end(CELL, 1)
            tasks.append(asyncio.create_task(world.machines.launch(CELL, 2)))

        world.instances.on_restart = again
        async with world.running():
            world.machines.can_launch = False
            with pytest.raises(PolicyRefusedError, match="cell-0000: something else than the controllers starts"):
                await world.decide(lambda policy: policy.with_order(CELL, 1, evict=False))
            await world.decide(lambda policy: policy.with_order(CELL, 1, evict=True))
            await world.until(lambda: world.control.contents.cells[CELL].generation == 2, "another serves", 20)
            await world.clock.sleep(20)
            assert world.instances.restarted == [(f"{CELL}:1", "worker")]
            assert world.machines.launches == [(CELL, 1), ("cell-0001", 1), (CELL, 2)]

    world = ControlWorld(2)
    play(world.clock, story(world))
