"""What a process remembers of the last hour, in a bounded memory: 9 bytes a step for each cell. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Final

from router.core.fleet.cell_health import CellHealth
from router.core.fleet.cells import FleetCell, Load

STEP_MS: Final = 10_000
STEPS: Final = 360  # an hour
RECENT: Final = 60  # steps that are told of every cell at once: ten minutes
_HEALTH: Final = tuple(
    CellHealth
)  # from the worst; a byte of the memory is a place in it, and one more is nothing known
_NOTHING: Final = len(_HEALTH)
_PLACE: Final = {health: place for place, health in enumerate(_HEALTH)}


@dataclass(frozen=True, slots=True)
class Past:
    """How something went, the oldest step first; None where nothing was seen in a step."""

    rate: Sequence[float | None]  # events a second
    latency_ms: Sequence[float | None]  # the highest in the step
    health: Sequence[str | None]  # the worst in the step


class _Ring:
    """The steps of one cell, or of all together."""

    __slots__ = ("health", "latency_ms", "rate")

    def __init__(self) -> None:
        self.rate = array("f", [nan] * STEPS)
        self.latency_ms = array("f", [nan] * STEPS)
        self.health = bytearray([_NOTHING] * STEPS)

    def forget(self, place: int) -> None:
        self.rate[place] = self.latency_ms[place] = nan
        self.health[place] = _NOTHING

    def note(self, place: int, load: Load, health: CellHealth) -> None:
        """Keep the highest figures and the worst health of a step."""
        latency_ms = load.latency_s * 1000 if load.latency_s is not None else nan
        self.rate[place] = _higher(self.rate[place], load.rate)
        self.latency_ms[place] = _higher(self.latency_ms[place], latency_ms)
        self.health[place] = min(self.health[place], _PLACE[health])

    def past(self, places: Sequence[int]) -> Past:
        return Past(
            [_figure(self.rate[place]) for place in places],
            [_figure(self.latency_ms[place]) for place in places],
            [_HEALTH[found] if (found := self.health[place]) < _NOTHING else None for place in places],
        )


class History:
    """The last hour of every cell and of the fleet, in steps of 10 s."""

    def __init__(self) -> None:
        self._fleet = _Ring()
        self._cells: dict[str, _Ring] = {}
        self.step = 0  # the newest, counted since 1970; 0: nothing was noted yet

    def note(self, now_ms: int, fleet: Load, cells: Iterable[FleetCell]) -> None:
        """Take in how the cells are now. A clock that goes back adds to the newest step."""
        self._go_to(now_ms // STEP_MS)
        place, worst, there = self.step % STEPS, CellHealth.WELL, set()
        for cell in cells:
            cell_id = cell.view.cell_id
            there.add(cell_id)
            if (ring := self._cells.get(cell_id)) is None:
                ring = self._cells[cell_id] = _Ring()
            ring.note(place, cell.load, cell.health)
            worst = min(worst, cell.health, key=_PLACE.__getitem__)
        self._fleet.note(place, fleet, worst)
        for gone in self._cells.keys() - there:
            del self._cells[gone]

    def fleet(self) -> Past:
        """Return the whole hour of all cells together."""
        return self._fleet.past(self._places(STEPS))

    def recent(self) -> dict[str, Past]:
        """Return the last ten minutes of each cell."""
        places = self._places(RECENT)
        return {cell_id: ring.past(places) for cell_id, ring in self._cells.items()}

    def cell(self, cell_id: str) -> Past | None:
        """Return the whole hour of one cell; None when there is no such cell."""
        ring = self._cells.get(cell_id)
        return ring.past(self._places(STEPS)) if ring is not None else None

    def _places(self, count: int) -> Sequence[int]:
        return [step % STEPS for step in range(self.step - count + 1, self.step + 1)]

    def _go_to(self, step: int) -> None:
        for passed in range(max(self.step + 1, step - STEPS + 1), step + 1):
            for ring in (self._fleet, *self._cells.values()):
                ring.forget(passed % STEPS)
        self.step = max(self.step, step)


def _higher(one: float, other: float) -> float:
    return other if isnan(one) else one if isnan(other) else max(one, other)


def _figure(value: float) -> float | None:
    return None if isnan(value) else round(value, 2)
