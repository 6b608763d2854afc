"""The trial that a cell called slow has in the simulation: beside it stands a twin, and both get the same canaries.

What a detector calls slow is not replaced yet. A twin is launched; then canaries go to both at the same moments, from
the leader and from every router, and routers send the cell little at once. Only what is slower than its twin, by the
rule of the real trial, is replaced. One trial runs at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random  # noqa: TID251 - seeded by whoever draws
from typing import Final

from router.core.control.twins import AGAIN_MS
from router.core.detection.assessment import Verdict
from router.core.detection.trial import CanaryPair, Finding, judge_trial
from tests.support.detector_world import LEADER, Canary, SimulatedCell, World

LAUNCH_S: Final = 4  # until the twin takes canaries
PAIRS_A_SECOND: Final = 2  # of each vantage point
WARM_UP_S: Final = 60.0  # for which a twin that is slower than usual may be cold


@dataclass(slots=True)
class _Trial:
    generation: int
    begins_at: float
    pairs: list[CanaryPair] = field(default_factory=list)


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
                trial.pairs += self._pairs(cell, world.routers, now)
                lasted_s = now - trial.begins_at
                found = judge_trial(trial.pairs, lasted_s, now, self.canary.cost_s, WARM_UP_S).finding
                if found is not Finding.OPEN:
                    treated += [cell_id] if found is Finding.SLOWER else []
                    self._not_before[cell_id] = now + AGAIN_MS / 1000
                    del self._running[cell_id]
        for cell_id, verdict in called.items():
            if verdict is Verdict.SLOW and not self._running and now >= self._not_before.get(cell_id, now):
                self._running[cell_id] = _Trial(cells[cell_id].generation, now + LAUNCH_S)
        return treated

    def _pairs(self, cell: SimulatedCell, routers: int, now: float) -> list[CanaryPair]:
        return [
            CanaryPair(
                str(vantage),
                now - step / PAIRS_A_SECOND,
                cell.cushioned_canary_s(self.canary, vantage, self.draw),
                cell.twin_canary_s(self.canary, vantage, self.draw),
            )
            for step in reversed(range(PAIRS_A_SECOND))
            for vantage in range(LEADER, routers)
        ]
