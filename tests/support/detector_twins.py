"""The trial that a cell called slow has in the simulation: beside it stands a twin, and both get the same canaries.

What a detector calls slow is not replaced yet. A twin is launched; then canaries go to both at the same moments, from
the leader and from every router. Only what is slower than its twin is replaced. One trial runs at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log, sqrt
from random import Random  # noqa: TID251 - seeded by whoever draws
from statistics import fmean, stdev
from typing import Final

from router.core.detection.assessment import Verdict
from tests.support.detector_world import LEADER, Canary, SimulatedCell, World

LAUNCH_S: Final = 4  # until the twin takes canaries
TRIAL_S: Final = 8  # for which both get them
AGAIN_S: Final = 60.0  # after a trial that cleared a cell, until it may have another
MARGIN: Final = log(1.5)  # natural logarithm: how much slower than its twin is sick
MIN_ERRORS: Final = 3.0  # standard errors that the difference must be
MIN_VANTAGES: Final = 0.67  # share of the vantage points that must agree


@dataclass(frozen=True, slots=True)
class Pair:
    """What two canaries took that were sent at the same moment from the same vantage point, in seconds."""

    vantage: int
    own_s: float
    twin_s: float


def is_slower(pairs: Sequence[Pair]) -> bool:
    """Whether an instance is slower than its twin: a paired t-test of the logarithms, in which the vantages agree.

    It stands in for the real trial, and gets what that gets.
    """
    ratios = [log(pair.own_s / pair.twin_s) for pair in pairs]
    if len(ratios) < MIN_ERRORS or fmean(ratios) < MARGIN:
        return False
    if fmean(ratios) < MIN_ERRORS * stdev(ratios) / sqrt(len(ratios)):
        return False
    vantages = {pair.vantage for pair in pairs}
    agreeing = [
        vantage
        for vantage in vantages
        if fmean(log(pair.own_s / pair.twin_s) for pair in pairs if pair.vantage == vantage) > MARGIN / 2
    ]
    return len(agreeing) >= MIN_VANTAGES * len(vantages)


@dataclass(slots=True)
class _Trial:
    generation: int
    begins_at: float
    pairs: list[Pair] = field(default_factory=list)


@dataclass(slots=True)
class Trials:
    """The trials that follow from what one detector calls sick."""

    canary: Canary
    draw: Random
    _running: dict[str, _Trial] = field(default_factory=dict)
    _not_before: dict[str, float] = field(default_factory=dict)  # cell → when it may have the next trial

    def second(self, now: float, world: World, called: Mapping[str, Verdict]) -> list[str]:
        """Return the cells that are treated now: at once if they fail or hang, else if they lost their trial."""
        treated = [cell_id for cell_id, verdict in called.items() if verdict is not Verdict.SLOW]
        cells = {cell.cell_id: cell for cell in world.cells}
        for cell_id, trial in list(self._running.items()):
            cell = cells[cell_id]
            if cell.down or cell.generation != trial.generation:
                del self._running[cell_id]
            elif now >= trial.begins_at:
                trial.pairs += self._pairs(cell, world.routers)
                if now - trial.begins_at >= TRIAL_S:
                    treated += [cell_id] if is_slower(trial.pairs) else []
                    self._not_before[cell_id] = now + AGAIN_S
                    del self._running[cell_id]
        for cell_id, verdict in called.items():
            if verdict is Verdict.SLOW and not self._running and now >= self._not_before.get(cell_id, now):
                self._running[cell_id] = _Trial(cells[cell_id].generation, now + LAUNCH_S)
        return treated

    def _pairs(self, cell: SimulatedCell, routers: int) -> list[Pair]:
        return [
            Pair(
                vantage,
                cell.canary_s(self.canary, vantage, self.draw),
                cell.twin_canary_s(self.canary, vantage, self.draw),
            )
            for vantage in range(LEADER, routers)
        ]
