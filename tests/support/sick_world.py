"""A world of cells that fall ill under a steady load, on virtual time, with the whole control plane and data plane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from router.core.models import CellRecord, Rung
from tests.support.control_world import ControlWorld, Process, actions
from tests.support.fake_cells import Sickness
from tests.support.fake_clock import play

CELLS = 4
RATES = {f"tenant-{i}": 1.0 for i in range(60)}
BASE_S = 0.05
WARM_S = 20.0  # longer than the warm-up grace, and enough to learn what is usual
VICTIM = "cell-0001"


class SickWorld(ControlWorld):
    """A control world under a steady load, whose instances can fall ill."""

    def __init__(self, cells: int = CELLS) -> None:
        super().__init__(cells)
        for cell in self.cells.cells.values():
            cell.seconds, cell.canary_s = BASE_S, BASE_S

    @asynccontextmanager
    async def under_load(
        self, seconds: float, controllers: int = 1, rates: Mapping[str, float] = RATES
    ) -> AsyncIterator[list[Process]]:
        """Warm and loaded for so long after that; afterwards every event is accounted for."""
        async with self.running(controllers=controllers, routers=2) as (control, _):
            loading = asyncio.create_task(self.send_steadily(rates, WARM_S + seconds))
            await self.clock.sleep(WARM_S)
            before = self.map()
            yield control
            await loading
            await self.until(lambda: set(self.cells.effects()) == self.sent, "every event had its effect", 120)
            assert self.map().owners == before.owners
            assert max(self.cells.effects().values()) == 1

    def fall_ill(self, cell_id: str, sickness: Sickness, generations: int = 1) -> float:
        """Make so many generations sick, from the present one on; returns the time."""
        first = self.record(cell_id).generation
        for generation in range(first, first + generations):
            self.cells.cells[cell_id].sick[generation] = sickness
        return self.clock.now

    def rung(self, cell_id: str = VICTIM) -> Rung:
        """The cell's rung on the ladder."""
        return self.record(cell_id).treatment.rung

    def rungs(self) -> set[Rung]:
        """The rungs of all cells."""
        return {record.treatment.rung for record in self.control.contents.cells.values()}

    def record(self, cell_id: str) -> CellRecord:
        """The cell's record in the registry."""
        return self.control.contents.cells[cell_id]

    def generations(self) -> dict[str, int]:
        """The admitted generation of each cell."""
        return {cell_id: record.generation for cell_id, record in self.control.contents.cells.items()}

    def taken(self, *names: str) -> list[str]:
        """Those of the controllers' actions on the ladder that were taken, in order."""
        ladder = names or ("treat", "restart components", "restart instance", "replace", "reprovision", "give up")
        return [action for action in actions(self.control.contents.audit) if action in ladder]


def in_sick_world(
    story: Callable[[SickWorld], Coroutine[Any, Any, None]], cells: int = CELLS, warm_up_s: float = 15
) -> SickWorld:
    """Play a story in a world of sick cells."""
    world = SickWorld(cells)
    world.warm_up_s = warm_up_s
    play(world.clock, story(world))
    return world
