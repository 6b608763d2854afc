"""Shows Prometheus what every process is and stands on. A command, which nobody scrapes, does not import this."""

from __future__ import annotations

import platform
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Info
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from cell_worker.contract.process import dropped_lines
from cell_worker.contract.texts import own_version


def register_figures(prefix: str, registry: CollectorRegistry) -> None:
    """Show what the process is and stands on: its versions, dropped log lines, file descriptors, memory and CPU."""
    built = Info(f"{prefix}_build", "The versions of the code and of Python.", registry=registry)
    built.info({"version": own_version(), "python": platform.python_version()})
    registry.register(_DroppedLines(f"{prefix}_log_lines_dropped"))
    ProcessCollector(registry=registry)


class _DroppedLines(Collector):
    def __init__(self, name: str) -> None:
        self._name = name

    def collect(self) -> Iterable[Metric]:
        return [CounterMetricFamily(self._name, "Log lines that could not be written.", value=dropped_lines())]
