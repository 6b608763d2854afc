"""Shows Prometheus what became of a process' spans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


def register_spans(prefix: str, registry: CollectorRegistry, counts: Callable[[], Mapping[str, int]]) -> None:
    """Show how many spans were exported, failed or were dropped, as `counts` says at each scrape."""
    registry.register(_SpanCounts(f"{prefix}_spans", counts))


class _SpanCounts(Collector):
    def __init__(self, name: str, counts: Callable[[], Mapping[str, int]]) -> None:
        self._name = name
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, "Spans by what became of them.", labels=["outcome"])
        for outcome, count in self._counts().items():
            family.add_metric([outcome], count)
        return [family]
