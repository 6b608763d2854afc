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
        self.handlers: Mapping[type, Callable[[Any], None]] = {
            telemetry.QueueFaulty: lambda r: self._note(f"queue {r.queue}", r.why),
            telemetry.QueueWell: lambda r: self._note(f"queue {r.queue}", None),
            telemetry.RegistryFaulty: lambda r: self._note("registry", f"{r.fault}: {r.why}"),
            telemetry.RegistryWell: lambda _: self._note("registry", None),
            telemetry.DistrustedCall: lambda r: self._note(f"trust of {r.cell_id}", r.why),
            telemetry.CellTrusted: lambda r: self._note(f"trust of {r.cell_id}", None),
            telemetry.LeasesDoubted: lambda r: self._note("leases", r.why),
        }

    def reasons(self) -> list[Reason]:
        """List what is amiss now, and why."""
        return [f"{what}: {why}" for what, why in self._now.items()]

    def _note(self, what: str, why: Reason | None) -> None:
        if why is None:
            self._now.pop(what, None)
        else:
            self._now[what] = why
