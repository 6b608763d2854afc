"""Has an instance on trial and its twin rehearse copies of the cell's latest events, at the same moments.

Guarantees: copies are kept only of events that were done, while their cell stands trial and both instances say that
their handler rehearses; they are never written anywhere. One copy of a cell is under way at a time, with a canary
beside it: what makes both of an instance slow is its load, and no part of it that is sick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from router.core.control.twins import both_rehearse, twin_of
from router.core.detection.samples import MAX_CANARIES, RehearsedPair, RehearsedPairs
from router.core.lanes.copies import RecentCopies, size_of
from router.core.models import CellRecord, Event
from router.core.registry import Snapshot
from router.ports import Clock
from router.services.canary import PAIR_EVERY_S, CanaryTimer, Probe
from router.services.loop_lag import LoopLag
from router.services.prober import SeenCells

REHEARSAL_TIMEOUT_S: Final = 10.0  # for an answer: by then it is no good one


class Rehearsals:
    """Knows the copies of cells on trial, and what came of them since the last report."""

    def __init__(
        self,
        seen: Callable[[], SeenCells | None],
        keep: Callable[[str, RecentCopies | None], object],
        probe: Probe,
        lag: LoopLag,
        clock: Clock,
    ) -> None:
        self._seen = seen
        self._keep = keep  # told where copies of a cell's events go from now on; None: nowhere
        self._probe = probe
        self._lag = lag
        self._clock = clock
        self._copies: dict[str, RecentCopies] = {}
        self._under_way: set[str] = set()  # cells
        self._turn = 0
        self._ended: dict[str, list[RehearsedPair]] = {}

    async def run(self) -> None:
        """Have copies rehearsed until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._clock.sleep(PAIR_EVERY_S)
                if (seen := self._seen()) is None:
                    continue
                self._follow(seen)
                for cell_id, copies in self._copies.items():
                    if cell_id not in self._under_way and (copy := copies.next()) is not None:
                        self._under_way.add(cell_id)
                        group.create_task(self._rehearse(seen.snapshot.cells[cell_id], copy, seen.snapshot))

    def pairs(self) -> Mapping[str, RehearsedPairs]:
        """Return what came of those that have ended since the last call, by cell."""
        found, self._ended = self._ended, {}
        return {cell_id: tuple(pairs[-MAX_CANARIES:]) for cell_id, pairs in found.items()}

    def _follow(self, seen: SeenCells) -> None:
        """Begin to keep copies of cells that stand trial now, and drop those of all others."""
        snapshot = seen.snapshot
        tried = {
            record.cell_id
            for record in snapshot.cells.values()
            if twin_of(record, snapshot)
            and both_rehearse(record, snapshot)
            and record.cell_id in seen.targets
            and seen.can_be_tried(record.cell_id)
        }
        for cell_id in self._copies.keys() - tried:
            del self._copies[cell_id]
            self._keep(cell_id, None)
        for cell_id in tried - self._copies.keys():
            self._copies[cell_id] = RecentCopies()
            self._keep(cell_id, self._copies[cell_id])

    async def _rehearse(self, record: CellRecord, copy: Event, snapshot: Snapshot) -> None:
        """Send a copy and a canary through both at the same moment, in turns the one first and then the other."""
        self._turn += 1
        canary = CanaryTimer(self._probe, self._lag, self._clock)
        rehearsal = CanaryTimer(partial(self._probe, event=copy), self._lag, self._clock)
        both = (record, replace(record, generation=record.twin))[:: 1 if self._turn % 2 else -1]
        within_s = REHEARSAL_TIMEOUT_S
        try:
            found = await asyncio.gather(
                *(timer.time(each, snapshot, within_s=within_s) for each in both for timer in (rehearsal, canary))
            )
        finally:
            self._under_way.discard(record.cell_id)
        answered = [each for each in found if each is not None]
        if len(answered) < len(found):
            return  # it says nothing
        (own, own_canary), (twin, twin_canary) = (answered[:2], answered[2:])[:: 1 if self._turn % 2 else -1]
        own_s, twin_s, own_canary_s, twin_canary_s = (each.latency_s for each in (own, twin, own_canary, twin_canary))
        size = size_of(copy)
        pair = RehearsedPair(record.generation, record.twin, own_s, twin_s, own_canary_s, twin_canary_s, size)
        self._ended.setdefault(record.cell_id, []).append(pair)
