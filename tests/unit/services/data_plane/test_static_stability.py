"""The registry dies, hangs, is emptied or restored to an older state: cells go on, and it becomes whole again."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter

import pytest

from router.core.slot_map.slots import SlotMap
from tests.support.control_world import ControlWorld, Process, actions
from tests.support.fake_clock import play
from tests.support.memory_registry import Contents

RATES = {f"tenant-{i}": 2.0 for i in range(40)}
WHOLE_S = 15  # P6: so long after its return the registry is what it was


def each_once(world: ControlWorld) -> None:
    """Check that every event had its effect once."""
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert len(world.dead) == 0


def facts(world: ControlWorld) -> tuple[SlotMap | None, dict[str, int], int]:
    """What must be as it was: the map, each cell's generation, the policy's version."""
    has = world.control.contents
    generations = {cell_id: record.generation for cell_id, record in has.cells.items()}
    return has.slot_map, generations, has.policy.version


def test_a_registry_that_is_away_for_ten_minutes_is_not_missed() -> None:
    """As many events as before; nothing launched or stopped; a minute later it is as it was."""
    world = ControlWorld(3)

    async def story() -> None:
        async with world.running(controllers=2, routers=2):
            before, launches = facts(world), len(world.machines.launches)
            loading = asyncio.create_task(world.send_steadily(RATES, 120))
            await world.clock.sleep(20)
            world.control.down = True
            await world.clock.sleep(80)
            assert len(world.source) < 50
            await world.clock.sleep(520)
            world.control.down = False
            await loading
            await world.settled()
            await world.clock.sleep(WHOLE_S)
            assert facts(world) == before
            assert len(world.machines.launches) == launches

    play(world.clock, story())
    each_once(world)
    slow = [at for at in world.latencies(RATES, 0, 1e9) if at > 5]
    assert not slow


@pytest.mark.parametrize("who_remembers", ["controllers", "routers"])
def test_an_emptied_registry_is_put_back(who_remembers: str) -> None:
    """The leader puts it back, or the routers when all controllers were restarted. No key moves."""
    world = ControlWorld(3)

    async def restarted(control: list[Process]) -> None:
        while control:
            control.pop().kill()
        control.append(world.controller("new"))

    async def story() -> None:
        async with world.running(controllers=2, routers=2) as (control, _):
            await world.decide(lambda policy: policy.with_pin("tenant-1", "cell-0001"))
            await world.until(world.at_rest, "pinned")
            world.machines.end("cell-0002", 1)
            await world.until(lambda: world.control.contents.cells["cell-0002"].verified == 2, "replaced")
            before, launches = facts(world), len(world.machines.launches)
            loading = asyncio.create_task(world.send_steadily(RATES, 40))
            await world.clock.sleep(10)
            if who_remembers == "routers":
                await restarted(control)
            world.control.contents = Contents()
            await world.clock.sleep(WHOLE_S)
            assert facts(world) == before
            assert world.serving() == 3
            await loading
            await world.settled()
            assert len(world.machines.launches) == launches

    play(world.clock, story())
    each_once(world)


def test_a_registry_that_lags_behind_is_brought_up_to_date() -> None:
    """A failover to a replica that misses the last changes: a move, a policy, an admitted generation."""
    world = ControlWorld(3)

    async def story() -> None:
        async with world.running(controllers=2, routers=2):
            loading = asyncio.create_task(world.send_steadily(RATES, 60))
            old = copy.deepcopy(world.control.contents)
            await world.decide(
                lambda policy: policy.with_pin("tenant-1", "cell-0001").with_pin("tenant-2", "cell-0002")
            )
            await world.until(world.at_rest, "pinned")
            world.machines.end("cell-0002", 1)
            await world.until(lambda: world.control.contents.cells["cell-0002"].verified == 2, "replaced")
            await world.clock.sleep(1)
            before, launches = facts(world), len(world.machines.launches)
            world.control.contents = old
            await world.clock.sleep(WHOLE_S)
            assert facts(world) == before
            await loading
            await world.settled()
            assert len(world.machines.launches) == launches

    play(world.clock, story())
    each_once(world)


def test_a_router_that_starts_without_the_registry_serves_from_what_the_last_one_knew() -> None:
    """The whole source is worked off before the registry is back."""
    world = ControlWorld(3)

    async def story() -> None:
        async with world.running() as (_, data):
            await world.send(100)
            await world.settled()
            data.pop().kill()
            world.control.down = True
            await world.send(200)
            data.append(world.routing_process("cold"))
            await world.settled(60)
            world.control.down = False
            await world.clock.sleep(WHOLE_S)
            assert [r.report.router_id for r in (await world.look()).routers if r.live] == ["cold"]

    play(world.clock, story())
    each_once(world)


def test_a_leader_without_memory_waits_before_it_makes_a_first_map() -> None:
    """A router that remembers a map gets its time to say so; when none does, there is a first map."""
    world = ControlWorld(2)

    async def story() -> None:
        async with world.running():
            done = actions(world.control.contents.audit)
            assert done.index("publish map") > done.index("create")
            assert world.map().epoch > 0

    play(world.clock, story())
