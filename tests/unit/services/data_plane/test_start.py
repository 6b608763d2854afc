"""A router that starts assumes nothing: it may know no slot map yet, while there are events in every queue."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace

import pytest

from router.core.errors import RegistryUnavailableError
from router.core.messages.parser import held_draft
from router.core.models import Event
from router.core.policy import Quarantine
from router.core.registry import Snapshot
from tests.support.attribute_keys import KEYS
from tests.support.fake_clock import play
from tests.support.router_world import StaticRegistry, World

RELEASED = "released"
CALL_TIMEOUT_S = 2.0


def event(name: str, key: str = RELEASED) -> Event:
    """An event as a producer sends it."""
    return Event(name, key, json.dumps({"event_id": name, "tenant": key}).encode())


async def fill_side_queues(world: World) -> None:
    """Put an event of a released key into the quarantine queue, and one into each hold queue."""
    await world.quarantine.send([held_draft(event("from quarantine"), 0, KEYS)])
    for cell_id, hold in world.holds.items():
        await hold.send([held_draft(event(f"from {cell_id}", world.keys_of(cell_id, 1)[0]), 0, KEYS)])
    world.sent |= {"from quarantine", *(f"from {cell_id}" for cell_id in world.holds)}


class HungRegistry(StaticRegistry):
    """A registry that answers nothing until it is told to; the client gives each call up after 2 s, as ours does."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock, world.cell_ids)
        self.hung = True

    async def snapshot(self) -> Snapshot:
        if self.hung:
            await self._clock.sleep(CALL_TIMEOUT_S)
            raise RegistryUnavailableError("no answer")
        return await super().snapshot()


async def everything_processed(world: World) -> None:
    """Wait until every event has had its effect once, and each queue is empty."""
    await world.settled()
    while len(world.quarantine):
        await world.clock.sleep(0.5)
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert len(world.dead) == 0


@pytest.mark.parametrize("fault", ["no map", "away", "hung"])
def test_a_router_waits_for_a_map_while_there_are_events_in_every_queue(fault: str) -> None:
    """Whatever keeps it from a map, it neither ends nor loses anything, and begins as soon as it knows one."""
    world = World()
    slot_map = world.registry.slot_map

    async def story() -> None:
        await world.send(20)
        await fill_side_queues(world)
        hung = HungRegistry(world)
        registry: StaticRegistry = hung if fault == "hung" else world.registry
        registry.down = fault == "away"
        registry.slot_map = None if fault == "no map" else slot_map
        stop, router = asyncio.Event(), world.router(registry=registry)
        running = asyncio.create_task(router.run(stop))
        await world.clock.sleep(60)
        assert not running.done()
        assert not world.cells.effects()
        registry.down, registry.slot_map = False, slot_map
        hung.hung = False
        await everything_processed(world)
        stop.set()
        await running

    play(world.clock, story())


def test_a_router_starts_by_the_saved_routing_while_the_registry_is_hung() -> None:
    """It doesn't wait for an answer that never comes: what the router before it knew is enough for every queue."""
    world = World()

    async def story() -> None:
        async with world.routing():
            await world.clock.sleep(1)
        await world.send(20)
        await fill_side_queues(world)
        stop, router = asyncio.Event(), world.router(registry=HungRegistry(world))
        running = asyncio.create_task(router.run(stop))
        await everything_processed(world)
        stop.set()
        await running

    play(world.clock, story())


def test_a_stop_before_any_map_is_known_ends_at_once() -> None:
    """There is nothing to drain, so the process need not wait for its time to be up."""
    world = World()

    async def story() -> None:
        await fill_side_queues(world)
        world.registry.slot_map = None
        stop, router = asyncio.Event(), world.router()
        running = asyncio.create_task(router.run(stop))
        await world.clock.sleep(5)
        begun = world.clock.now
        stop.set()
        await running
        assert world.clock.now - begun < 3

    play(world.clock, story())


def test_events_in_quarantine_stay_there_when_a_router_starts() -> None:
    """The queue is looked through only by a policy: before there is one, nobody can say which keys are released."""
    world = World()
    world.registry.decided = replace(
        world.registry.decided.with_quarantine("bad", Quarantine("by hand", 0), 1), version=1
    )
    slot_map, world.registry.slot_map = world.registry.slot_map, None

    async def story() -> None:
        await world.quarantine.send([held_draft(event("bad one", "bad"), 0, KEYS)])
        async with world.routing():
            await world.clock.sleep(30)
            world.registry.slot_map = slot_map
            await world.clock.sleep(60)
            assert len(world.quarantine) == 1
            assert not world.cells.effects()

    play(world.clock, story())


@pytest.mark.parametrize("fifo", [False, True])
def test_what_is_accepted_before_a_map_is_known_is_let_go(fifo: bool) -> None:
    """Its message comes again later, in order; the dispatcher itself relies on nobody to wait."""
    world = World(fifo=fifo)

    async def story() -> None:
        await world.send(5, key=lambda _: "tenant")
        router = world.router()
        working = [asyncio.create_task(part.run()) for part in (router.inbox, router.dispatcher)]
        await world.clock.sleep(0)
        router.dispatcher.accept(router.inbox, await router.inbox.receive(10, 0))
        await router.inbox.drained()
        assert router.dispatcher.quiet()
        assert list(router.dispatcher.samples(1)) == []
        assert router.dispatcher.traffic() == {}
        router.dispatcher.relieve()
        for task in working:
            task.cancel()
        async with world.routing():
            await everything_processed(world)
        assert world.cells.order == [f"e{number}" for number in range(5)]

    play(world.clock, story())
