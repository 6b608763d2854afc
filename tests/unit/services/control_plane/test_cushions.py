"""A cell that looks slow is cushioned by all routers within three seconds; on virtual time, with both planes."""

from __future__ import annotations

import pytest

from tests.support.fake_cells import Sickness
from tests.support.sick_world import BASE_S, VICTIM, SickWorld, in_sick_world

PLACES = 16


def windows(world: SickWorld) -> set[int]:
    """Return the windows of the routers' lanes to the victim."""
    return {router.dispatcher.paths[VICTIM].lane.window for router in world.routers}


@pytest.mark.parametrize(
    "sickness", [Sickness(factor=3), Sickness(event_extra_s=2 * BASE_S)], ids=["events and canaries", "events alone"]
)
def test_a_slow_cell_is_cushioned_within_three_seconds_and_no_longer_than_it_is_slow(sickness: Sickness) -> None:
    """Whenever it begins between two reports; its instance stays, and so do the other cells' windows."""
    took: list[float] = []

    async def story(world: SickWorld) -> None:
        async with world.under_load(24):
            for episode in range(2):
                begun = world.fall_ill(VICTIM, sickness)
                await world.until(lambda: PLACES not in windows(world), "cushioned", 20)
                took.append(world.clock.now - begun)
                assert world.control.contents.conditions[VICTIM].cushion is not None
                assert (await world.look()).cushioned == {VICTIM}
                world.cells.cells[VICTIM].sick.clear()
                await world.until(lambda: windows(world) == {PLACES}, "open again", 4)
                await world.clock.sleep(5 + episode * 0.231)
        assert set(world.generations().values()) == {1}

    in_sick_world(story)
    assert max(took) <= 3, took


def test_a_slow_cell_is_cushioned_until_its_twin_has_taken_over() -> None:
    """First it gets no more than usual, in the trial little, and the twin is not cushioned."""
    seen: list[set[int]] = []

    async def story(world: SickWorld) -> None:
        async with world.under_load(40):
            world.fall_ill(VICTIM, Sickness(factor=3))
            while world.record(VICTIM).generation == 1:
                await world.clock.sleep(0.1)
                seen.append(windows(world))
            await world.clock.sleep(5)
            assert not (await world.look()).cushioned

    in_sick_world(story)
    first = seen.index(next(each for each in seen if PLACES not in each))
    assert first <= 30
    assert all(PLACES not in each for each in seen[first:-1])
