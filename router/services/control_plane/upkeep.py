"""Makes the durable components of cells anew when they have gone.

Somebody may delete a queue, and an AWS emulator that is restarted has forgotten all of them. The ladder would not
notice: only routers see that a cell has no hold queue. It also looks for hold queues of cells that nobody remembers:
something may lie in them. And it has removed what cells that were taken out of service have left, once that is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from router.core.control.records import made_anew
from router.core.errors import NotLeaderError, NotYetError, ProvisionError, RegistryUnavailableError
from router.core.models import Reason
from router.core.registry import AuditEntry, Change
from router.core.telemetry import ActionTaken
from router.ports import CellRegistry, CellResources, Clock, Observer
from router.services.unforeseen import Unforeseen

ROUND_S: Final = 10.0  # in which each cell is looked at once, if there are few
PAUSE_S: Final = 0.5  # between two cells at least: Firehose allows 5 calls a second


LEFT_OVER_S: Final = 60.0  # between two looks for hold queues of cells that nobody remembers


@dataclass(frozen=True, slots=True)
class LedCells:
    """The cells that a controller looks after while it leads, and the epoch of its lead."""

    epoch: int
    cells: Sequence[str]
    left: Sequence[str] = ()  # cells that were taken out of service and have no instance any more


class Upkeep:
    """Looks after the leader's cells, one after the other; `led` returns None while another controller leads."""

    def __init__(
        self,
        who: str,
        registry: CellRegistry,
        resources: CellResources,
        led: Callable[[], LedCells | None],
        found: Callable[[Collection[str]], None],
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._who = who
        self._registry = registry
        self._resources = resources
        self._led = led
        self._found = found
        self._looked_at: float | None = None  # when hold queues were last looked for, in monotonic seconds
        self._clock = clock
        self._observer = observer
        self._unforeseen = Unforeseen(observer, clock)
        self._why_failed: dict[str, Reason] = {}  # by cell, what has been told of

    async def run(self) -> None:
        """Look at one cell after the other, again and again, until cancelled."""
        while True:
            led = self._led()
            cells = led.cells if led is not None else ()
            if led is not None and self._is_time_for_leftovers():
                await self._look_for_hold_queues()
                for cell_id in led.left:
                    await self._remove(cell_id)
                    await self._clock.sleep(PAUSE_S)
            for cell_id in cells:
                await self._look(cell_id)
                await self._clock.sleep(max(PAUSE_S, ROUND_S / len(cells)))
            if not cells:
                await self._clock.sleep(ROUND_S)

    def _is_time_for_leftovers(self) -> bool:
        now = self._clock.monotonic()
        if self._looked_at is not None and now - self._looked_at < LEFT_OVER_S:
            return False
        self._looked_at = now
        return True

    async def _look_for_hold_queues(self) -> None:
        try:
            self._found(await self._resources.with_hold_queues())
        except ProvisionError as error:
            self._failed("", str(error))
        except Exception as error:  # noqa: BLE001 - the cells have to be looked at all the same
            self._failed("", self._unforeseen.note("upkeep", error))
        else:
            self._why_failed.pop("", None)

    async def _look(self, cell_id: str) -> None:
        led = self._led()
        if led is None or cell_id not in led.cells:
            return
        try:
            missing = await self._resources.ensure(cell_id)
        except NotYetError:
            return  # it is being made
        except ProvisionError as error:
            self._failed(cell_id, str(error))
            return
        except Exception as error:  # noqa: BLE001 - the other cells have to be looked at all the same
            self._failed(cell_id, self._unforeseen.note("upkeep", error))
            return
        self._why_failed.pop(cell_id, None)
        if missing:
            await self._note(led.epoch, cell_id, "reprovisioned", made_anew(missing))

    async def _remove(self, cell_id: str) -> None:
        led = self._led()
        if led is None or cell_id not in led.left:
            return
        try:
            why_left = await self._resources.remove(cell_id)
        except ProvisionError as error:
            why_left = str(error)
        except Exception as error:  # noqa: BLE001 - the other cells have to be looked at all the same
            why_left = self._unforeseen.note("upkeep", error)
        if why_left is None:
            if self._why_failed.pop(cell_id, None) is not None:
                await self._note(led.epoch, cell_id, "remove", "what it had is gone")
        elif self._why_failed.get(cell_id) != why_left:
            self._why_failed[cell_id] = why_left
            await self._note(led.epoch, cell_id, "remove", why_left)

    async def _note(self, epoch: int, cell_id: str, action: str, why: str) -> None:
        self._observer.observe(ActionTaken(cell_id, action, why))
        entry = AuditEntry(self._clock.time_ms(), self._who, action, cell_id, why)
        try:
            await self._registry.write(epoch, Change(audit=[entry]))
        except (NotLeaderError, RegistryUnavailableError):
            return  # it is done, and the observer knows

    def _failed(self, cell_id: str, why: Reason) -> None:
        """Tell of a failure once; the next round tries again."""
        if self._why_failed.get(cell_id) != why:
            self._observer.observe(ActionTaken(cell_id, "reprovision failed", why))
        self._why_failed[cell_id] = why
