"""The observer that counts for Prometheus what routers and controllers have in common.

No label holds a tenant, a key or an event: the values of a label are cells, queues and fixed words, so that the number
of series stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from cell_worker.contract.metrics.figures import register_figures
from router.adapters.metrics.instruments import FastCounter
from router.core import telemetry


class ProcessMetrics:
    """What routers and controllers count alike, in a registry of their own. `handlers` has a function a record."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        register_figures("cellrouter", registry)
        self.counter = counter = partial(FastCounter, registry=registry)
        self.gauge = gauge = partial(Gauge, registry=registry)
        unforeseen = counter("cellrouter_attempts_failed", "Attempts that an error nobody foresaw has ended.", ["part"])
        died = counter("cellrouter_tasks_died", "Background tasks that ended, which ends the process.", ["task"])
        refused = counter("cellrouter_leases_refused", "Leases in the registry that are not trusted.", ["reason"])
        text = "Calls to cells of which nothing was believed: the cell refused us, or its answer was not proven."
        distrusted = counter("cellrouter_calls_distrusted", text, ["cell", "what"])
        bad = counter("cellrouter_bad_input", "Entries in the registry that can't be read.", ["source"])
        registry_up = gauge("cellrouter_registry_up", "0 while the registry can't be read or takes no writes.")
        registry_up.set(1)
        doubted = gauge("cellrouter_leases_doubted", "1 while leases have ended that say nothing.")
        self.handlers: Mapping[type, Callable[[Any], None]] = {
            telemetry.AttemptFailed: lambda r: unforeseen.add(r.part),
            telemetry.TaskDied: lambda r: died.add(r.task),
            telemetry.LeaseRefused: lambda r: refused.add(r.reason),
            telemetry.DistrustedCall: lambda r: distrusted.add(r.cell_id, r.what),
            telemetry.CellTrusted: lambda _: None,
            telemetry.GroupsRefused: lambda _: None,
            telemetry.BadInput: lambda r: bad.add(r.source),
            telemetry.RegistryFaulty: lambda _: registry_up.set(0),
            telemetry.RegistryWell: lambda _: registry_up.set(1),
            telemetry.LeasesDoubted: lambda r: doubted.set(r.why is not None),
        }

    def watch_loop(self, worst_lag_s: Callable[[], float]) -> None:
        """Show how late the event loop was at most of late, in seconds, as `worst_lag_s` says at each scrape."""
        gauge = self.gauge("cellrouter_loop_lag_worst_seconds", "How late the event loop was at most of late.")
        gauge.set_function(worst_lag_s)
