"""The worker's Prometheus metrics. No metric has a tenant, key or event as a label: there would be too many series."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from cell_worker.contract.process import register_figures
from cell_worker.contract.protocol import EventResult, Outcome

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class WorkerMetrics:
    """All metrics of one worker, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # nobody reads when a counter began
        self.registry = CollectorRegistry()
        register_figures("cell", self.registry)
        self.events = Counter("cell_events", "Events by their outcome.", ["outcome"], registry=self.registry)
        self.duplicates = Counter("cell_events_duplicate", "Events that were done already.", registry=self.registry)
        self.duration = Histogram(
            "cell_event_duration_seconds", "Of the handler and the commit.", buckets=_BUCKETS, registry=self.registry
        )
        self.in_flight = Gauge("cell_events_in_flight", "Events being worked on.", registry=self.registry)
        self.abandoned = Counter(
            "cell_worker_abandoned_events", "Events answered while their handlers went on.", registry=self.registry
        )
        self.abandoned_running = Gauge(
            "cell_worker_abandoned_running", "Abandoned events whose handlers still run.", registry=self.registry
        )
        self.loop_lag = Histogram(
            "cell_worker_loop_lag_seconds", "How late the event loop was.", buckets=_BUCKETS, registry=self.registry
        )
        self.loop_blocked = Counter(
            "cell_worker_loop_blocked", "Times that the event loop stood still for 1 s.", registry=self.registry
        )
        self.outbox = Gauge("cell_outbox_lines", "Lines that wait for the sink.", registry=self.registry)
        self.calls_refused = Counter(
            "cell_calls_refused", "Calls that were not taken, by what is wrong.", ["fault"], registry=self.registry
        )
        self.registry_up = Gauge(
            "cell_registry_up", "0 while the registry can't be reached or takes no writes.", registry=self.registry
        )
        self.registry_up.set(1)
        self._by_outcome = {outcome: self.events.labels(outcome.value) for outcome in Outcome}

    def observe(self, result: EventResult, duration_s: float) -> None:
        """Count a finished event. `duration_s` is what its handler and its commit took together."""
        self.duration.observe(duration_s)
        self._by_outcome[result.outcome].inc()
        if result.duplicate:
            self.duplicates.inc()
