"""What the rungs of the ladder do to a sick cell, beside being written down. Each ends within a second or two.

The controller's lease has to be renewed meanwhile, and what is sick may not answer at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from router.core.control.actions import Treat
from router.core.control.ladder import after_mending, after_reprovisioning, after_restarting
from router.core.errors import CellRefusedError, CellUnavailableError, ProvisionError
from router.core.models import CellRecord, Rung
from router.core.registry import Snapshot
from router.ports import CellResources, InstanceControl

ASK_S: Final = 0.8  # for an instance to answer
REPROVISION_S: Final = 2.0  # for what is missing to be made; the rest is made the next time
WORKER: Final = "worker"  # the component that is the instance itself


@dataclass(frozen=True, slots=True)
class TreatmentResult:
    """What was done, for the audit, and the next rung when this one is of no use."""

    action: str = ""
    done: str = ""
    then: Treat | None = None
    record: CellRecord | None = None  # the record with what is to be remembered of it


class Treater:
    """Where sick cells are treated."""

    def __init__(self, instances: InstanceControl, resources: CellResources, *, can_launch: bool) -> None:
        self._instances = instances
        self._resources = resources
        self._can_launch = can_launch

    async def treat(self, record: CellRecord, snapshot: Snapshot) -> TreatmentResult:
        """Do what the record's rung is for."""
        match record.treatment.rung:
            case Rung.MENDING:
                return await self._mend(record, snapshot)
            case Rung.RESTARTING:
                return await self._restart(record, snapshot)
            case Rung.REPROVISIONING:
                return await self._reprovision(record, snapshot)
            case _:
                return TreatmentResult()

    async def end(self, record: CellRecord, snapshot: Snapshot) -> str:
        """Ask the record's instance to end in order; what was wrong with that, nothing when it will."""
        try:
            await self._instances.restart(_address(record, snapshot), WORKER, ASK_S)
        except (CellUnavailableError, CellRefusedError) as error:
            return str(error) or type(error).__name__
        return ""

    async def _mend(self, record: CellRecord, snapshot: Snapshot) -> TreatmentResult:
        """Restart the components that say of themselves that they are sick; without any, this rung is of no use."""
        then = Treat(
            record.cell_id, after_mending(record, snapshot.now_ms, can_launch=self._can_launch), record.treatment.why
        )
        try:
            components = await self._instances.components(_address(record, snapshot), ASK_S)
        except (CellUnavailableError, CellRefusedError) as error:
            return TreatmentResult("ask for components", f"no answer: {error}", then)
        sick = [component for component in components if not component.healthy and component.name != WORKER]
        if not sick:
            return TreatmentResult(then=then)
        said = await asyncio.gather(*(self._restart_component(record, snapshot, c.name, c.detail) for c in sick))
        return TreatmentResult("restart components", "; ".join(said))

    async def _restart_component(self, record: CellRecord, snapshot: Snapshot, name: str, detail: str) -> str:
        try:
            await self._instances.restart(_address(record, snapshot), name, ASK_S)
        except (CellUnavailableError, CellRefusedError) as error:
            return f"{name} ({detail}): {error}"
        return f"{name} ({detail})"

    async def _restart(self, record: CellRecord, snapshot: Snapshot) -> TreatmentResult:
        fault = await self.end(record, snapshot)
        if not fault:
            return TreatmentResult()
        treatment = after_restarting(record, snapshot.now_ms, can_launch=self._can_launch)
        return TreatmentResult("restart failed", fault, Treat(record.cell_id, treatment, record.treatment.why))

    async def _reprovision(self, record: CellRecord, snapshot: Snapshot) -> TreatmentResult:
        made = replace(
            record, reprovisioned_at_ms=snapshot.now_ms, treatment=after_reprovisioning(record, snapshot.now_ms)
        )
        try:
            async with asyncio.timeout(REPROVISION_S):
                missing = await self._resources.ensure(record.cell_id)
        except (ProvisionError, TimeoutError) as error:
            return TreatmentResult("reprovision failed", f"{type(error).__name__}: {error}", record=made)
        return TreatmentResult("reprovisioned", made_anew(missing), record=made)


def made_anew(missing: Sequence[str]) -> str:
    """For the audit."""
    return f"made anew: {', '.join(missing)}" if missing else "nothing was missing"


def _address(record: CellRecord, snapshot: Snapshot) -> str:
    """Where the admitted instance is. Raises CellUnavailableError."""
    if lease := snapshot.lease(record.cell_id, record.generation):
        return lease.address
    raise CellUnavailableError(f"{record.cell_id} generation {record.generation} has no lease")
