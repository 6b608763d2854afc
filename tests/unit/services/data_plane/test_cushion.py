"""Routers send less at once to an instance that looks slow, and little to one that stands trial beside its twin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from router.core.models import CellRecord, LeaseView
from router.core.registry import Snapshot
from router.core.slot_map.slots import SlotMap, assign
from router.services.data_plane.event_router import EventRouter
from router.services.data_plane.routing import routing_of
from tests.support.fake_cells import Sickness
from tests.support.fake_clock import play
from tests.support.router_world import World

CELL = "cell-0000"
SLOT_MAP = SlotMap(1, assign(None, {CELL: 1}))
RECORD = CellRecord(CELL, generation=1, launching=2, launched=2, twin=2)
LEASES = tuple(LeaseView(CELL, generation, "i", "a:1", 8, ready=True, live=True) for generation in (1, 2))


@pytest.mark.parametrize(
    ("record", "leases", "tried"),
    [
        (RECORD, LEASES, True),
        (RECORD, LEASES[:1], False),
        (RECORD, (LEASES[0], replace(LEASES[1], ready=False)), False),
        (RECORD, (replace(LEASES[0], live=False), LEASES[1]), False),
        (replace(RECORD, twin=0), LEASES, False),
        (replace(RECORD, launching=0), LEASES, False),
    ],
    ids=["both ready", "no twin yet", "twin not ready", "instance gone", "no trial", "dismissed"],
)
def test_a_cell_is_on_trial_only_while_both_instances_are_ready(
    record: CellRecord, leases: tuple[LeaseView, ...], *, tried: bool
) -> None:
    """As long as the trial goes on, and no longer."""
    routing = routing_of(Snapshot(1, SLOT_MAP, {CELL: record}, leases, ""), None)
    assert routing is not None
    assert routing.tried == ({CELL} if tried else set())


OTHER = "cell-0001"
BASE_S, RATE = 0.2, 30.0  # six events are in flight on average


def window_and_rate(world: World, router: EventRouter, since: float) -> tuple[int, float]:
    """Return the window of the cell's lane, and how many events a second have had their effect since then."""
    window = router.dispatcher.paths[CELL].lane.window
    done = [at for at in world.cells.cells[CELL].done_at.values() if at > since]
    return window, len(done) / (world.clock.now - since)


def under_load(rate: float, seconds: float, story: Callable[[World, EventRouter], Awaitable[None]]) -> None:
    """Play a story that begins when the cell has had its usual load for 20 s; every event has its effect, once."""

    async def whole(world: World) -> None:
        keys = world.keys_of(CELL, 30)
        async with world.routing() as router:
            loading = asyncio.create_task(world.send_steadily(dict.fromkeys(keys, rate / len(keys)), seconds))
            await world.clock.sleep(20)
            await story(world, router)
            await loading
            await world.settled()
        assert world.cells.effects() == dict.fromkeys(world.sent, 1)

    world = World(2)
    world.cells.cells[CELL].seconds = BASE_S
    play(world.clock, whole(world))


@pytest.mark.parametrize("rate", [RATE, 3 * RATE], ids=["six of 16 places", "more than it can take"])
def test_a_healthy_cell_that_is_cushioned_does_as_much_as_before(rate: float) -> None:
    """For ten seconds; nothing is lost, and nothing waits in the hold queue for long."""

    async def story(world: World, router: EventRouter) -> None:
        window, before = window_and_rate(world, router, world.clock.now - 10)
        assert window == 16
        world.registry.cushioned = frozenset([CELL])
        await world.clock.sleep(10)
        window, cushioned = window_and_rate(world, router, world.clock.now - 10)
        assert window == (16 if rate > RATE else 9)
        assert cushioned > 0.95 * before
        assert router.dispatcher.paths[OTHER].lane.window == 16
        world.registry.cushioned = frozenset()
        await world.clock.sleep(1)
        assert router.dispatcher.paths[CELL].lane.window == 16

    under_load(rate, 40, story)


def test_a_slow_cell_that_is_cushioned_has_fewer_events_in_hand() -> None:
    """Three times as slow, it would have 16 in flight; the rest waits, and is done once it is well again."""

    async def story(world: World, router: EventRouter) -> None:
        cell = world.cells.cells[CELL]
        cell.sick[1] = Sickness(factor=3)
        world.registry.cushioned = frozenset([CELL])
        for _ in range(50):
            await world.clock.sleep(0.2)
            assert router.dispatcher.paths[CELL].lane.in_flight <= 16
        assert router.dispatcher.paths[CELL].lane.in_flight == 9
        cell.sick.clear()
        world.registry.cushioned = frozenset()

    under_load(RATE, 35, story)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_routers_share_what_a_cushioned_cell_and_one_on_trial_gets(count: int) -> None:
    """However many there are: in all what is usual and a little more, then two of 16 places; afterwards as before."""
    world = World(2, max_messages=30)  # so that no router takes what the others wait for
    cell = world.cells.cells[CELL]
    cell.seconds = BASE_S
    keys = world.keys_of(CELL, 30)

    async def story() -> None:
        async with AsyncExitStack() as stack:
            routers = [await stack.enter_async_context(world.routing(f"router-{i}")) for i in range(count)]
            lanes = [router.dispatcher.paths[CELL].lane for router in routers if await router.dispatcher.routed.wait()]
            loading = asyncio.create_task(world.send_steadily(dict.fromkeys(keys, RATE / len(keys)), 60))
            await world.clock.sleep(20)
            world.registry.cushioned = frozenset([CELL])
            await world.clock.sleep(5)
            assert 7 <= sum(lane.window for lane in lanes) <= 9 + count  # six, the square root, and rounding up
            record = replace(world.registry.cells[CELL], launching=2, launched=2, twin=2)
            world.registry.cells[CELL], world.registry.twins = record, LEASES[1:]
            await world.clock.sleep(5)
            begun = world.clock.now
            await world.clock.sleep(20)
            _, rate = window_and_rate(world, routers[0], begun)
            assert 1.5 <= rate * BASE_S <= 2.2  # in flight on average
            world.registry.cells[CELL], world.registry.twins = replace(record, launching=0, twin=0), ()
            world.registry.cushioned = frozenset()
            await world.clock.sleep(2)
            assert {lane.window for lane in lanes} == {16}
            await loading
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == dict.fromkeys(world.sent, 1)
