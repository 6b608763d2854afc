"""The trial that a cell called slow has in the simulation: beside it stands a twin, and both get the same canaries.

What a detector calls slow is not replaced yet. A twin is launched; then canaries go to both at the same moments, from
the leader and from every router, and routers send the cell little at once. Where handlers rehearse, routers have both
do copies of the cell's events. Only what is slower than its twin, by the rule of the real trial, is replaced. One trial
runs at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random  # noqa: TID251 - seeded by whoever draws
from typing import Final

from router.core.control.ladder import RECOVERED_MS
from router.core.control.records import twin_dismissed
from router.core.control.twins import comes_and_goes, why_no_trial
from router.core.detection.assessment import Verdict
from router.core.detection.trial import CanaryPair, CopyPair, Finding, Terms, judge_trial
from router.core.models import CellRecord
from tests.support.detector_world import LEADER, Canary, SimulatedCell, World

LAUNCH_S: Final = 4  # until the twin takes canaries
PAIRS_A_SECOND: Final = 2  # of each vantage point
WARM_UP_S: Final = 60.0  # for which a twin that is slower than usual may be cold


@dataclass(slots=True)
class _Trial:
    generation: int
    begins_at: float
    comes_and_goes: bool
    cold_s: float  # for how long the twin is cold
    pairs: list[CanaryPair] = field(default_factory=list)
    copies: list[CopyPair] = field(default_factory=list)


@dataclass(slots=True)
class Trials:
    """The trials that follow from what one detector calls sick."""

    canary: Canary
    draw: Random
    rehearses: bool = False
    _running: dict[str, _Trial] = field(default_factory=dict)
    _records: dict[str, CellRecord] = field(default_factory=dict)
    _called_at: dict[str, float] = field(default_factory=dict)  # cell → when it was last called sick
    _since: dict[str, tuple[int, float]] = field(default_factory=dict)  # cell → its generation, and since when

    def second(self, now: float, world: World, called: Mapping[str, Verdict]) -> list[str]:
        """Return the cells that are treated now: at once if they fail or hang, else if they lost their trial."""
        treated = [cell_id for cell_id, verdict in called.items() if verdict is not Verdict.SLOW]
        cells = {cell.cell_id: cell for cell in world.cells}
        self._follow(world, now)
        for cell_id, trial in list(self._running.items()):
            cell = cells[cell_id]
            if cell.down or cell.generation != trial.generation:
                del self._running[cell_id]
            elif now >= trial.begins_at:
                self._send(trial, cell, world.routers, now)
                age_s = now - self._since[cell_id][1]
                terms = Terms(self.canary.cost_s, WARM_UP_S, self.rehearses, trial.comes_and_goes, age_s)
                found = judge_trial(trial.pairs, trial.copies, now - trial.begins_at, now, terms).finding
                if found is not Finding.OPEN:
                    treated += [cell_id] if found is Finding.SLOWER else []
                    self._records[cell_id] = twin_dismissed(self._record(cell_id), 0, _ms(now), "").record
                    del self._running[cell_id]
        for cell_id, verdict in called.items():
            if verdict is Verdict.SLOW:
                self._begin(cells[cell_id], now)
        return treated

    def _follow(self, world: World, now: float) -> None:
        first = not self._since
        for cell in world.cells:
            if cell.generation != self._since.get(cell.cell_id, (0, 0.0))[0]:
                self._since[cell.cell_id] = cell.generation, now - WARM_UP_S * first

    def _begin(self, cell: SimulatedCell, now: float) -> None:
        cell_id = cell.cell_id
        record, called_at = self._record(cell_id), self._called_at.get(cell_id, now)
        self._called_at[cell_id] = now
        if now - called_at > RECOVERED_MS / 1000:
            record = self._records[cell_id] = replace(record, recovered_at_ms=_ms(now))
        if not self._running and why_no_trial(record, _ms(now)) is None:
            cold_s = cell.cold.drawn_s(self.draw)
            again = comes_and_goes(record, _ms(now))
            self._running[cell_id] = _Trial(cell.generation, now + LAUNCH_S, again, cold_s)

    def _record(self, cell_id: str) -> CellRecord:
        return self._records.setdefault(cell_id, CellRecord(cell_id))

    def _send(self, trial: _Trial, cell: SimulatedCell, routers: int, now: float) -> None:
        for step in reversed(range(PAIRS_A_SECOND)):
            at = now - step / PAIRS_A_SECOND
            coldness = cell.cold.times_at(at - trial.begins_at, trial.cold_s)
            trial.pairs += [self._pair(cell, vantage, at, coldness) for vantage in range(LEADER, routers)]
            if not self.rehearses or not cell.tenants:
                continue
            for router in range(routers):
                own_s, twin_s, dear = cell.rehearsed_s(self.draw, coldness)
                beside = self._pair(cell, router, at, coldness)
                trial.copies.append(CopyPair(str(router), at, own_s, twin_s, beside, 1 + dear))

    def _pair(self, cell: SimulatedCell, vantage: int, at: float, coldness: float) -> CanaryPair:
        own_s = cell.cushioned_canary_s(self.canary, vantage, self.draw)
        return CanaryPair(str(vantage), at, own_s, cell.twin_canary_s(self.canary, vantage, self.draw, coldness))


def _ms(now: float) -> int:
    return round(1000 * (now + 10_000))  # a run begins before 0, and no record's time is negative
