"""A router reports what its cells do, whatever their number, without keeping events waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise

from router.core.detection.samples import CellSample, RouterSample
from router.services.data_plane.reporter import AT_ONCE, Reporter
from router.services.loop_lag import LoopLag
from router.services.unforeseen import Unforeseen
from tests.support.fake_clock import FakeClock, play
from tests.support.memory_registry import MemoryRegistry
from tests.support.router_world import Notes

CELLS = 1000


class Turns(FakeClock):
    """Notes how many cells were sampled whenever the reporter let others run."""

    def __init__(self) -> None:
        super().__init__()
        self.sampled: list[int] = []  # the number of the interval, for each cell
        self.turns: list[int] = []

    async def sleep(self, seconds: float) -> None:
        self.turns.append(len(self.sampled))
        await super().sleep(seconds)


def test_events_go_on_while_the_cells_are_sampled() -> None:
    """Others run after every few cells. Idle cells are left out, and the intervals are counted."""
    clock = Turns()
    registry = MemoryRegistry(clock)

    def samples(number: int) -> Iterator[tuple[str, CellSample | None]]:
        for cell in range(CELLS):
            clock.sampled.append(number)
            yield f"cell-{cell:04}", CellSample(1, events=1) if cell % 2 else None

    async def story() -> RouterSample:
        reporter = Reporter("router", registry, samples, dict, dict, LoopLag(clock), clock, Unforeseen(Notes(), clock))
        running = asyncio.create_task(reporter.run())
        await clock.sleep(2.5)
        running.cancel()
        return registry.contents.samples["router"]

    report = play(clock, story())
    assert report.number == 2
    assert clock.sampled == [1] * CELLS + [2] * CELLS
    assert sorted(report.cells) == [f"cell-{cell:04}" for cell in range(1, CELLS, 2)]
    assert max(later - earlier for earlier, later in pairwise(clock.turns)) <= AT_ONCE
