"""What a process has to do without right now, for its readiness: it goes on, and says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from router.core import telemetry
from router.core.models import Reason


class Troubles:
    """An observer that keeps what is amiss until it is well again. `handlers` has a function for each record."""

    def __init__(self) -> None:
        self._now: dict[str, Reason] = {}  # by what is amiss
        self._denied: set[str] = set()  # queues that AWS refuses us
        self.handlers: Mapping[type, Callable[[Any], None]] = {
            telemetry.QueueFaulty: self._on_queue_faulty,
            telemetry.QueueWell: lambda r: self._on_queue_well(r.queue),
            telemetry.RegistryFaulty: lambda r: self._note("registry", f"{r.fault}: {r.why}"),
            telemetry.RegistryWell: lambda _: self._note("registry", None),
            telemetry.DistrustedCall: lambda r: self._note(f"trust of {r.cell_id}", r.why),
            telemetry.CellTrusted: lambda r: self._note(f"trust of {r.cell_id}", None),
            telemetry.LeasesDoubted: lambda r: self._note("leases", r.why),
            telemetry.AccessDenied: lambda r: self._note("access", r.why),
        }

    def reasons(self) -> list[Reason]:
        """List what is amiss now, and why."""
        return [f"{what}: {why}" for what, why in self._now.items()]

    def why_denied(self, queue: str) -> list[Reason]:
        """Say why AWS refuses this process a queue; nothing while it does not."""
        return [self._now[f"queue {queue}"]] if queue in self._denied else []

    def _on_queue_faulty(self, record: telemetry.QueueFaulty) -> None:
        self._on_queue_well(record.queue)
        self._note(f"queue {record.queue}", record.why)
        if record.denied:
            self._denied.add(record.queue)

    def _on_queue_well(self, queue: str) -> None:
        self._denied.discard(queue)
        self._note(f"queue {queue}", None)

    def _note(self, what: str, why: Reason | None) -> None:
        if why is None:
            self._now.pop(what, None)
        else:
            self._now[what] = why
