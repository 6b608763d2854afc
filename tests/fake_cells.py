"""Cells in memory, for the CellClient port: they process, dawdle, crash and refuse as told."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from router.core.errors import CellRefusedError, CellUnavailableError
from router.core.models import Event, Outcome, Result, Target
from router.ports import Clock

Behaviour = Callable[[Event], Outcome]


@dataclass
class FakeCell:
    """One cell: its memory of what it has done outlives a crash, as the real one's store does."""

    seconds: float = 0.01  # for each event
    down: bool = False
    dies_after: int | None = None  # results until it stops answering
    refuses: bool = False
    behaviour: Behaviour = lambda _: Outcome.OK
    done: Counter[str] = field(default_factory=Counter)  # event id → effects
    deliveries: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)


class FakeCells:
    """The CellClient port over several cells."""

    def __init__(self, clock: Clock, cells: Sequence[str]) -> None:
        self._clock = clock
        self.cells = {cell_id: FakeCell() for cell_id in cells}
        self.batches: list[int] = []

    async def process(self, target: Target, batch: Sequence[Event]) -> AsyncIterator[Result]:
        cell = self.cells[target.cell_id]
        if cell.down:
            raise CellUnavailableError("connection refused")
        if cell.refuses:
            raise CellRefusedError(409, "not mine")
        self.batches.append(len(batch))
        for index, event in enumerate(batch):
            await self._clock.sleep(cell.seconds)
            if cell.down or cell.dies_after == 0:
                raise CellUnavailableError("connection reset")
            cell.deliveries[event.event_id] += 1
            outcome = cell.behaviour(event)
            duplicate = outcome is Outcome.OK and cell.done[event.event_id] > 0
            if outcome is Outcome.OK and not duplicate:
                cell.done[event.event_id] += 1
                cell.order.append(event.event_id)
            if cell.dies_after is not None:
                cell.dies_after -= 1
            yield Result(index, outcome, "" if outcome is Outcome.OK else f"said {outcome}", duplicate)

    def effects(self) -> Counter[str]:
        """Event id → effects, over all cells."""
        return sum((cell.done for cell in self.cells.values()), Counter())
