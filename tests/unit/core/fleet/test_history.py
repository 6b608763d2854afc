"""What a process remembers of the last hour."""

from __future__ import annotations

from typing import Final

from router.core.fleet.cell_health import CellHealth
from router.core.fleet.cells import FleetCell, Load
from router.core.fleet.history import RECENT, STEP_MS, STEPS, History
from router.core.models import CellRecord
from router.core.registry import Snapshot
from tests.support.fleet_world import view_of

START: Final = 1_000_000 * STEP_MS


def cell(name: str, latency_s: float | None = 0.02, health: CellHealth = CellHealth.WELL) -> FleetCell:
    """Make a cell of the page that is so."""
    view = view_of(Snapshot(0, None, {name: CellRecord(name)}, (), ""), name)
    return FleetCell(view, health, None, 0, Load(10.0, latency_s), draining=False)


def test_a_step_keeps_the_highest_latency_and_the_worst_health() -> None:
    """What lasted a second within the step is there for an hour, however well the step ended."""
    history = History()
    history.note(START, Load(10, 0.02), [cell("a"), cell("b")])
    history.note(START + 3000, Load(30, 0.5), [cell("a", 0.9, CellHealth.TREATED), cell("b")])
    history.note(START + 6000, Load(20, 0.03), [cell("a"), cell("b")])
    past = history.cell("a")
    assert past is not None
    assert (past.latency_ms[-1], past.health[-1]) == (900, "treated")
    assert history.recent()["b"].health[-1] == "well"
    assert (history.fleet().rate[-1], history.fleet().health[-1]) == (30, "treated")


def test_an_hour_is_kept_and_no_more() -> None:
    """Steps in which nothing was noted are gaps; after a longer pause nothing is left of before."""
    history = History()
    for step in range(STEPS + 50):
        history.note(START + step * STEP_MS, Load(step), [cell("a")])
    assert list(history.fleet().rate) == list(range(50, STEPS + 50))
    assert len(history.recent()["a"].rate) == RECENT
    history.note(START + (STEPS + 52) * STEP_MS, Load(7), [cell("a")])
    assert list(history.fleet().rate[-4:]) == [STEPS + 49, None, None, 7]
    history.note(START + 10 * STEPS * STEP_MS, Load(8), [cell("a")])
    assert list(history.fleet().rate) == [None] * (STEPS - 1) + [8]


def test_a_clock_that_goes_back_adds_to_the_newest_step() -> None:
    """Nothing of what was kept is lost by it."""
    history = History()
    history.note(START, Load(5), [cell("a")])
    history.note(START - 50 * STEP_MS, Load(9), [cell("a")])
    assert list(history.fleet().rate[-2:]) == [None, 9]


def test_a_cell_without_events_has_no_latency() -> None:
    """Its line has a gap, and is not at 0 ms."""
    history = History()
    history.note(START, Load(), [cell("a", None)])
    assert history.recent()["a"].latency_ms[-1] is None


def test_a_cell_that_is_gone_is_forgotten() -> None:
    """So the memory is bounded by the cells that there are."""
    history = History()
    history.note(START, Load(), [cell("a"), cell("b")])
    history.note(START, Load(), [cell("b")])
    assert (history.cell("a"), list(history.recent())) == (None, ["b"])
