"""Everything goes wrong at once, in many seeded ways: nothing is lost and no effect comes twice (P1, P2)."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random  # noqa: TID251 - seeded by the test

import pytest

from router.core.models import Event, Outcome
from tests.support.fake_clock import play
from tests.support.faulty_source import Faults, FaultySource
from tests.support.router_world import World

BAD = Faults(refused=0.05, lost_reply=0.05, partial=0.05, again=0.02, shuffled=0.1)
NONE = Faults()


def make_faulty(world: World, faults: Faults, chance: Random) -> list[FaultySource]:
    """List all queues of a world."""
    world.source, world.dead, world.quarantine, *holds = queues = [  # type: ignore[assignment] # as good as those
        FaultySource(queue, faults, chance)
        for queue in (world.source, world.dead, world.quarantine, *world.holds.values())
    ]
    world.holds = dict(zip(world.cell_ids, holds, strict=True))  # type: ignore[arg-type] # as above
    return queues


async def havoc(world: World, chance: Random, seconds: float) -> None:
    """Let cells crash, hang, slow down and refuse, and routers die without a drain."""
    ends_at = world.clock.now + seconds
    while world.clock.now < ends_at:
        cell_id = chance.choice(world.cell_ids)
        cell = world.cells.cells[cell_id]
        match chance.choice(["crash", "die", "slow", "refuse", "mend"]):
            case "crash":
                world.crash(cell_id)
            case "die":
                cell.dies_after = chance.randrange(5)
            case "slow":
                cell.seconds = chance.choice([0.01, 1.0, 40.0])
            case "refuse":
                cell.refuses = True
            case "mend":
                mend(world, cell_id)
        running = [asyncio.create_task(world.router().run(asyncio.Event())) for _ in range(chance.randint(1, 2))]
        await world.clock.sleep(chance.random() * 5)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def mend(world: World, cell_id: str) -> None:
    """Give a cell a new instance that has nothing wrong with it."""
    cell = world.cells.cells[cell_id]
    cell.refuses, cell.seconds = False, 0.01
    world.replace(cell_id)


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost_and_nothing_done_twice(seed: int) -> None:
    """Queues fail in every way, cells and routers too; some events always fail, some are rejected, some malformed."""
    chance = Random(seed)
    world = World(cells=3, max_attempts=3, max_messages=60, quarantine_s=30)
    fates: dict[str, Outcome] = {}

    def behaviour(event: Event) -> Outcome:
        return fates.get(event.event_id, Outcome.OK)

    for cell in world.cells.cells.values():
        cell.behaviour = behaviour

    async def story() -> None:
        await world.send(400)
        for number in chance.sample(range(400), 20):
            fates[f"e{number}"] = chance.choice([Outcome.FAILED, Outcome.REJECTED])
        await world.send_raw("no json", group="x")
        queues = make_faulty(world, BAD, chance)
        await havoc(world, chance, 60)
        for queue in queues:
            queue.faults = NONE
        for cell_id in world.cell_ids:
            mend(world, cell_id)
        async with world.routing():
            await world.settled(3000)
            while len(world.quarantine):
                await world.clock.sleep(1)
            await world.settled(3000)

    play(world.clock, story())
    effects = world.cells.effects()
    assert set(effects.values()) == {1}
    dead = {letter.event_id for letter in asyncio.run(world.dead_letters())}
    assert effects.keys() | dead == world.sent | {""}  # "": the malformed one
    assert dead == fates.keys() | {""}


@pytest.mark.parametrize("seed", range(6))
def test_fifo_keeps_its_order_whatever_fails(seed: int) -> None:
    """Under the same faults each group's effects come in the order of the queue (P3)."""
    chance = Random(seed)
    world = World(cells=3, max_attempts=3, max_messages=60, quarantine_s=30, fifo=True)

    async def story() -> None:
        await world.send(200, key=lambda i: f"tenant-{i % 10}")
        queues = make_faulty(world, Faults(refused=0.05, lost_reply=0.05, partial=0.05), chance)
        await havoc(world, chance, 40)
        for queue in queues:
            queue.faults = NONE
        for cell_id in world.cell_ids:
            mend(world, cell_id)
        async with world.routing():
            await world.settled(3000)

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    for cell in world.cells.cells.values():
        for number in range(10):
            done = [int(name[1:]) for name in cell.order if int(name[1:]) % 10 == number]
            assert done == sorted(done)


def test_without_faults_hardly_anything_is_delivered_twice() -> None:
    """At most 0.1 % of deliveries are duplicates (P2)."""
    world = World()

    async def story() -> None:
        async with world.routing():
            for _ in range(20):
                await world.send(100)
                await world.clock.sleep(0.5)
            await world.settled()

    play(world.clock, story())
    deliveries = sum(sum(cell.deliveries.values()) for cell in world.cells.cells.values())
    assert deliveries - len(world.sent) <= 0.001 * len(world.sent)
