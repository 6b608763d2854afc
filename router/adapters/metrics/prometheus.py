"""Observer that counts records for Prometheus to scrape.

No label holds a tenant, a key or an event: the values of a label are cells, queues and fixed words, so that the number
of series stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cell_worker.contract.process import register_figures
from router.adapters.metrics.instruments import FastCounter, FastHistogram
from router.core import telemetry
from router.core.control.observed import Suspension
from router.core.release import Phase
from router.core.views import CellView, FleetView, LaneView

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50)


class _LaneGauges(Collector):
    """Gauges of a router's lanes, read from its newest snapshot at each scrape."""

    def __init__(self, lanes: Callable[[], Iterable[LaneView]]) -> None:
        self._lanes = lanes

    def collect(self) -> Iterable[Metric]:
        waiting = GaugeMetricFamily("cellrouter_lane_waiting", "Events not yet sent.", labels=["cell"])
        in_flight = GaugeMetricFamily("cellrouter_lane_in_flight", "Events sent, not yet answered.", labels=["cell"])
        window = GaugeMetricFamily("cellrouter_lane_window", "How many events may be in flight.", labels=["cell"])
        text = "How long ago the oldest event was sent that keeps a FIFO group waiting in quarantine; 0 for none."
        blocked = GaugeMetricFamily("cellrouter_fifo_blocked_seconds", text, labels=["cell"])
        for lane in self._lanes():
            blocked.add_metric([lane.cell_id], lane.blocked_s)
            waiting.add_metric([lane.cell_id], lane.waiting)
            in_flight.add_metric([lane.cell_id], lane.in_flight)
            window.add_metric([lane.cell_id], lane.window)
        return waiting, in_flight, window, blocked


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
            phase.add_metric([each], release.phase is each)
        waits.add_metric([], release.waits is not None)
        changed.add_metric([], sum(cell.image == release.image for cell in fleet.cells))
    return phase, waits, changed


def _cell_gauges(cells: Iterable[CellView]) -> Iterable[Metric]:
    gauge = partial(GaugeMetricFamily, labels=["cell"])
    verdict = GaugeMetricFamily("cellrouter_cell_verdict", "1 for the verdict on a cell.", labels=["cell", "verdict"])
    rung = GaugeMetricFamily("cellrouter_cell_rung", "1 for the rung that a cell is on.", labels=["cell", "rung"])
    shift = gauge("cellrouter_cell_shift_log", "Log of its latency relative to the other cells'; ln 2 is twice.")
    canary = gauge("cellrouter_cell_canary_seconds", "Median latency of its canaries.")
    paths = gauge("cellrouter_cell_slow_paths", "Slow paths to it, of routers or the leader: it is not slow itself.")
    cushioned = gauge("cellrouter_cell_cushioned", "1 while it looks slow, and gets no more at once than usual.")
    ejected = gauge("cellrouter_cell_ejected", "1 while its events wait in its hold queue.")
    frozen = gauge("cellrouter_cell_frozen", "1 while nothing but a person's order touches its instances.")
    for cell in cells:
        rung.add_metric([cell.cell_id, cell.rung], 1)
        cushioned.add_metric([cell.cell_id], cell.cushion is not None)
        ejected.add_metric([cell.cell_id], cell.ejected)
        frozen.add_metric([cell.cell_id], cell.frozen)
        if cell.verdict:
            verdict.add_metric([cell.cell_id, cell.verdict], 1)
        if cell.shift is not None:
            shift.add_metric([cell.cell_id], cell.shift)
        if cell.canary_s is not None:
            canary.add_metric([cell.cell_id], cell.canary_s)
            paths.add_metric([cell.cell_id], len(cell.slow_paths))
    return verdict, rung, shift, canary, paths, cushioned, ejected, frozen


class PrometheusObserver:
    """The metrics of a router or a controller, in their own registry. `handlers` has a function for each record."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        register_figures("cellrouter", registry)
        counter = partial(FastCounter, registry=registry)
        histogram = partial(FastHistogram, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self._received = counter("cellrouter_messages_received", "Messages received.", ["queue"])
        self._duplicates = counter(
            "cellrouter_messages_duplicate", "Messages received that were in flight here already.", ["queue"]
        )
        self._deleted = counter("cellrouter_messages_deleted", "Messages deleted.", ["queue"])
        self._delete_failures = counter(
            "cellrouter_message_delete_failures", "Deletes that failed and are tried again.", ["queue"]
        )
        self._faulty = gauge("cellrouter_queue_faulty", "1 while a queue is missing or out of reach.", ["queue"])
        self._fifo_waiting = gauge("cellrouter_fifo_waiting", "Messages that wait in a FIFO source.", ["queue"])
        self._answered = counter("cellrouter_events_answered", "Events by their outcome.", ["cell", "outcome"])
        self._repeated = counter(
            "cellrouter_duplicates", "Events that their cell had processed before, by their bodies.", ["cell", "body"]
        )
        self._latency = histogram(
            "cellrouter_event_latency_seconds", "From dispatch to the cell's answer.", "cell", _LATENCY_BUCKETS
        )
        self._batch = histogram("cellrouter_batch_events", "Events in a batch.", "cell", _BATCH_BUCKETS)
        self._held = counter("cellrouter_events_held", "Events that had to wait in a queue.", ["cell", "cause"])
        self._dead = counter("cellrouter_events_dead_lettered", "Events sent to the dead-letter queue.", ["reason"])
        self._lane_failures = counter(
            "cellrouter_lane_failures", "Batches that a cell did not answer in full.", ["cell"]
        )
        self._quarantines = counter("cellrouter_keys_quarantined", "Keys that this router put in quarantine.", ["cell"])
        self._actions = counter("cellrouter_controller_actions", "What the controller did.", ["cell", "action"])
        self._unforeseen = counter(
            "cellrouter_attempts_failed", "Attempts that an error nobody foresaw has ended.", ["part"]
        )
        self._died = counter("cellrouter_tasks_died", "Background tasks that ended, which ends the process.", ["task"])
        self._refused = counter("cellrouter_leases_refused", "Leases in the registry that are not trusted.", ["reason"])
        text = "Calls to cells of which nothing was believed: the cell refused us, or its answer was not proven."
        self._distrusted = counter("cellrouter_calls_distrusted", text, ["cell", "what"])
        self._bad = counter("cellrouter_bad_input", "Entries in the registry that can't be read.", ["source"])
        self._registry_up = gauge("cellrouter_registry_up", "0 while the registry can't be read or takes no writes.")
        self._registry_up.set(1)
        self._doubted = gauge("cellrouter_leases_doubted", "1 while leases have ended that say nothing.")
        self._denied = gauge("cellrouter_access_denied", "1 while AWS denies many events what they need.")
        self._in_quarantine = gauge("cellrouter_quarantined_keys", "Keys in quarantine now.")
        self._limited = gauge("cellrouter_limited_keys", "Keys with a limit of their own.")
        self._leads = gauge("cellrouter_controller_leads", "1 while this controller leads.")
        self.handlers = self._handlers()

    def _handlers(self) -> Mapping[type, Callable[[Any], None]]:
        return {
            telemetry.MessagesReceived: self._on_received,
            telemetry.MessagesDeleted: self._on_deleted,
            telemetry.QueueFaulty: lambda r: self._faulty.labels(r.queue).set(1),
            telemetry.QueueWell: lambda r: self._faulty.labels(r.queue).set(0),
            telemetry.FifoWaiting: lambda r: self._fifo_waiting.labels(r.queue).set(r.messages),
            telemetry.EventAnswered: self._on_answered,
            telemetry.BodyDiffers: lambda _: None,  # EventAnswered counts every one
            telemetry.BatchSent: lambda r: self._batch.observe(r.cell_id, r.events),
            telemetry.EventHeld: lambda r: self._held.add(r.cell_id, r.cause),
            telemetry.EventDeadLettered: lambda r: self._dead.add(r.reason),
            telemetry.LaneFailed: lambda r: self._lane_failures.add(r.cell_id),
            telemetry.KeyQuarantined: lambda r: self._quarantines.add(r.cell_id),
            telemetry.PolicyApplied: self._on_policy,
            telemetry.LeadershipChanged: lambda r: self._leads.set(r.leads),
            telemetry.LeadGoesOn: lambda _: self._leads.set(True),
            telemetry.LeaseRefused: lambda r: self._refused.add(r.reason),
            telemetry.RegistryFaulty: lambda _: self._registry_up.set(0),
            telemetry.RegistryWell: lambda _: self._registry_up.set(1),
            telemetry.LeasesDoubted: lambda r: self._doubted.set(r.why is not None),
            telemetry.AccessDenied: lambda r: self._denied.set(r.why is not None),
            telemetry.BadInput: lambda r: self._bad.add(r.source),
            telemetry.DistrustedCall: lambda r: self._distrusted.add(r.cell_id, r.what),
            telemetry.CellTrusted: lambda _: None,
            telemetry.SetupMessageSeen: lambda _: None,
            telemetry.SubscriptionUnconfirmed: lambda _: None,  # EventDeadLettered counts it
            telemetry.AttemptFailed: lambda r: self._unforeseen.add(r.part),
            telemetry.TaskDied: lambda r: self._died.add(r.task),
            telemetry.ActionTaken: lambda r: self._actions.add(r.cell_id, r.action),
        }

    def watch_lanes(self, lanes: Callable[[], Iterable[LaneView]]) -> None:
        """Show the lanes that `lanes` returns at each scrape."""
        self.registry.register(_LaneGauges(lanes))

    def watch_fleet(self, fleet: Callable[[], FleetView | None], newest_secret: Callable[[], str] = lambda: "") -> None:
        """Show the cells that `fleet` returns at each scrape; None while another controller leads.

        `newest_secret` is the public name of the secret that new instances get theirs from.
        """
        self.registry.register(_FleetGauges(fleet, newest_secret))

    def _on_received(self, record: telemetry.MessagesReceived) -> None:
        self._received.add(record.source, count=record.count)
        self._duplicates.add(record.source, count=record.duplicates)

    def _on_deleted(self, record: telemetry.MessagesDeleted) -> None:
        self._deleted.add(record.source, count=record.count)
        self._delete_failures.add(record.source, count=record.failed)

    def _on_answered(self, record: telemetry.EventAnswered) -> None:
        self._answered.add(record.cell_id, record.outcome)
        self._latency.observe(record.cell_id, record.latency_s)
        if record.duplicate:
            self._repeated.add(record.cell_id, "other" if record.other_body else "same")

    def _on_policy(self, record: telemetry.PolicyApplied) -> None:
        self._in_quarantine.set(record.quarantined)
        self._limited.set(record.limits)
