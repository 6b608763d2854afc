"""A trouble that cells share is no cell's fault, also where one of them shows it first."""

from __future__ import annotations

from router.core.models import Rung
from tests.support.fake_cells import Sickness
from tests.support.sick_world import SickWorld, in_sick_world


def test_cells_whose_dependency_hangs_are_left_alone_though_one_shows_it_first() -> None:
    """Their canaries are out of step, by up to a second, so one of the cells is the first to hang."""

    async def story(world: SickWorld) -> None:
        async with world.under_load(40):
            for cell_id in world.generations():
                world.fall_ill(cell_id, Sickness(hangs=True))
                await world.clock.sleep(0.3)
            await world.clock.sleep(20)
            assert world.taken("restart instance", "replace") == []
            assert world.rungs() == {Rung.GUARDED}
            assert not any(record.treatment.ejected for record in world.control.contents.cells.values())
            for cell in world.cells.cells.values():
                cell.sick.clear()
            await world.until(lambda: world.rungs() == {Rung.WELL}, "well again", 60)

    in_sick_world(story)
