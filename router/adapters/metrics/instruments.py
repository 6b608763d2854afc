"""Counters and histograms for one event loop: no locks, no label objects, one dictionary each.

The library's own cost several microseconds an event, which is more than routing it. What it is good at, the
exposition, stays with it: these are its collectors.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class FastCounter(Collector):
    """Counts by labels; a label tuple is in the order of `labels`."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._counts: defaultdict[tuple[str, ...], float] = defaultdict(float)
        registry.register(self)

    def add(self, *labels: str, count: float = 1) -> None:
        """Count up."""
        self._counts[labels] += count

    def collect(self) -> Iterable[Metric]:
        """For a scrape."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        return [family]


class FastHistogram(Collector):
    """Observations by one label, in buckets with these upper bounds."""

    def __init__(self, name: str, text: str, label: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._text, self._label, self._bounds = name, text, label, bounds
        self._counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(bounds) + 1))
        self._sums: defaultdict[str, float] = defaultdict(float)
        registry.register(self)

    def observe(self, label: str, value: float) -> None:
        """Note one."""
        self._counts[label][bisect_left(self._bounds, value)] += 1
        self._sums[label] += value

    def collect(self) -> Iterable[Metric]:
        """For a scrape; buckets are cumulative there."""
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label])
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for label, counts in self._counts.items():
            sums = [sum(counts[: i + 1]) for i in range(len(counts))]
            family.add_metric([label], list(zip(names, sums, strict=True)), self._sums[label])
        return [family]
