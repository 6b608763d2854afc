"""Does the work of a rung on a sick cell: asks its instance, has its components made. Core decides what follows.

Each call ends within a second or two: the controller's lease has to be renewed meanwhile, and a sick instance may
not answer at all.
"""

from __future__ import annotations

import asyncio
from typing import Final

from router.core.control import ladder
from router.core.control.ladder import WORKER, ComponentRestart, TreatmentResult
from router.core.errors import CellRefusedError, CellUnavailableError, NotYetError, ProvisionError
from router.core.models import CellRecord, ComponentView, Reason, Rung, Target
from router.core.registry import Snapshot
from router.ports import CellResources, InstanceControl

ASK_S: Final = 0.8  # for an instance to answer
REPROVISION_S: Final = 2.0  # for missing components to be made; the rest is made the next time


class Treater:
    """Does what a rung is for, and reports what the instance or the provisioner said to it."""

    def __init__(self, instances: InstanceControl, resources: CellResources, *, can_launch: bool) -> None:
        self._instances = instances
        self._resources = resources
        self._can_launch = can_launch

    async def treat(self, record: CellRecord, snapshot: Snapshot) -> TreatmentResult:
        """Do the work of the record's rung, if that rung has any."""
        match record.treatment.rung:
            case Rung.MENDING:
                return await self._mend(record, snapshot)
            case Rung.RESTARTING:
                why_failed = await self.end(record.cell_id, record.generation, snapshot)
                return ladder.restarted(record, why_failed, snapshot.now_ms, can_launch=self._can_launch)
            case Rung.REPROVISIONING:
                return await self._reprovision(record, snapshot.now_ms)
            case _:
                return TreatmentResult()

    async def end(self, cell_id: str, generation: int, snapshot: Snapshot) -> Reason | None:
        """Ask an instance to finish its events and end; returns why it will not, None when it will."""
        try:
            await self._instances.restart(_target(cell_id, generation, snapshot), WORKER, ASK_S)
        except (CellUnavailableError, CellRefusedError) as error:
            return str(error) or type(error).__name__
        return None

    async def _mend(self, record: CellRecord, snapshot: Snapshot) -> TreatmentResult:
        now_ms, can_launch = snapshot.now_ms, self._can_launch
        try:
            target = _target(record.cell_id, record.generation, snapshot)
            components = await self._instances.components(target, ASK_S)
        except (CellUnavailableError, CellRefusedError) as error:
            return ladder.components_unknown(record, str(error), now_ms, can_launch=can_launch)
        sick = ladder.sick_components(components)
        restarts = await asyncio.gather(*(self._restart(target, component) for component in sick))
        return ladder.mended(record, restarts, now_ms, can_launch=can_launch)

    async def _restart(self, target: Target, component: ComponentView) -> ComponentRestart:
        try:
            await self._instances.restart(target, component.name, ASK_S)
        except (CellUnavailableError, CellRefusedError) as error:
            return ComponentRestart(component, str(error))
        return ComponentRestart(component)

    async def _reprovision(self, record: CellRecord, now_ms: int) -> TreatmentResult:
        try:
            async with asyncio.timeout(REPROVISION_S):
                missing = await self._resources.ensure(record.cell_id)
        except NotYetError:
            return TreatmentResult()  # it is being made; the rung has its time
        except (ProvisionError, TimeoutError) as error:
            return ladder.reprovision_failed(record, f"{type(error).__name__}: {error}", now_ms)
        return ladder.reprovisioned(record, missing, now_ms)


def _target(cell_id: str, generation: int, snapshot: Snapshot) -> Target:
    """Where calls to the instance go, by its lease. Raises CellUnavailableError."""
    if lease := snapshot.lease(cell_id, generation):
        return lease.target()
    raise CellUnavailableError(f"{cell_id} generation {generation} has no lease")
