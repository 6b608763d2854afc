"""Counters and histograms for a single event loop: no locks, no label objects, one dictionary each.

The Prometheus library's own instruments cost several microseconds an event, more than routing it does. These are
collectors of that library, which still writes the exposition.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


def label_value(word: str) -> str:
    """Return a word of ours as the value of a label, without spaces: such values are easy to select and to quote."""
    return word.replace(" ", "_")


class FastCounter(Collector):
    """A counter whose label values are given in the order of `labels`."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._counts: defaultdict[tuple[str, ...], float] = defaultdict(float)
        registry.register(self)

    def add(self, *labels: str, count: float = 1) -> None:
        """Add `count` to the counter of these label values."""
        self._counts[labels] += count

    def collect(self) -> Iterable[Metric]:
        """Return the counts as one metric family."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, count in self._counts.items():
            family.add_metric([label_value(each) for each in labels], count)
        return [family]


class FastHistogram(Collector):
    """A histogram with one label; `bounds` are the upper bounds of its buckets, ascending."""

    def __init__(self, name: str, text: str, label: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._text, self._label, self._bounds = name, text, label, bounds
        self._counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(bounds) + 1))
        self._sums: defaultdict[str, float] = defaultdict(float)
        registry.register(self)

    def observe(self, label: str, *values: float) -> None:
        """Count each value in its bucket."""
        counts, bounds = self._counts[label], self._bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self._sums[label] += sum(values)

    def collect(self) -> Iterable[Metric]:
        """Return the buckets as one metric family, cumulative as Prometheus wants them."""
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label])
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for label, counts in self._counts.items():
            sums = [sum(counts[: i + 1]) for i in range(len(counts))]
            family.add_metric([label], list(zip(names, sums, strict=True)), self._sums[label])
        return [family]
