"""A router with a slow path to one cell costs no cell its instance: the others, and the leader, find nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from router.core.models import Event, Result, Rung, Target
from tests.support.control_world import Process
from tests.support.fake_clock import play
from tests.support.sick_world import VICTIM, WARM_S, SickWorld

FAR = "router-0"


class LongPath:
    """A CellClient whose way to one cell is long, to the worlds' cells."""

    def __init__(self, world: SickWorld) -> None:
        self._world, self._cells = world, world.cells
        self.extra_s = 0.0

    async def process(self, target: Target, batch: Sequence[Event]) -> AsyncIterator[Result]:
        if target.cell_id == VICTIM:
            await self._world.clock.sleep(self.extra_s)
        async for result in self._cells.process(target, batch):
            yield result


class PathWorld(SickWorld):
    """A world of sick cells in which one router has a path of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.far = LongPath(self)

    def routing_process(self, name: str) -> Process:
        cells: Any = self.cells
        self.cells = self.far if name == FAR else cells  # type: ignore[assignment] # the port is all that it is used by
        try:
            return super().routing_process(name)
        finally:
            self.cells = cells


@pytest.mark.parametrize("extra_s", [0.15, 1.0])
def test_a_slow_path_of_one_of_two_routers_is_named_and_nothing_is_done(extra_s: float) -> None:
    """Half of the cell's events take several times as long, and so do this router's canaries."""
    world = PathWorld()
    world.warm_up_s = 15

    async def story() -> None:
        async with world.under_load(80):
            before = world.generations()
            await world.clock.sleep(2 * WARM_S)
            assert {found.assessment.canary_points for found in world.control.contents.conditions.values()} == {3}
            world.far.extra_s = extra_s
            await world.clock.sleep(30)
            said = world.control.contents.conditions[VICTIM].assessment.slow_paths
            assert any(path.startswith(f"{FAR} → {VICTIM}: ") for path in said)
            assert world.rungs() == {Rung.WELL}
            assert world.generations() == before

    play(world.clock, story())
