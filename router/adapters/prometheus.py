"""Observer that counts for Prometheus. Never labelled by tenant, key or event: a label's values are cells and words."""

from __future__ import annotations

from functools import singledispatchmethod

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from router.core import telemetry

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50)


class PrometheusObserver:
    """The metrics of a router or a controller, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a second series beside every counter, which nobody reads
        self.registry = registry = CollectorRegistry()
        self._received = Counter("cellrouter_messages_received", "Messages received.", ["queue"], registry=registry)
        self._duplicates = Counter(
            "cellrouter_messages_duplicate", "Messages received that were already here.", ["queue"], registry=registry
        )
        self._deleted = Counter("cellrouter_messages_deleted", "Messages deleted.", ["queue"], registry=registry)
        self._delete_failures = Counter(
            "cellrouter_message_delete_failures",
            "Deletes that failed and are tried again.",
            ["queue"],
            registry=registry,
        )
        self._answered = Counter(
            "cellrouter_events_answered", "Events by their outcome.", ["cell", "outcome"], registry=registry
        )
        self._repeated = Counter(
            "cellrouter_events_duplicate", "Events that their cell had processed before.", ["cell"], registry=registry
        )
        self._latency = Histogram(
            "cellrouter_event_latency_seconds",
            "From dispatch to the cell's answer.",
            ["cell"],
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self._batch = Histogram(
            "cellrouter_batch_events", "Events in a batch.", ["cell"], buckets=_BATCH_BUCKETS, registry=registry
        )
        self._held = Counter(
            "cellrouter_events_held", "Events sent to a hold queue.", ["cell", "cause"], registry=registry
        )
        self._dead = Counter(
            "cellrouter_events_dead_lettered", "Events sent to the dead-letter queue.", ["reason"], registry=registry
        )
        self._lane_failures = Counter(
            "cellrouter_lane_failures", "Batches that a cell did not answer in full.", ["cell"], registry=registry
        )
        self._leads = Gauge("cellrouter_controller_leads", "1 while this controller leads.", registry=registry)
        self._actions = Counter(
            "cellrouter_controller_actions", "What the controller did.", ["cell", "action"], registry=registry
        )

    @singledispatchmethod
    def observe(self, record: telemetry.Record) -> None:
        """Count a record."""
        raise TypeError(f"no metric for {record!r}")

    @observe.register
    def _(self, record: telemetry.MessagesReceived) -> None:
        self._received.labels(record.source).inc(record.count)
        self._duplicates.labels(record.source).inc(record.duplicates)

    @observe.register
    def _(self, record: telemetry.MessagesDeleted) -> None:
        self._deleted.labels(record.source).inc(record.count)
        self._delete_failures.labels(record.source).inc(record.failed)

    @observe.register
    def _(self, record: telemetry.EventAnswered) -> None:
        self._answered.labels(record.cell_id, record.outcome.value).inc()
        self._latency.labels(record.cell_id).observe(record.latency_s)
        if record.duplicate:
            self._repeated.labels(record.cell_id).inc()

    @observe.register
    def _(self, record: telemetry.BatchSent) -> None:
        self._batch.labels(record.cell_id).observe(record.events)

    @observe.register
    def _(self, record: telemetry.EventHeld) -> None:
        self._held.labels(record.cell_id, record.cause).inc()

    @observe.register
    def _(self, record: telemetry.EventDeadLettered) -> None:
        self._dead.labels(record.reason).inc()

    @observe.register
    def _(self, record: telemetry.LaneFailed) -> None:
        self._lane_failures.labels(record.cell_id).inc()

    @observe.register
    def _(self, record: telemetry.LeadershipChanged) -> None:
        self._leads.set(record.leads)

    @observe.register
    def _(self, record: telemetry.ActionTaken) -> None:
        self._actions.labels(record.cell_id, record.action).inc()
