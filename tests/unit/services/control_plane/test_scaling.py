"""The number of cells follows the load, on virtual time: nothing lost, and nothing moved but what the moves say."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

from router.core.models import Vitals
from router.core.policy import Policy
from router.core.scaling.wanted import Scaling
from tests.support.control_world import MOST_CELLS, ControlWorld, actions
from tests.support.fake_clock import play

HIGH = {f"tenant-{i}": 0.14 for i in range(40)}  # with EVENT_S, 0.7 of the places of two cells
LOW = {f"tenant-{i}": 0.012 for i in range(40)}
EVENT_S = 4.0
SCALING = Scaling(2, 3, out_after_s=60, in_after_s=120)
IDLE = Vitals(cpus=1, cpu=0.1, waited=0, throttled=None, lag_s=0, gc=0, write_s=0, slowest_write_s=0)


def following(policy: Policy) -> Policy:
    """Let two to three cells follow the load."""
    return replace(policy, scaling=SCALING)


def world_of(cells: int) -> ControlWorld:
    """Cells whose events take a while, and whose workers say that they have CPU left."""
    world = ControlWorld(cells)
    for number in range(MOST_CELLS):
        cell_id = f"cell-{number:04d}"
        world.machines.vitals[cell_id] = IDLE
        world.cells.cells[cell_id].seconds = EVENT_S
    return world


def said(world: ControlWorld) -> str:
    """Return what the leader says of the number of cells."""
    found = world.control.contents.conditions["cell-0000"].scaling
    return found.why if found is not None else ""


def test_cells_come_and_go_with_the_load() -> None:
    """A third one when two are full, by the moves of a person's `scale`; it goes when two are enough for a while."""
    world = world_of(2)

    async def story() -> None:
        async with world.running(routers=2):
            before = world.map()
            await world.decide(following)
            began = world.clock.now
            loading = asyncio.create_task(world.send_steadily(HIGH, 160))
            await world.until(lambda: world.control.contents.policy.cells == 3, "a third cell is wanted", 150)
            assert world.clock.now - began >= SCALING.out_after_s
            await world.until(world.at_rest, "at rest with three cells", 120)
            with_three = world.map()
            changed = [(a, b) for a, b in zip(before.owners, with_three.owners, strict=True) if a != b]
            assert {b for _, b in changed} == {"cell-0002"}
            await loading
            assert world.control.contents.policy.cells == 3
            quiet = asyncio.create_task(world.send_steadily(LOW, 240))
            await world.until(lambda: world.control.contents.policy.cells == 2, "two are enough", 240)
            await world.until(world.at_rest, "at rest with two cells", 120)
            went = [(a, b) for a, b in zip(with_three.owners, world.map().owners, strict=True) if a != b]
            assert {a for a, _ in went} == {"cell-0002"}
            await quiet
            await world.settled()
            done = Counter(actions(await world.control.audit(1000)))
            assert (done["scale out"], done["scale in"]) == (1, 1)
            assert "is 60%" in said(world)

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert len(world.dead) == 0
    assert world.strangers == []


def test_a_new_leader_decides_nothing_before_it_has_seen_a_whole_window() -> None:
    """What the one before it saw is gone."""
    world = world_of(2)

    async def story() -> None:
        async with world.running(controllers=2) as (controllers, _):
            await world.decide(following)
            loading = asyncio.create_task(world.send_steadily(HIGH, 170))
            await world.clock.sleep(SCALING.out_after_s - 10)
            leads = 0 if world.controllers[0].epoch is not None else 1
            controllers[leads].kill()
            await world.until(lambda: world.controllers[1 - leads].epoch is not None, "the other one leads")
            led = world.clock.now
            await world.until(lambda: world.control.contents.policy.cells == 3, "a third cell is wanted", 150)
            assert world.clock.now - led >= SCALING.out_after_s
            loading.cancel()

    play(world.clock, story())


def test_a_cell_that_does_not_come_up_is_not_tried_again_at_once() -> None:
    """There are as many cells as before, and the leader says why it waits."""
    world = world_of(2)
    world.machines.broken.add("cell-0002")

    async def story() -> None:
        async with world.running():
            await world.decide(following)
            loading = asyncio.create_task(world.send_steadily(HIGH, 190))
            await world.until(lambda: world.control.contents.policy.cells == 3, "a third cell is wanted", 150)
            await world.until(lambda: world.control.contents.policy.cells == 2, "it is taken back", 60)
            await world.until(lambda: "came to nothing" in said(world), "it waits", 100)
            done = Counter(actions(await world.control.audit(1000)))
            assert (done["scale out"], done["end scaling"]) == (1, 1)
            loading.cancel()

    play(world.clock, story())


def test_without_figures_of_a_worker_nothing_is_decided() -> None:
    """A worker that says nothing of its CPU leaves the number of cells as it is, however full its places are."""
    world = world_of(2)
    del world.machines.vitals["cell-0001"]

    async def story() -> None:
        async with world.running():
            await world.decide(following)
            await world.send_steadily(HIGH, 2 * SCALING.out_after_s)
            assert world.control.contents.policy.cells == 0
            assert said(world) == "the worker of cell-0001 says nothing of its CPU"

    play(world.clock, story())


def test_a_hot_slot_goes_to_the_emptiest_cell_and_a_key_larger_than_a_cell_is_named() -> None:
    """Two keys that fill a cell part; one that fills it alone stays, and the leader says its name."""
    world = world_of(2)

    async def story() -> None:
        async with world.running():
            before = world.map()
            names = [f"hot-{i}" for i in range(100)]
            one, other = [name for name in names if before.cell_of(name) == "cell-0000"][:2]
            await world.decide(lambda policy: replace(following(policy), scaling=replace(SCALING, max_cells=2)))
            loading = asyncio.create_task(world.send_steadily({one: 1.6, other: 1.2}, 200))
            await world.until(lambda: bool(world.control.contents.policy.homes), "a slot is moved", 190)
            await world.until(lambda: world.map().cell_of(one) != world.map().cell_of(other), "they are apart", 30)
            assert world.map().cell_of(other) == "cell-0001"  # with the larger one it would be as full as the first was
            await loading
            loading = asyncio.create_task(world.send_steadily({one: 3.2}, 200))
            await world.until(lambda: "too_large" in outlined(world), "it is named", 200)
            assert one in outlined(world)
            assert len(world.control.contents.policy.homes) == 1
            await loading
            await world.settled()
            assert Counter(actions(await world.control.audit(1000)))["move hot slot"] == 1

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert world.strangers == []


def outlined(world: ControlWorld) -> str:
    """Write out all that the leader says of scaling and that is not empty."""
    found = world.control.contents.conditions["cell-0000"].scaling
    return f"too_large: {found.too_large}" if found is not None and found.too_large else ""
