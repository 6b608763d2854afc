"""A canary's answer is a reason or none, whatever its client raises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from router.core.errors import CellRefusedError, CellUnavailableError
from router.core.models import CellRecord, Event, LeaseView, Reason, Result, Target
from router.core.registry import Snapshot
from router.core.telemetry import AttemptFailed
from router.services.canary import canary_through
from router.services.control_plane.health import HealthMonitor
from router.services.loop_lag import LoopLag
from router.services.unforeseen import Unforeseen
from tests.support.fake_clock import FakeClock, play
from tests.support.memory_registry import MemoryRegistry
from tests.support.router_world import Notes

CELL = CellRecord("cell-0000", generation=1)
LEASE = LeaseView(CELL.cell_id, 1, "i", "a:1", 8, ready=True, live=True)
SNAPSHOT = Snapshot(1, None, {CELL.cell_id: CELL}, (LEASE,), "c")


class Raising:
    """A CellClient that raises the same for every batch."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def process(self, target: Target, batch: Sequence[Event]) -> AsyncIterator[Result]:
        for result in self._results():
            yield result

    def _results(self) -> list[Result]:
        raise self._error


async def answer(client: Raising, notes: Notes, clock: FakeClock) -> Reason | None:
    """Send one canary by this client."""
    return await canary_through(client, Unforeseen(notes, clock))(CELL, SNAPSHOT, 1.0)


FORESEEN = [CellUnavailableError("gone"), CellRefusedError(409, "other"), TimeoutError("late")]
UNFORESEEN = [RecursionError("too deep"), ValueError("line too long"), MemoryError()]


@pytest.mark.parametrize("error", FORESEEN + UNFORESEEN, ids=lambda error: type(error).__name__)
def test_a_canary_that_fails_says_of_what(error: Exception) -> None:
    """The answer has the error's type and text; what nobody foresaw is told with its cause as well."""
    clock, notes = FakeClock(), Notes()
    assert play(clock, answer(Raising(error), notes, clock)) == f"{type(error).__name__}: {error}"
    assert notes.records == ([AttemptFailed("canary", error, tell=True)] if error in UNFORESEEN else [])


def test_a_canary_can_be_cancelled() -> None:
    """A controller that stops waits for no canary."""
    clock, notes = FakeClock(), Notes()
    with pytest.raises(asyncio.CancelledError):
        play(clock, answer(Raising(asyncio.CancelledError()), notes, clock))
    assert not notes.records


def test_a_cell_whose_answers_nobody_foresaw_is_failing_and_not_hung() -> None:
    """The monitor knows that each canary failed; without that, it would wait for their answers."""
    clock, notes = FakeClock(), Notes()
    client: Any = Raising(RecursionError("too deep"))

    async def story() -> None:
        canary = canary_through(client, Unforeseen(notes, clock))
        monitor = HealthMonitor(MemoryRegistry(clock), canary, LoopLag(clock), clock, 60.0)
        for _ in range(40):
            await monitor.look(SNAPSHOT)
            await clock.sleep(0.25)
        assert monitor.health[CELL.cell_id].assessment.verdict == "failing"
        monitor.close()

    play(clock, story())
    assert [r.tell for r in notes.records if isinstance(r, AttemptFailed)][:2] == [True, False]
