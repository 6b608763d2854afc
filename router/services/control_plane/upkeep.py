"""Has what belongs to cells made anew when it has gone.

Somebody may delete a queue, and a stand-in for AWS that is restarted has forgotten all of them. The ladder would not
notice: what a cell can't do without its hold queue is seen by routers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from router.core.errors import NotLeaderError, ProvisionError, RegistryUnavailableError
from router.core.registry import AuditEntry, Change
from router.core.telemetry import ActionTaken
from router.ports import CellRegistry, CellResources, Clock, Observer
from router.services.control_plane.treatment import made_anew

ROUND_S: Final = 10.0
PAUSE_S: Final = 0.5  # between two cells, so that a round of many takes longer: Firehose allows 5 looks a second


@dataclass(frozen=True, slots=True)
class Charge:
    """What a controller is answerable for while it leads."""

    epoch: int
    cells: Sequence[str]


class Upkeep:
    """Of the leader: `charge` gives nothing while another leads."""

    def __init__(
        self,
        who: str,
        registry: CellRegistry,
        resources: CellResources,
        charge: Callable[[], Charge | None],
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._who = who
        self._registry = registry
        self._resources = resources
        self._charge = charge
        self._clock = clock
        self._observer = observer
        self._faults: dict[str, str] = {}  # what has been told of, by cell

    async def run(self) -> None:
        """One cell after the other, again and again, until cancelled."""
        while True:
            charge = self._charge()
            cells = charge.cells if charge is not None else ()
            for cell_id in cells:
                await self._look(cell_id)
                await self._clock.sleep(max(PAUSE_S, ROUND_S / len(cells)))
            if not cells:
                await self._clock.sleep(ROUND_S)

    async def _look(self, cell_id: str) -> None:
        charge = self._charge()
        if charge is None or cell_id not in charge.cells:
            return
        try:
            missing = await self._resources.ensure(cell_id)
        except ProvisionError as error:
            self._failed(cell_id, str(error))
            return
        self._faults.pop(cell_id, None)
        if missing:
            await self._note(charge.epoch, cell_id, made_anew(missing))

    async def _note(self, epoch: int, cell_id: str, why: str) -> None:
        self._observer.observe(ActionTaken(cell_id, "reprovisioned", why))
        entry = AuditEntry(self._clock.time_ms(), self._who, "reprovisioned", cell_id, why)
        try:
            await self._registry.write(epoch, Change(audit=[entry]))
        except (NotLeaderError, RegistryUnavailableError):
            return  # it is done, and in the log

    def _failed(self, cell_id: str, fault: str) -> None:
        """Say it once: the next round tries again."""
        if self._faults.get(cell_id) != fault:
            self._observer.observe(ActionTaken(cell_id, "reprovision failed", fault))
        self._faults[cell_id] = fault
