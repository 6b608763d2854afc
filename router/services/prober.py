"""Sends canaries from this router through the instances that have the traffic, and beside them through their twins.

A cell that is slow for the leader alone, or for one router alone, has a slow path; only several vantage points together
can tell that the cell is slow. While a twin stands beside a sick instance, both get their canaries at the same moment:
whatever slows the path then slows both.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from router.core.control.twins import twin_of
from router.core.detection.samples import MAX_CANARIES, Canaries, CanarySample
from router.core.models import CellRecord, Target
from router.core.registry import Snapshot
from router.ports import Clock
from router.services.canary import EVERY_S, MAX_RATE, PAIR_EVERY_S, CanaryTimer

ENOUGH: Final = 4  # canaries a second of all routers together through one cell: more routers send theirs less often
Instance = tuple[str, int]  # cell id, generation


class SeenCells(NamedTuple):
    """What the registry held when it was last read whole, and where this router sends events by that."""

    snapshot: Snapshot
    targets: Mapping[str, Target]  # by cell

    def can_be_tried(self, cell_id: str) -> bool:
        """Tell whether a canary can be sent through the instance that has the cell's traffic."""
        record, target = self.snapshot.cells[cell_id], self.targets[cell_id]
        has_lease = self.snapshot.lease(cell_id, record.generation) is not None
        return has_lease and target.generation == record.generation and not record.retired


class Prober:
    """Tries every cell once a second, or less often where cells or routers are many; a cell on trial twice a second."""

    def __init__(self, seen: Callable[[], SeenCells | None], timer: CanaryTimer, clock: Clock) -> None:
        self._seen = seen
        self._timer = timer
        self._clock = clock
        self._followed: SeenCells | None = None
        self._cells: Sequence[str] = ()  # that can be tried, sorted
        self._every_s = EVERY_S
        self._twins: Mapping[str, int] = {}  # cell → the generation beside its own
        self._last = ""  # the cell that was tried last
        self._pairs = 0
        self._pair_due: dict[str, float] = {}  # cell → when its next pair is due, in monotonic seconds
        self._under_way: dict[Instance, tuple[float, int]] = {}  # when it was sent, and the number of its pair
        self._ended: dict[str, list[CanarySample]] = {}  # by cell, since the last report

    async def run(self) -> None:
        """Send canaries until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                pause_s = max(self._every_s / max(1, len(self._cells)), 1 / MAX_RATE)
                pause_s = min(pause_s, PAIR_EVERY_S) if self._twins else pause_s
                await self._clock.sleep(pause_s)
                if (seen := self._seen()) is None:
                    continue
                self._follow(seen)
                for cell_id in self._due(self._clock.monotonic(), pause_s / 2):
                    tried = self._instances(seen.snapshot.cells[cell_id])
                    if not any((cell_id, each.generation) in self._under_way for each in tried):
                        group.create_task(self._send(tried, seen.snapshot))

    def canaries(self) -> Mapping[str, Canaries]:
        """Return the canaries that have ended since the last call, and those that are under way, by cell."""
        found, self._ended = self._ended, {}
        now = self._clock.monotonic()
        for (cell_id, generation), (sent, pair) in self._under_way.items():
            if now > sent:
                found.setdefault(cell_id, []).append(CanarySample(generation, None, now - sent, pair))
        return {cell_id: tuple(canaries[-MAX_CANARIES:]) for cell_id, canaries in found.items()}

    def _follow(self, seen: SeenCells) -> None:
        """Take in which instances there are, if that is new."""
        if seen is self._followed:
            return
        self._followed = seen
        self._every_s = EVERY_S * max(1.0, sum(router.live for router in seen.snapshot.routers) / ENOUGH)
        self._cells = sorted(filter(seen.can_be_tried, seen.targets))
        twins = {cell_id: twin_of(seen.snapshot.cells[cell_id], seen.snapshot) for cell_id in self._cells}
        self._twins = {cell_id: twin for cell_id, twin in twins.items() if twin}
        self._pair_due = {cell_id: self._pair_due.get(cell_id, 0.0) for cell_id in self._twins}

    def _due(self, now: float, slack_s: float) -> Collection[str]:
        """Return the cells that are on trial and due, and the next one of the others, in turn."""
        due = [cell_id for cell_id, at in self._pair_due.items() if at <= now + slack_s]
        self._pair_due |= dict.fromkeys(due, now + PAIR_EVERY_S)
        if self._cells:
            self._last = self._cells[bisect_right(self._cells, self._last) % len(self._cells)]
            if self._last not in self._twins:
                due.append(self._last)
        return due

    def _instances(self, record: CellRecord) -> Sequence[CellRecord]:
        """Return what is tried at the same moment: the instance, and its twin. Which of them is first is by turns."""
        if (twin := self._twins.get(record.cell_id)) is None:
            return (record,)
        both = record, replace(record, generation=twin)
        return both if self._pairs % 2 else both[::-1]

    async def _send(self, tried: Sequence[CellRecord], snapshot: Snapshot) -> None:
        """Send a canary through each at the same moment, and keep what came of them."""
        self._pairs += len(tried) > 1
        pair = self._pairs if len(tried) > 1 else 0
        await asyncio.gather(*(self._try(record, snapshot, pair) for record in tried))

    async def _try(self, record: CellRecord, snapshot: Snapshot, pair: int) -> None:
        instance = record.cell_id, record.generation
        self._under_way[instance] = self._clock.monotonic(), pair
        try:
            sample = await self._timer.time(record, snapshot, pair)
        finally:
            del self._under_way[instance]
        if sample is not None:
            self._ended.setdefault(record.cell_id, []).append(sample)
