"""The map changes while events wait, and while a router drains: nothing stays behind in a queue that nobody reads."""

from __future__ import annotations

import asyncio
from collections import Counter

from router.core.models import Event, Outcome
from router.core.slot_map.slots import SlotMap, assign
from tests.support.fake_clock import play
from tests.support.router_world import World


def own(world: World, cell_ids: list[str]) -> None:
    """Let these cells own all slots from now on."""
    assert world.registry.slot_map is not None
    owners = assign(world.registry.slot_map.owners, dict.fromkeys(cell_ids, 1.0))
    world.registry.slot_map = SlotMap(world.registry.slot_map.epoch + 1, owners)


def test_what_waits_for_a_cell_that_leaves_the_map_goes_to_the_new_owners() -> None:
    """They come from its hold queue, from its lane and from what it had in flight."""
    world = World(cells=3)
    leaving = world.cell_ids[2]
    world.cells.cells[leaving].seconds = 2

    async def story() -> None:
        async with world.routing():
            await world.send(100)
            await world.clock.sleep(1)
            world.crash(leaving)
            await world.clock.sleep(5)
            assert len(world.holds[leaving]) > 0
            own(world, world.cell_ids[:2])
            await world.send(100)
            await world.settled()

    play(world.clock, story())
    assert set(world.cells.effects()) == world.sent
    assert len(world.dead) == 0


def test_a_dead_letter_written_in_the_drain_is_not_written_again() -> None:
    """Its event came from a hold queue, and is deleted there before the router ends."""
    world = World(cells=1)
    tries: Counter[str] = Counter()
    cell = world.cells.cells["cell-0000"]

    def behaviour(event: Event) -> Outcome:
        tries[event.event_id] += 1
        return Outcome.RETRY if tries[event.event_id] == 1 else Outcome.REJECTED

    cell.behaviour = behaviour
    cell.seconds = 4

    async def mend() -> None:
        await world.clock.sleep(4)
        world.dead.down = False

    async def story() -> None:
        world.dead.down = True
        async with world.routing():
            await world.send(1)
            while tries["e0"] < 2:
                await world.clock.sleep(0.1)
            mending = asyncio.create_task(mend())
        assert mending.done()
        assert len(world.holds["cell-0000"]) == 0
        assert len(await world.dead_letters()) == 1

    play(world.clock, story())


def test_a_cell_that_is_new_while_a_router_drains_does_not_hold_the_drain_up() -> None:
    """The next router opens a lane for it."""
    world = World(cells=3)
    own(world, world.cell_ids[:2])
    for cell in world.cells.cells.values():
        cell.seconds = 3

    async def story() -> None:
        await world.send(50)
        async with world.routing() as router:
            await world.clock.sleep(1)
            own(world, world.cell_ids)
            begun = world.clock.now
            opened = set(router.dispatcher.paths)
        assert world.clock.now - begun < 8
        assert set(router.dispatcher.paths) == opened
        async with world.routing():
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
