"""Planned moves under load, on virtual time: nothing lost, nothing twice, no order broken, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - seeded
from collections import Counter
from functools import partial
from math import inf

import pytest

from router.core.policy import Policy
from router.core.slot_map.slots import NO_MOVE, moved
from tests.support.control_world import MOST_CELLS, ControlWorld, Process, actions
from tests.support.fake_clock import play

RATES = {f"tenant-{i}": 2.0 for i in range(40)}


def each_once(world: ControlWorld) -> None:
    """Check that every event had its effect in one cell, once."""
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert len(world.dead) == 0
    assert world.strangers == []


@pytest.mark.parametrize("fifo", [False, True])
def test_cells_are_added_under_load(fifo: bool) -> None:
    """The two new cells get an even share, a few slots at a time; no slot moves between the old ones."""
    world = ControlWorld(3, fifo=fifo)

    async def story() -> None:
        async with world.running(routers=2):
            before = world.map()
            loading = asyncio.create_task(world.send_steadily(RATES, 60))
            await world.clock.sleep(5)
            await world.decide(lambda policy: policy.with_cells(5, 3))
            await world.until(world.at_rest, "at rest with 5 cells", 120)
            after = world.map()
            changed = [(a, b) for a, b in zip(before.owners, after.owners, strict=True) if a != b]
            assert {b for _, b in changed} == {"cell-0003", "cell-0004"}
            assert len(changed) == sum(after.counts()[cell] for cell in ("cell-0003", "cell-0004"))
            await loading
            await world.settled()
            done = actions(await world.control.audit(1000))
            assert done.count("begin move") == done.count("end move") >= len(changed) // 512
            assert done.count("admit") == 5
            assert done[-1] == "end scaling"

    play(world.clock, story())
    each_once(world)
    assert world.inversions() == [] or not fifo


@pytest.mark.parametrize("fifo", [False, True])
def test_cells_are_removed_under_load(fifo: bool) -> None:
    """Two of four are emptied by moves and end after that; nothing of theirs is left behind."""
    world = ControlWorld(4, fifo=fifo)

    async def story() -> None:
        async with world.running(routers=2):
            loading = asyncio.create_task(world.send_steadily(RATES, 60))
            await world.clock.sleep(5)
            await world.decide(lambda policy: policy.with_cells(2, 4))
            await world.until(world.at_rest, "at rest with 2 cells", 120)
            await world.until(lambda: len(world.machines.running) == 2, "the others are ended")
            await loading
            await world.settled()
            records = (await world.look()).cells
            assert [cell_id for cell_id, record in records.items() if record.retired] == ["cell-0002", "cell-0003"]

    play(world.clock, story())
    each_once(world)
    assert world.inversions() == [] or not fifo


def test_a_pin_moves_its_key_and_no_other() -> None:
    """Its events follow it to the other cell and back."""
    world = ControlWorld(3, fifo=True)

    async def story() -> None:
        async with world.running(routers=2):
            before = world.map()
            loading = asyncio.create_task(world.send_steadily(RATES, 40))
            there = next(cell for cell in sorted(before.cells()) if cell != before.cell_of("tenant-1"))
            await world.clock.sleep(5)
            await world.decide(lambda policy: policy.with_pin("tenant-1", there))
            await world.until(world.at_rest, "pinned", 30)
            assert world.map().cell_of("tenant-1") == there
            assert moved(before.owners, world.map().owners) == 0
            await world.clock.sleep(5)
            await world.decide(lambda policy: policy.with_pin("tenant-1", None))
            await world.until(world.at_rest, "unpinned", 30)
            assert world.map().cell_of("tenant-1") == before.cell_of("tenant-1")
            await loading
            await world.settled()
            assert world.cells.cells[there].begun["tenant-1"] > 10

    play(world.clock, story())
    each_once(world)
    assert world.inversions() == []


def test_a_cell_is_drained_weighted_and_cordoned() -> None:
    """Drained, it owns nothing; uncordoned, its share; with weight 3, three shares; cordoned, no more than before."""
    world = ControlWorld(3)

    async def story() -> None:
        async with world.running():
            loading = asyncio.create_task(world.send_steadily(RATES, 60))
            await world.decide(lambda policy: policy.with_cordon("cell-0001", drain=True))
            await world.until(world.at_rest, "drained", 90)
            assert world.map().counts()["cell-0001"] == 0
            await world.decide(lambda policy: policy.without_cordon("cell-0001").with_weight("cell-0001", 2))
            await world.until(lambda: world.map().counts()["cell-0001"] == 8192, "half of all", 120)
            await world.decide(lambda policy: policy.with_cordon("cell-0000").with_weight("cell-0001", 1))
            await world.until(
                lambda: world.map().counts()["cell-0001"] == 6144, "what the cordoned one can't take", 120
            )
            assert world.map().counts() == {"cell-0000": 4096, "cell-0001": 6144, "cell-0002": 6144}
            await loading
            await world.settled()

    play(world.clock, story())
    each_once(world)


def test_a_cell_that_cannot_be_launched_is_given_up_and_all_goes_back() -> None:
    """After three failed launches there are as many cells as before, and nothing has moved."""
    world = ControlWorld(3)

    async def story() -> None:
        async with world.running():
            before = world.map()
            world.machines.broken.add("cell-0004")
            await world.decide(lambda policy: policy.with_cells(5, 3))
            await world.until(lambda: "end scaling" in actions(world.control.contents.audit), "given up", 120)
            await world.until(world.at_rest, "as before", 120)
            assert world.control.contents.policy.cells == 3
            assert moved(before.owners, world.map().owners) == 0
            last = [entry for entry in world.control.contents.audit if entry.action == "end scaling"]
            assert "cell-0004 failed 3 launches" in last[0].why

    play(world.clock, story())


def test_a_cell_that_does_not_answer_its_canary_gets_nothing() -> None:
    """It has a lease, but refuses every canary; then there are as many cells as before."""
    world = ControlWorld(3)
    world.cells.cells["cell-0003"].refuses = True

    async def story() -> None:
        async with world.running():
            before = world.map()
            await world.decide(lambda policy: policy.with_cells(4, 3))
            await world.until(lambda: "end scaling" in actions(world.control.contents.audit), "given up", 120)
            await world.until(world.at_rest, "as before", 120)
            assert moved(before.owners, world.map().owners) == 0
            assert actions(world.control.contents.audit).count("verify failed") == 3

    play(world.clock, story())


def test_what_a_dead_router_has_begun_ends_before_its_key_moves() -> None:
    """The old cell works on it for longer than the router lives; no other cell gets the key before it is done."""
    world = ControlWorld(3)
    for cell in world.cells.cells.values():
        cell.time_of_event = lambda event: 0.01 if event.canary else 25

    async def story() -> None:
        async with world.running() as (_, data):
            await world.send(1, key=lambda _: "tenant-1")
            old = world.map().cell_of("tenant-1")
            await world.until(lambda: world.cells.cells[old].begun["tenant-1"] > 0, "begun")
            data.pop().kill()
            data.append(world.routing_process("next"))
            there = next(cell for cell in sorted(world.map().cells()) if cell != old)
            await world.decide(lambda policy: policy.with_pin("tenant-1", there))
            await world.clock.sleep(10)
            assert world.map().move is not NO_MOVE
            await world.until(world.at_rest, "moved")
            assert world.cells.cells[old].done == Counter(["e0"])
            await world.settled()

    play(world.clock, story())
    assert world.strangers == []


@pytest.mark.parametrize("seed", range(6))
def test_moves_that_are_interrupted_at_any_step_are_finished_or_undone(seed: int) -> None:
    """Leaders, routers and instances die during many changes; others go on, and all comes to rest."""
    chance = random.Random(seed)
    world = ControlWorld(3, fifo=bool(seed % 2), quarantine_s=20)
    for cell in world.cells.cells.values():
        cell.time_of_event = lambda event: 0.01 if event.canary else chance.uniform(0.01, 3)
    at_risk: set[str] = set()  # who sent it, or who got it, may have died before the effect was known

    def unsettled() -> set[str]:
        done = {name: at for cell in world.cells.cells.values() for name, at in cell.done_at.items()}
        return {name for name in world.sent if done.get(name, inf) > world.clock.now - 5}

    async def interrupt(control: list[Process], data: list[Process]) -> None:
        for number in range(12):
            await world.clock.sleep(chance.uniform(0.2, 4))
            match chance.choice(["controller", "router", "instance", "policy"]):
                case "controller":
                    control.pop(0).kill()
                    control.append(world.controller(f"controller-{10 + number}"))
                case "router":
                    at_risk.update(unsettled())
                    data.pop(0).kill()
                    data.append(world.routing_process(f"router-{10 + number}"))
                case "instance":
                    at_risk.update(unsettled())
                    world.machines.end(*chance.choice(sorted(world.machines.running)))
                case _:
                    count = chance.randint(2, MOST_CELLS - 2)
                    now = world.control.contents.policy.cells or 3
                    key, cell = f"tenant-{chance.randrange(40)}", f"cell-000{chance.randrange(2)}"
                    await world.decide(partial(Policy.with_cells, count=count, now=now))
                    await world.decide(partial(Policy.with_pin, key=key, cell_id=cell))

    async def story() -> None:
        async with world.running(controllers=2, routers=2) as (control, data):
            loading = asyncio.create_task(world.send_steadily(dict.fromkeys(RATES, 1.0), 30))
            await interrupt(control, data)
            await loading
            await world.until(world.at_rest, "at rest", 300)
            await world.settled()
            await world.until(lambda: not len(world.quarantine), "nothing is in quarantine")
            await world.settled()
            assert world.map().move is NO_MOVE

    play(world.clock, story())
    effects = world.cells.effects()
    assert set(effects) == world.sent
    assert {event_id for event_id, count in effects.items() if count > 1} <= at_risk
    assert world.strangers == []
