"""A world of sick cells in which one router has a path of its own to one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from router.core.models import Event, Result, Target
from tests.support.control_world import Process
from tests.support.sick_world import VICTIM, SickWorld

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
