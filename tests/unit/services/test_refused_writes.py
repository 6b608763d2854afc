"""The registry answers and takes no writes, of anybody or of cells alone: the data plane goes on, as does the fleet."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from router.core.telemetry import ActionTaken, LeasesDoubted
from tests.support.control_world import ControlWorld
from tests.support.fake_cells import Sickness
from tests.support.fake_clock import play

RATES = {f"tenant-{i}": 2.0 for i in range(20)}
REFUSED_S = 60.0
WRITES_S = 5  # P14: so long after the end the leader has written


def doubts(world: ControlWorld) -> list[bool]:
    """List whether leases were in doubt, as routers and controllers have told."""
    return [record.why is not None for record in world.notes.records if isinstance(record, LeasesDoubted)]


@pytest.mark.parametrize("of_cells_alone", [False, True])
def test_while_writes_are_refused_no_target_is_lost_and_no_instance_is_stopped(*, of_cells_alone: bool) -> None:
    """As many events as before; every lease ends and none counts; soon after the end the leader writes again."""
    world = ControlWorld(4)

    async def story() -> None:
        async with world.running(controllers=2, routers=2):
            await world.clock.sleep(10)
            launches, actions = len(world.machines.launches), world.notes.count(ActionTaken)
            loading = asyncio.create_task(world.send_steadily(RATES, REFUSED_S + 30))
            await world.clock.sleep(10)
            if of_cells_alone:
                world.control.cells_refused = True
            else:
                world.control.refusing = True
            await world.clock.sleep(REFUSED_S)
            assert not any(lease.live for lease in (await world.look()).leases)
            assert len(world.source) < 20
            conditions = dict(world.control.contents.conditions)
            world.control.refusing = world.control.cells_refused = False
            await world.clock.sleep(WRITES_S)
            assert world.control.contents.conditions != conditions
            await loading
            await world.settled()
            assert len(world.machines.launches) == launches
            assert world.notes.count(ActionTaken) == actions

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert max(world.latencies(RATES, 0, 1e9)) < 2
    assert Counter(doubts(world)) == ({True: 4, False: 4} if of_cells_alone else {True: 2, False: 2})


def test_a_cell_that_dies_while_no_lease_is_renewed_is_found_and_replaced() -> None:
    """Its calls fail, so its events wait; the provisioner has seen it end; the others go on."""
    world = ControlWorld(4)

    async def story() -> None:
        async with world.running():
            await world.clock.sleep(5)
            world.control.cells_refused = True
            await world.clock.sleep(5)
            world.machines.end("cell-0001", 1)
            world.cells.cells["cell-0001"].down = True
            loading = asyncio.create_task(world.send_steadily(RATES, 20))
            await world.until(lambda: ("cell-0001", 2) in world.machines.launches, "its successor was launched")
            world.cells.cells["cell-0001"].down = False
            await loading
            world.control.cells_refused = False
            await world.until(lambda: world.serving() == 4, "every cell serves")
            await world.settled()
            assert {cell_id for cell_id, generation in world.machines.launches if generation > 1} == {"cell-0001"}

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))


@pytest.mark.parametrize("cells", [1, 2, 4])
def test_when_all_cells_hang_each_is_replaced(cells: int) -> None:
    """Nobody renews, so no ended lease counts by itself; but an instance that answers no canary either is dead."""
    world = ControlWorld(cells)

    async def story() -> None:
        async with world.running():
            await world.clock.sleep(5)
            for cell_id in world.cell_ids[:cells]:
                world.machines.running[cell_id, 1].cancel()  # it beats no more, and still runs
                world.cells.cells[cell_id].sick[1] = Sickness(hangs=True)
            loading = asyncio.create_task(world.send_steadily(RATES, 20))
            await world.until(
                lambda: all(record.generation == 2 for record in world.control.contents.cells.values()),
                "each cell has another instance",
            )
            await world.until(
                lambda: all(world.cells.generations[cell_id, 2] for cell_id in world.cell_ids[:cells]),
                "each of those has the traffic",
            )
            loading.cancel()

    play(world.clock, story())
    assert len(world.machines.launches) == 2 * cells
