"""The observer that counts a router's records for Prometheus to scrape: queues, events, lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.adapters.metrics.instruments import FastHistogram
from router.adapters.metrics.process import ProcessMetrics
from router.core import telemetry
from router.core.views import LaneView

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_AGE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50)


class RouterMetrics(ProcessMetrics):
    """The metrics of a router."""

    def __init__(self) -> None:
        super().__init__()
        self._count_messages()
        self._count_events()
        self._count_cells()
        self._count_archive()

    def watch_lanes(self, lanes: Callable[[], Iterable[LaneView]]) -> None:
        """Show the lanes that `lanes` returns at each scrape."""
        self.registry.register(_LaneGauges(lanes))

    def _count_messages(self) -> None:
        counter, gauge = self.counter, self.gauge
        self._received = counter("cellrouter_messages_received", "Messages received.", ["queue"])
        text = "Messages received that were in flight here already."
        self._duplicates = counter("cellrouter_messages_duplicate", text, ["queue"])
        self._waited = FastHistogram(
            "cellrouter_message_wait_seconds",
            "From a message's send to its first receive.",
            "queue",
            _AGE_BUCKETS,
            self.registry,
        )
        self._oldest = gauge("cellrouter_queue_age_seconds", "Age of the oldest message received last.", ["queue"])
        self._deleted = counter("cellrouter_messages_deleted", "Messages deleted.", ["queue"])
        text = "Deletes that failed and are tried again."
        self._delete_failures = counter("cellrouter_message_delete_failures", text, ["queue"])
        faulty = gauge("cellrouter_queue_faulty", "1 while a queue is missing or out of reach.", ["queue"])
        self._depth = gauge("cellrouter_queue_messages", "Messages in a queue, as SQS tells.", ["queue", "state"])
        self.handlers = {
            **self.handlers,
            telemetry.MessagesReceived: self._on_received,
            telemetry.MessagesDeleted: self._on_deleted,
            telemetry.QueueFaulty: lambda r: faulty.labels(r.queue).set(1),
            telemetry.QueueWell: lambda r: faulty.labels(r.queue).set(0),
            telemetry.QueueDepth: self._on_depth,
            telemetry.SetupMessageSeen: lambda _: None,
            telemetry.SubscriptionUnconfirmed: lambda _: None,  # EventDeadLettered counts it
        }

    def _count_events(self) -> None:
        counter, histogram = self.counter, partial(FastHistogram, label="cell", registry=self.registry)
        self._answered = counter("cellrouter_events_answered", "Events by their outcome.", ["cell", "outcome"])
        text = "Events that their cell had processed before, by their bodies."
        self._repeated = counter("cellrouter_duplicates", text, ["cell", "body"])
        text = "From dispatch to the cell's answer."
        self._latency = histogram("cellrouter_event_latency_seconds", text, bounds=_LATENCY_BUCKETS)
        text = "From receive to dispatch."
        self._in_lane = histogram("cellrouter_event_lane_seconds", text, bounds=_LATENCY_BUCKETS)
        text = "From the producer's send to the cell's answer, of events that are done."
        self._end_to_end = histogram("cellrouter_event_end_to_end_seconds", text, bounds=_AGE_BUCKETS)
        self._batch = histogram("cellrouter_batch_events", "Events in a batch.", bounds=_BATCH_BUCKETS)
        held = counter("cellrouter_events_held", "Events that had to wait in a queue.", ["cell", "cause"])
        dead = counter("cellrouter_events_dead_lettered", "Events that the dead-letter queue has taken.", ["reason"])
        self.handlers = {
            **self.handlers,
            telemetry.EventAnswered: self._on_answered,
            telemetry.EventTimed: lambda _: None,  # EventAnswered counts it; a stress run asks for more
            telemetry.BodyDiffers: lambda _: None,  # EventAnswered counts every one
            telemetry.BatchSent: self._on_batch,
            telemetry.EventHeld: lambda r: held.add(r.cell_id, r.cause),
            telemetry.EventDeadLettered: lambda r: dead.add(r.reason),
        }

    def _count_cells(self) -> None:
        counter, gauge = self.counter, self.gauge
        lane_failures = counter("cellrouter_lane_failures", "Batches that a cell did not answer in full.", ["cell"])
        quarantines = counter("cellrouter_keys_quarantined", "Keys that this router put in quarantine.", ["cell"])
        denied = gauge("cellrouter_access_denied", "1 while AWS denies many events what they need.")
        self._in_quarantine = gauge("cellrouter_quarantined_keys", "Keys in quarantine now.")
        self._limited = gauge("cellrouter_limited_keys", "Keys with a limit of their own.")
        self.handlers = {
            **self.handlers,
            telemetry.LaneFailed: lambda r: lane_failures.add(r.cell_id),
            telemetry.KeyQuarantined: lambda r: quarantines.add(r.cell_id),
            telemetry.AccessDenied: lambda r: denied.set(r.why is not None),
            telemetry.PolicyApplied: self._on_policy,
        }

    def _count_archive(self) -> None:
        events = self.counter("cellrouter_archive_events", "Events in the archive.", [])
        size = self.counter("cellrouter_archive_bytes", "Bytes in the archive, compressed.", [])
        objects = self.counter("cellrouter_archive_objects", "Objects in the archive.", [])
        dropped = self.counter("cellrouter_archive_events_dropped", "Events that the archive lacks.", ["cause"])
        faulty = self.gauge("cellrouter_archive_faulty", "1 while the archive's bucket takes nothing.")

        def on_archived(record: telemetry.ObjectArchived) -> None:
            events.add(count=record.events)
            size.add(count=record.size)
            objects.add()

        self.handlers = {
            **self.handlers,
            telemetry.ObjectArchived: on_archived,
            telemetry.ArchiveDropped: lambda r: dropped.add(r.cause, count=r.events),
            telemetry.ArchiveFaulty: lambda r: faulty.set(r.why is not None),
        }

    def _on_received(self, record: telemetry.MessagesReceived) -> None:
        self._received.add(record.source, count=record.count)
        self._duplicates.add(record.source, count=record.duplicates)
        self._waited.observe(record.source, *record.waits_s)
        self._oldest.labels(record.source).set(record.oldest_s)

    def _on_deleted(self, record: telemetry.MessagesDeleted) -> None:
        self._deleted.add(record.source, count=record.count)
        self._delete_failures.add(record.source, count=record.failed)

    def _on_depth(self, record: telemetry.QueueDepth) -> None:
        for state, count in record.depth._asdict().items():
            self._depth.labels(record.queue, state).set(count)

    def _on_batch(self, record: telemetry.BatchSent) -> None:
        self._batch.observe(record.cell_id, record.events)
        self._in_lane.observe(record.cell_id, *record.waits_s)

    def _on_answered(self, record: telemetry.EventAnswered) -> None:
        self._answered.add(record.cell_id, record.outcome)
        self._latency.observe(record.cell_id, record.latency_s)
        if record.age_s is not None:
            self._end_to_end.observe(record.cell_id, record.age_s)
        if record.duplicate:
            self._repeated.add(record.cell_id, "other" if record.other_body else "same")

    def _on_policy(self, record: telemetry.PolicyApplied) -> None:
        self._in_quarantine.set(record.quarantined)
        self._limited.set(record.limits)


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
