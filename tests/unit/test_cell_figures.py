"""Cells as GET /cells and Prometheus show them: the leader's word, while it is recent and of the present instance."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import generate_latest

from router.adapters.metrics.controller import ControllerMetrics
from router.api.views import cell_views
from router.core.control.observed import Suspension
from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.minutes.observation import Observation, Pattern
from router.core.models import CellRecord, CellState, LeaseView, Rung, Treatment
from router.core.policy import NO_POLICY
from router.core.registry import Condition, Snapshot
from router.core.views import CellView, FleetView

CELL = "cell-0000"
RECORD = CellRecord(CELL, generation=3, treatment=Treatment(Rung.GIVEN_UP, 1, 3, "slow", "why"))
LEASE = LeaseView(CELL, 3, "i", "a:1", 8, ready=True, live=True, zone="eu-west-1b")
POLICY = NO_POLICY.with_frozen(CELL, frozen=True).with_order(CELL, 3, evict=False)
SNAPSHOT = Snapshot(10_000, None, {CELL: RECORD}, (LEASE,), "c", POLICY)
PATH = "router-1 → cell-0000: 130 ms, others 3 ms: a path, not the cell"
STALLS = Observation(Pattern.STALLS, "it stalls")
SLOW = Condition(
    9_000,
    3,
    Assessment(CELL, Verdict.SLOW, "a rule", 4.04, shift=0.7, canary_s=0.5, slow_paths=(PATH,), observations=(STALLS,)),
    "frozen by hand",
    cushion="it looks slow",
)


def view(condition: Condition) -> CellView:
    """Show the one cell with this condition."""
    return cell_views(SNAPSHOT, {CELL: condition})[0]


def text(metrics: ControllerMetrics) -> str:
    """The lines of the leader's gauges that a scrape returns."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    return "\n".join(line for line in lines if line.startswith(("cellrouter_cell_", "cellrouter_automation")))


def test_a_cell_is_shown_with_verdict_rung_guard_and_orders() -> None:
    """One view answers everything that an operator asks first about a cell."""
    assert view(SLOW) == CellView(
        CELL, CellState.SERVING, 3, 0, "a:1", "eu-west-1b", 0, "slow", "a rule", 4.0, 0.7, 0.5, (PATH,), (STALLS,),
        Rung.GIVEN_UP, "why", "frozen by hand", "it looks slow", ejected=False, frozen=True,
        order="replace", image="", release="",
    )  # fmt: skip


def test_a_verdict_that_is_old_or_of_another_instance_is_not_shown() -> None:
    """What the registry's record says is shown all the same, whoever leads."""
    for condition in (replace(SLOW, at_ms=4_999), replace(SLOW, generation=2)):
        shown = view(condition)
        assert (shown.verdict, shown.why_untreated, shown.shift, shown.canary_s) == ("", None, None, None)
        assert shown.cushion is None
        assert (shown.rung, shown.frozen) == ("given up", True)


def test_only_the_leader_has_figures_of_cells() -> None:
    """A follower shows nothing, not even zeros, so that nothing it shows can be stale."""
    follower, leader = ControllerMetrics(), ControllerMetrics()
    follower.watch_fleet(lambda: None)
    assert text(follower) == ""
    leader.watch_fleet(lambda: FleetView(cell_views(SNAPSHOT, {CELL: SLOW}), Suspension.SHARED))
    assert text(leader).splitlines() == [
        'cellrouter_cell_verdict{cell="cell-0000",verdict="slow"} 1.0',
        'cellrouter_cell_rung{cell="cell-0000",rung="given_up"} 1.0',
        'cellrouter_cell_shift_log{cell="cell-0000"} 0.7',
        'cellrouter_cell_canary_seconds{cell="cell-0000"} 0.5',
        'cellrouter_cell_slow_paths{cell="cell-0000"} 1.0',
        'cellrouter_cell_observed{cell="cell-0000",pattern="stalls"} 1.0',
        'cellrouter_cell_cushioned{cell="cell-0000"} 1.0',
        'cellrouter_cell_ejected{cell="cell-0000"} 0.0',
        'cellrouter_cell_frozen{cell="cell-0000"} 1.0',
        'cellrouter_automation_suspended{reason="blind"} 0.0',
        'cellrouter_automation_suspended{reason="shared"} 1.0',
    ]
