"""What a router counts of the stress runs that go through it: latencies by phase, cell and tenant. Pure and bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from router.core.load.latencies import Latencies
from router.core.load.marks import read_mark
from router.core.models import Outcome
from router.core.telemetry import EventTimed

MAX_RUNS: Final = 4  # the newest; an older one is forgotten
MAX_TENANTS: Final = 5000  # of a run; those that come later count as one
REST: Final = "(others)"
"""How the tenants beyond the first MAX_TENANTS of a run are called together."""


class _RunTally:
    """One run, as one router has seen it."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, str], Latencies] = {}
        self.tenants: dict[tuple[int, str], Latencies] = {}
        self.names: set[str] = set()
        self.done: dict[int, int] = {}
        self.again: dict[int, int] = {}  # delivered once more after they were done
        self.again_of: dict[str, int] = {}  # the same by tenant: also those whose first answer was lost
        self.failures: dict[int, int] = {}  # attempts with another outcome than ok

    def tenant(self, key: str) -> str:
        """Return by which name a key is counted."""
        name = key if key in self.names or len(self.names) < MAX_TENANTS else REST
        self.names.add(name)
        return name


class RunTallies:
    """The newest stress runs. `note` is called for each answered event that has a mark."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, _RunTally] = OrderedDict()

    def note(self, record: EventTimed) -> None:
        """Count one answered event, by its mark; what is no mark counts nowhere."""
        mark = read_mark(record.mark)
        if mark is None:
            return
        run, phase = self._run(mark.run), mark.phase
        if record.outcome is not Outcome.OK:
            _count(run.failures, phase)
        elif record.duplicate:
            _count(run.again, phase)
            tenant = run.tenant(record.key)
            run.again_of[tenant] = run.again_of.get(tenant, 0) + 1
        else:
            _count(run.done, phase)
            took_ms = record.at_ms - mark.intended_ms
            tenant = run.tenant(record.key)
            run.cells.setdefault((phase, record.cell_id), Latencies()).add(took_ms)
            run.tenants.setdefault((phase, tenant), Latencies()).add(took_ms)

    def view(self, name: str) -> dict[str, Any]:
        """Return what is counted of a run, as JSON has it; empty lists of one that is not known."""
        run = self._runs.get(name, _RunTally())
        return {
            "run": name,
            "done": list(run.done.items()),
            "again": list(run.again.items()),
            "again_of": list(run.again_of.items()),
            "failures": list(run.failures.items()),
            "cells": _rows(run.cells),
            "tenants": _rows(run.tenants),
        }

    def _run(self, name: str) -> _RunTally:
        run = self._runs.setdefault(name, _RunTally())
        while len(self._runs) > MAX_RUNS:
            self._runs.popitem(last=False)
        return run


def _count(counts: dict[int, int], phase: int) -> None:
    counts[phase] = counts.get(phase, 0) + 1


def _rows(found: Mapping[tuple[int, str], Latencies]) -> list[list[Any]]:
    return [[phase, name, list(latencies.buckets.items())] for (phase, name), latencies in found.items()]
