"""Prometheus reads the same from our instruments as from the library's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from router.adapters.logs import LogObserver
from router.adapters.metrics.controller import ControllerMetrics
from router.adapters.metrics.instruments import FastCounter, FastHistogram
from router.adapters.metrics.router import RouterMetrics
from router.core import telemetry

BOUNDS = (0.001, 0.5, 1, 30)
names = st.sampled_from(["a", 'b"\\\n', "é"])


@given(st.lists(st.tuples(names, names, st.integers(1, 5))))
def test_a_counter_shows_what_the_librarys_shows(counts: list[tuple[str, str, int]]) -> None:
    """The exposition of both is equal, line for line."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    counter = Counter("x", "Text.", ["p", "q"], registry=theirs)
    fast = FastCounter("x", "Text.", ["p", "q"], ours)
    for p, q, count in counts:
        counter.labels(p, q).inc(count)
        fast.add(p, q, count=count)
    assert generate_latest(ours) == generate_latest(theirs)


@given(st.lists(st.tuples(names, st.sampled_from([0.0, 0.001, 0.0011, 0.5, 1.0, 29.0, 30.0, 31.0]))))
def test_a_histogram_shows_what_the_librarys_shows(values: list[tuple[str, float]]) -> None:
    """The buckets are equal too for values that lie exactly on a bound."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("x", "Text.", ["p"], buckets=BOUNDS, registry=theirs)
    fast = FastHistogram("x", "Text.", "p", BOUNDS, ours)
    for name, value in values:
        histogram.labels(name).observe(value)
        fast.observe(name, value)
    assert generate_latest(ours) == generate_latest(theirs)


def test_every_record_is_counted() -> None:
    """Each kind of record has a handler in the metrics or in the log."""
    kinds = set(telemetry.Record.__args__)
    assert RouterMetrics().handlers.keys() | ControllerMetrics().handlers.keys() == kinds
    assert LogObserver().handlers.keys() < kinds
