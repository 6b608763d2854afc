"""The controller's view of instances: what their provisioner says, and what that says of their leases."""

from __future__ import annotations

from collections.abc import Iterable

from router.core.control.lease_trust import contradiction
from router.core.errors import ProvisionError
from router.core.models import InstanceView, LeaseView
from router.core.telemetry import ActionTaken, LeaseRefused
from router.ports import Observer, Provisioner


class Fleet:
    """Looks, and stops. While the provisioner can't look, what it saw last counts: what has ended never runs again."""

    def __init__(self, provisioner: Provisioner, observer: Observer) -> None:
        self._provisioner = provisioner
        self._observer = observer
        self._seen: dict[tuple[str, int], InstanceView] = {}
        self._stopping: set[tuple[str, int]] = set()
        self._refused: dict[tuple[str, int, str], str] = {}  # what has been told of
        self._fault = ""

    @property
    def can_launch(self) -> bool:
        """False: something else starts the workers."""
        return self._provisioner.can_launch

    async def look(self) -> tuple[InstanceView, ...]:
        """All that are known."""
        try:
            seen = await self._provisioner.observe()
        except ProvisionError as error:
            self._blind(str(error))
        else:
            self._seen, self._fault = {(i.cell_id, i.generation): i for i in seen}, ""
        return tuple(self._seen.values())

    async def launch(self, cell_id: str, generation: int) -> None:
        """Start an instance. Raises ProvisionError."""
        await self._provisioner.launch(cell_id, generation)

    async def stop(self, cell_id: str, generation: int, why: str) -> None:
        """End an instance. It is told of once, however often it takes."""
        if (cell_id, generation) not in self._stopping:
            self._stopping.add((cell_id, generation))
            self._observer.observe(ActionTaken(cell_id, "stop", why))
        try:
            await self._provisioner.stop(cell_id, generation)
        except ProvisionError as error:
            self._blind(str(error))

    def ended(self) -> list[InstanceView]:
        """Those that were stopped and have ended, each once."""
        found = [self._seen[key] for key in sorted(self._stopping & self._seen.keys()) if not self._seen[key].running]
        self._stopping.difference_update((view.cell_id, view.generation) for view in found)
        return found

    def believed(self, leases: Iterable[LeaseView]) -> tuple[LeaseView, ...]:
        """Without those that the provisioner contradicts."""
        found, refused = [], {}
        knows = any(instance.address for instance in self._seen.values())
        for lease in leases:
            if knows and (why := contradiction(lease, self._seen.get((lease.cell_id, lease.generation)))):
                refused[lease.cell_id, lease.generation, lease.address] = why
            else:
                found.append(lease)
        for (cell_id, generation, _), why in refused.items() - self._refused.items():
            self._observer.observe(LeaseRefused(f"{cell_id}/{generation}", why))
        self._refused = refused
        return tuple(found)

    def _blind(self, fault: str) -> None:
        if fault != self._fault:
            self._observer.observe(ActionTaken("", "provisioner failed", fault))
        self._fault = fault
