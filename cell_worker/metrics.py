"""The worker's Prometheus metrics. No metric has a tenant, key or event as a label: there would be too many series."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from math import nan
from typing import Final, TypeVar

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from cell_worker import clock
from cell_worker.contract.metrics.figures import register_figures
from cell_worker.contract.protocol import EventResult, Outcome, Vitals

T = TypeVar("T")

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_VITALS: Final = {
    "cell_cpus": "CPUs that the worker may use at once.",
    "cell_cpu_ratio": "Share of these that its process uses.",
    "cell_core_wait_ratio": "Share of the time that it is ready to run and has no core.",
    "cell_cpu_throttled_ratio": "Share of the time that its CPU quota keeps it from running.",
    "cell_loop_lag_worst_seconds": "How late its event loop was at most.",
    "cell_gc_ratio": "Share of the time that Python's garbage collector stops it.",
    "cell_store_write_mean_seconds": "How long its store takes to write.",
    "cell_store_write_worst_seconds": "How long the slowest write to its store took.",
}
"""Gauges of what the worker measures of itself over some seconds, in the order of the fields of Vitals."""


@dataclass(slots=True)
class Strain:
    """What the worker counts on its way for its vital signs: its writes to the store, and how late its loop was."""

    writes: int = 0
    writes_s: float = 0.0
    _slowest_write_s: float = 0.0
    _under_way: dict[object, float] = field(default_factory=dict)  # when each unfinished write began, the oldest first
    _worst_lag_s: float = 0.0

    async def timed(self, write: Awaitable[T]) -> T:
        """Wait for a write to the store and count it, also one that fails."""
        mark = object()
        self._under_way[mark] = clock.monotonic()
        try:
            return await write
        finally:
            seconds = clock.monotonic() - self._under_way.pop(mark)
            self.writes += 1
            self.writes_s += seconds
            self._slowest_write_s = max(self._slowest_write_s, seconds)

    def late(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._worst_lag_s = max(self._worst_lag_s, seconds)

    def take_slowest_write_s(self, now: float) -> float:
        """Return how long the slowest write took since this was last asked, or takes that is not finished."""
        slowest, self._slowest_write_s = self._slowest_write_s, 0.0
        return max(slowest, now - next(iter(self._under_way.values()), now))

    def take_worst_lag_s(self) -> float:
        """Return how late the loop was at most since this was last asked."""
        worst, self._worst_lag_s = self._worst_lag_s, 0.0
        return worst


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
        self.strain = Strain()
        self._vitals = [Gauge(name, text, registry=self.registry) for name, text in _VITALS.items()]
        self._by_outcome = {outcome: self.events.labels(outcome.value) for outcome in Outcome}

    def observe(self, result: EventResult, duration_s: float) -> None:
        """Count a finished event. `duration_s` is what its handler and its commit took together."""
        self.duration.observe(duration_s)
        self._by_outcome[result.outcome].inc()
        if result.duplicate:
            self.duplicates.inc()

    def show(self, vitals: Vitals) -> None:
        """Set the gauges of what the worker has measured of itself; what can't be measured here is no number."""
        for gauge, value in zip(self._vitals, msgspec.structs.astuple(vitals), strict=True):
            gauge.set(nan if value is None else value)

    def late(self, seconds: float) -> None:
        """Count how late the event loop was."""
        self.loop_lag.observe(seconds)
        self.strain.late(seconds)
