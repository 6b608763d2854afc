"""The observer that counts a controller's records for Prometheus, and shows the leader's view of the cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.adapters.metrics.instruments import label_value
from router.adapters.metrics.process import ProcessMetrics
from router.core import telemetry
from router.core.control.observed import Suspension
from router.core.release import Phase
from router.core.views import CellView, FleetView, ScalingView


class ControllerMetrics(ProcessMetrics):
    """The metrics of a controller."""

    def __init__(self) -> None:
        super().__init__()
        actions = self.counter("cellrouter_controller_actions", "What the controller did.", ["cell", "action"])
        leads = self.gauge("cellrouter_controller_leads", "1 while this controller leads.")
        self.handlers = {
            **self.handlers,
            telemetry.LeadershipChanged: lambda r: leads.set(r.leads),
            telemetry.LeadGoesOn: lambda _: leads.set(True),
            telemetry.ActionTaken: lambda r: actions.add(r.cell_id, r.action),
        }

    def watch_fleet(self, fleet: Callable[[], FleetView | None], newest_secret: Callable[[], str] = lambda: "") -> None:
        """Show the cells that `fleet` returns at each scrape; None while another controller leads.

        `newest_secret` is the public name of the secret that new instances get theirs from.
        """
        self.registry.register(_FleetGauges(fleet, newest_secret))


class _FleetGauges(Collector):
    """Gauges of the cells as the leader sees them; no samples on other controllers, where they would be stale."""

    def __init__(self, fleet: Callable[[], FleetView | None], newest_secret: Callable[[], str]) -> None:
        self._fleet = fleet
        self._newest_secret = newest_secret

    def collect(self) -> Iterable[Metric]:
        fleet = self._fleet()
        yield from _cell_gauges(fleet.cells if fleet is not None else ())
        text = "1 while automation is suspended, by reason: blind (measurements can't be trusted), shared (trouble)."
        suspended = GaugeMetricFamily("cellrouter_automation_suspended", text, labels=["reason"])
        if fleet is not None:
            for reason in Suspension:
                suspended.add_metric([reason], fleet.suspended_by == reason)
        yield suspended
        yield from _release_gauges(fleet)
        yield from _scaling_gauges(fleet.scaling if fleet is not None else None)
        older = GaugeMetricFamily(
            "cellrouter_instances_on_older_secret", "Live instances whose secret is not of the first."
        )
        if fleet is not None:
            older.add_metric([], sum(used != self._newest_secret() for used in fleet.secret_ids))
        yield older


def _release_gauges(fleet: FleetView | None) -> Iterable[Metric]:
    phase = GaugeMetricFamily("cellrouter_release_phase", "1 for the phase of the last release.", labels=["phase"])
    waits = GaugeMetricFamily("cellrouter_release_waits", "1 while the release that runs waits.")
    changed = GaugeMetricFamily("cellrouter_release_cells", "Cells that have the last release's image.")
    release = fleet.release if fleet is not None else None
    if fleet is not None and release is not None:
        for each in Phase:
            phase.add_metric([label_value(each)], release.phase is each)
        waits.add_metric([], release.waits is not None)
        changed.add_metric([], sum(cell.image == release.image for cell in fleet.cells))
    return phase, waits, changed


def _scaling_gauges(scaling: ScalingView | None) -> Iterable[Metric]:
    wanted = GaugeMetricFamily("cellrouter_scaling_cells", "Cells that there shall be, where they follow the load.")
    used = GaugeMetricFamily("cellrouter_scaling_used_ratio", "Share of the cells in use, as scaling sees it.")
    short = GaugeMetricFamily("cellrouter_scaling_short", "1 while the load needs more cells than there may be.")
    if scaling is not None:
        wanted.add_metric([], scaling.wanted)
        short.add_metric([], scaling.short)
        if scaling.used is not None:
            used.add_metric([], scaling.used)
    return wanted, used, short


def _cell_gauges(cells: Iterable[CellView]) -> Iterable[Metric]:
    gauge = partial(GaugeMetricFamily, labels=["cell"])
    verdict = GaugeMetricFamily("cellrouter_cell_verdict", "1 for the verdict on a cell.", labels=["cell", "verdict"])
    rung = GaugeMetricFamily("cellrouter_cell_rung", "1 for the rung that a cell is on.", labels=["cell", "rung"])
    shift = gauge("cellrouter_cell_shift_log", "Log of its latency relative to the other cells'; ln 2 is twice.")
    canary = gauge("cellrouter_cell_canary_seconds", "Median latency of its canaries.")
    paths = gauge("cellrouter_cell_slow_paths", "Slow paths to it, of routers or the leader: it is not slow itself.")
    seen = GaugeMetricFamily(
        "cellrouter_cell_observed", "1 for what the last minutes show of a cell.", labels=["cell", "pattern"]
    )
    cushioned = gauge("cellrouter_cell_cushioned", "1 while it looks slow, and gets no more at once than usual.")
    ejected = gauge("cellrouter_cell_ejected", "1 while its events wait in its hold queue.")
    frozen = gauge("cellrouter_cell_frozen", "1 while nothing but a person's order touches its instances.")
    for cell in cells:
        rung.add_metric([cell.cell_id, label_value(cell.rung)], 1)
        cushioned.add_metric([cell.cell_id], cell.cushion is not None)
        ejected.add_metric([cell.cell_id], cell.ejected)
        frozen.add_metric([cell.cell_id], cell.frozen)
        if cell.verdict:
            verdict.add_metric([cell.cell_id, label_value(cell.verdict)], 1)
        if cell.shift is not None:
            shift.add_metric([cell.cell_id], cell.shift)
        if cell.canary_s is not None:
            canary.add_metric([cell.cell_id], cell.canary_s)
            paths.add_metric([cell.cell_id], len(cell.slow_paths))
        for pattern in sorted({each.pattern for each in cell.observations}):
            seen.add_metric([cell.cell_id, label_value(pattern)], 1)
    return verdict, rung, shift, canary, paths, seen, cushioned, ejected, frozen
