"""Asks instances how their components are, for a cell's page: each seldom, however many pages are open."""

from __future__ import annotations

from typing import Final

from router.core.errors import CellRefusedError, CellUnavailableError
from router.core.models import Target
from router.ports import Clock, InstanceControl

KEPT_S: Final = 5.0  # how old an answer may be that is shown again
WITHIN_S: Final = 1.0  # an instance that takes longer is shown as one that does not tell

Row = tuple[str, str]


class Components:
    """The newest answer of each cell's instance, as rows of a name and how it is."""

    def __init__(self, instances: InstanceControl, clock: Clock) -> None:
        self._instances = instances
        self._clock = clock
        self._answers: dict[str, tuple[float, int, list[Row]]] = {}  # by cell: when, of which generation, what

    async def rows(self, target: Target) -> list[Row]:
        """Return how the components of an instance are; when it does not tell, a row that says why."""
        now = self._clock.monotonic()
        at, generation, rows = self._answers.get(target.cell_id, (now - KEPT_S, 0, []))
        if now - at >= KEPT_S or generation != target.generation:
            self._answers[target.cell_id] = (now, target.generation, rows)  # who asks meanwhile gets the last answer
            rows = await self._asked(target)
            self._answers[target.cell_id] = (now, target.generation, rows)
        return rows

    async def _asked(self, target: Target) -> list[Row]:
        try:
            found = await self._instances.components(target, WITHIN_S)
        except (CellUnavailableError, CellRefusedError) as error:
            return [("its instance", f"does not tell: {error}")]
        return [
            (each.name, f"{'well' if each.healthy else 'not well'}{f': {each.detail}' * bool(each.detail)}")
            for each in found
        ]
