"""A slow instance stands trial beside its twin before it is replaced; on virtual time, with both planes."""

from __future__ import annotations

import asyncio
from zlib import crc32

import pytest

from router.core.control.twins import AGAIN_MS, NOT_THE_INSTANCE
from router.core.models import Event, Rung
from tests.support.fake_cells import Sickness
from tests.support.sick_world import VICTIM, SickWorld, in_sick_world


def whys(world: SickWorld, action: str) -> list[str]:
    """List the reasons of the victim's audited actions of this name."""
    return [e.why for e in world.control.contents.audit if (e.cell_id, e.action) == (VICTIM, action)]


def test_a_slow_instance_is_replaced_once_its_twin_has_shown_that_it_is_faster() -> None:
    """The audit has both latencies."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(60):
            world.fall_ill(VICTIM, Sickness(factor=3))
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 25)
            why = whys(world, "admit")[-1]
            assert why.startswith("generation 1 is slower: 150 ms, its twin 50 ms (medians of ")
            assert why.endswith("from 3 vantage points), generation 2")  # the leader and two routers

    in_sick_world(story)


def test_what_slows_the_twin_too_replaces_nobody() -> None:
    """The cell's work, or a dependency of its own: it is said, no budget is spent, and no key waits long."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(150):
            world.fall_ill(VICTIM, Sickness(extra_s=0.3), generations=9)
            await world.until(lambda: whys(world, "keep instance") != [], "kept", 90)
            record = world.record(VICTIM)
            assert (record.generation, record.replaced_at_ms, record.launch_failures) == (1, 0, 0)
            assert "it is not the instance: 350 ms, its twin 350 ms" in whys(world, "keep instance")[0]
            await world.until(lambda: (VICTIM, 2) not in world.machines.running, "the twin has ended", 5)
            await world.clock.sleep(30)
            assert world.rung() is Rung.GUARDED
            assert world.record(VICTIM).treatment.why == NOT_THE_INSTANCE
            assert len([launch for launch in world.machines.launches if launch[0] == VICTIM]) == 2
        assert set(world.generations().values()) == {1}

    in_sick_world(story)


def test_another_trial_follows_later() -> None:
    """What slowed the cell may have become its instance's own trouble."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(AGAIN_MS / 1000 + 150):
            sick = world.cells.cells[VICTIM].sick
            world.fall_ill(VICTIM, Sickness(extra_s=0.3), generations=9)
            await world.until(lambda: whys(world, "keep instance") != [], "kept", 90)
            del sick[3]
            await world.clock.sleep(AGAIN_MS / 1000 - 10)
            assert world.record(VICTIM).launched == 2
            await world.until(lambda: world.record(VICTIM).generation == 3, "replaced", 60)

    in_sick_world(story)


def test_a_cold_twin_is_waited_for_and_takes_over() -> None:
    """Its first 10 s are as slow as the sick instance's."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(90):
            world.fall_ill(VICTIM, Sickness(factor=3), generations=2)
            await world.until(lambda: (VICTIM, 2) in world.machines.running, "launched", 20)
            await world.clock.sleep(10)
            del world.cells.cells[VICTIM].sick[2]
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 25)

    in_sick_world(story, warm_up_s=30)


def test_a_twin_that_hangs_is_given_up_and_followed_by_another() -> None:
    """A launch that came to nothing, not a trial that acquits."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(90):
            world.fall_ill(VICTIM, Sickness(factor=3))
            world.cells.cells[VICTIM].sick[2] = Sickness(hangs=True)
            await world.until(lambda: world.record(VICTIM).generation == 3, "replaced", 80)
            assert any("it answers no canary well" in why for why in whys(world, "give up launch"))

    in_sick_world(story)


def test_an_instance_that_dies_in_its_trial_is_replaced_at_once() -> None:
    """What is dead needs no trial."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(60):
            world.fall_ill(VICTIM, Sickness(factor=3), generations=2)
            await world.until(lambda: (VICTIM, 2) in world.machines.running, "launched", 20)
            await world.clock.sleep(2)
            world.cells.cells[VICTIM].sick.pop(2)
            world.machines.end(VICTIM, 1)
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 10)

    in_sick_world(story)


def test_another_leader_holds_the_trial_anew() -> None:
    """The first one dies in the middle of it."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(90, controllers=2) as control:
            world.fall_ill(VICTIM, Sickness(factor=3))
            await world.until(lambda: (VICTIM, 2) in world.machines.running, "launched", 20)
            await world.clock.sleep(3)
            control[0].kill()
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 40)
            assert len([launch for launch in world.machines.launches if launch[0] == VICTIM]) == 2

    in_sick_world(story)


def a_part(event: Event) -> bool:
    """Choose two of five events, whoever sends them."""
    return crc32(event.event_id.encode()) % 5 < 2


@pytest.mark.parametrize("rehearses", [True, False], ids=["rehearsed", "not rehearsed"])
def test_an_instance_that_is_slow_for_a_part_of_its_events_is_replaced_where_they_are_rehearsed(
    rehearses: bool,
) -> None:
    """Canaries are as quick as ever; the audit says how many events are not. Without rehearsals nobody knows."""

    async def story(world: SickWorld) -> None:
        world.machines.rehearses = rehearses
        async with world.under_load(75):
            world.fall_ill(VICTIM, Sickness(part=a_part, part_s=0.6))
            if not rehearses:
                await world.clock.sleep(45)
                assert not any(world.cells.cells[VICTIM].rehearsed.values())
                assert world.record(VICTIM).generation == 1
                return
            await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 70)
            why = whys(world, "admit")[-1]
            assert " events that both rehearsed: 650 ms, its twin 50 ms; its canaries 50 ms, its twin 50 ms" in why
        assert set(world.cells.cells[VICTIM].rehearsed) == {1, 2}
        assert all(not cell.rehearsed.get(1) for name, cell in world.cells.cells.items() if name != VICTIM)

    in_sick_world(story)


def test_a_flapping_instance_is_replaced_in_its_second_trial() -> None:
    """It is well in its first one; in the second one its twin stands by until it is slow again."""

    async def story(world: SickWorld) -> None:
        async def flap() -> None:
            while True:
                world.cells.cells[VICTIM].sick[1] = Sickness(factor=4)
                await world.clock.sleep(11)
                del world.cells.cells[VICTIM].sick[1]
                await world.clock.sleep(19)

        async with world.under_load(180):
            flapping = asyncio.create_task(flap())
            await world.until(lambda: world.record(VICTIM).generation > 1, "replaced", 180)
            flapping.cancel()
            assert len(whys(world, "keep instance")) == 1
            assert whys(world, "admit")[-1].startswith("generation 1 is slower: 200 ms, its twin 50 ms")
        assert {name for name, generation in world.generations().items() if generation > 1} == {VICTIM}

    in_sick_world(story)
