"""Measures the worker itself once a second, so that who sees it slow can tell a busy one from a sick one.

It tells of the last SPAN_S: one second alone would say something else at each look.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cell_worker import clock
from cell_worker.contract.protocol import MAX_VITAL_S, Vitals
from cell_worker.metrics import WorkerMetrics
from cell_worker.vitals.host import CpuQuota, cpu_quota, usable_cpus, waited_s

EVERY_S: Final = 1.0
SPAN_S: Final = 5
"""Seconds that are told of: as many as a cell must be slow for, before it counts as slow."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was counted since the worker began, at one moment; the worst of the second before it."""

    at: float  # by the monotonic clock
    cpu_s: float  # of CPU time that the process used
    waited_s: float | None  # for a core
    throttled_s: float | None  # by a CPU quota
    gc_s: float  # in which Python's garbage collector stopped everything
    writes: int  # to the store
    writes_s: float  # that they took together
    slowest_write_s: float  # also of those that are not finished
    worst_lag_s: float  # of the event loop


class GcClock:
    """Adds up for how long Python's garbage collector stops everything, from `start` to `stop`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def start(self) -> None:
        """Have Python tell of each collection."""
        gc.callbacks.append(self._heard)

    def stop(self) -> None:
        """Have Python tell of no more collections."""
        gc.callbacks.remove(self._heard)

    def _heard(self, phase: str, _: Mapping[str, Any]) -> None:
        now = clock.monotonic()
        if phase == "start":
            self._since = now
        elif self._since is not None:
            self.seconds += now - self._since
            self._since = None


class VitalSigns:
    """Takes a reading a second, shows what it means as gauges, and keeps it for the instance's lease."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics
        self._quota: CpuQuota | None = cpu_quota()
        self._cpus = usable_cpus(self._quota)
        self._gc = GcClock()
        self._readings: deque[Reading] = deque(maxlen=SPAN_S + 1)
        self.said: Vitals | None = None  # None until there are two readings

    async def run(self) -> None:
        """Take a reading a second, until cancelled."""
        self._gc.start()
        try:
            while True:
                self._read()
                await clock.sleep(EVERY_S)
        finally:
            self._gc.stop()

    def _read(self) -> None:
        self._readings.append(self._reading())
        self.said = vitals_of(self._readings, self._cpus)
        if self.said is not None:
            self._metrics.show(self.said)

    def _reading(self) -> Reading:
        strain, now = self._metrics.strain, clock.monotonic()
        return Reading(
            at=now,
            cpu_s=clock.cpu_s(),
            waited_s=waited_s(),
            throttled_s=self._quota.throttled_s() if self._quota is not None else None,
            gc_s=self._gc.seconds,
            writes=strain.writes,
            writes_s=strain.writes_s,
            slowest_write_s=strain.take_slowest_write_s(now),
            worst_lag_s=strain.take_worst_lag_s(),
        )


def vitals_of(readings: Sequence[Reading], cpus: float) -> Vitals | None:
    """Say what readings of the last seconds mean together; None while there are too few. Each figure is in its range.

    A process that stood still for a minute says so at its next reading, of that minute and what was before.
    """
    first, last = readings[0], readings[-1]
    span_s = last.at - first.at
    if span_s <= 0:
        return None
    writes, seconds = last.writes - first.writes, list(readings)[1:]
    return Vitals(
        cpus=cpus,
        cpu=_share((last.cpu_s - first.cpu_s) / cpus, span_s),
        waited=_share_between(first.waited_s, last.waited_s, span_s),
        throttled=_share_between(first.throttled_s, last.throttled_s, span_s),
        lag_s=_seconds(max(reading.worst_lag_s for reading in seconds)),
        gc=_share(last.gc_s - first.gc_s, span_s),
        write_s=_seconds((last.writes_s - first.writes_s) / writes) if writes else 0.0,
        slowest_write_s=_seconds(max(reading.slowest_write_s for reading in seconds)),
    )


def _share_between(before: float | None, after: float | None, span_s: float) -> float | None:
    return _share(after - before, span_s) if before is not None and after is not None else None


def _share(seconds: float, span_s: float) -> float:
    return round(min(max(seconds / span_s, 0.0), 1.0), 4)


def _seconds(seconds: float) -> float:
    return round(min(max(seconds, 0.0), MAX_VITAL_S), 5)
