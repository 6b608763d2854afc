"""The controller's view of instances: what their provisioner says, and which leases it contradicts."""

from __future__ import annotations

from collections.abc import Sequence

from router.core.control.lease_trust import refused_leases
from router.core.errors import ProvisionError
from router.core.models import InstanceView, LeaseView, Reason
from router.core.telemetry import ActionTaken, LeaseRefusal, LeaseRefused
from router.ports import Observer, Provisioner
from router.services.unforeseen import Unforeseen


class Fleet:
    """Looks at instances, launches and stops them. While the provisioner can't look, what it saw last counts."""

    def __init__(self, provisioner: Provisioner, observer: Observer, unforeseen: Unforeseen) -> None:
        self._provisioner = provisioner
        self._unforeseen = unforeseen
        self._observer = observer
        self._seen: dict[tuple[str, int], InstanceView] = {}
        self._stopping: set[tuple[str, int]] = set()
        self._told: set[tuple[str, int, str, LeaseRefusal]] = set()  # refused leases: cell, generation, address, fault
        self._why_unseen: Reason | None = None  # why the provisioner failed last, until it answers again

    @property
    def can_launch(self) -> bool:
        """Tell whether the controller launches workers; False when something else starts them."""
        return self._provisioner.can_launch

    async def look(self) -> tuple[InstanceView, ...]:
        """Ask the provisioner for its instances; returns all that are known, those that ended among them."""
        try:
            seen = await self._provisioner.observe()
        except ProvisionError as error:
            self._failed(str(error))
        except Exception as error:  # noqa: BLE001 - what can't be looked at now is still known from the last look
            self._failed(self._unforeseen.note("provisioner", error))
        else:
            self._seen, self._why_unseen = {(i.cell_id, i.generation): i for i in seen}, None
        return tuple(self._seen.values())

    @property
    def takes_images(self) -> bool:
        """Tell whether an instance can be launched with an image of our choice."""
        return self._provisioner.takes_images

    async def launch(self, cell_id: str, generation: int, image: str | None = None) -> None:
        """Start an instance without waiting for it to be ready. Raises ProvisionError."""
        await self._provisioner.launch(cell_id, generation, image)

    async def stop(self, cell_id: str, generation: int, why: Reason) -> None:
        """End an instance; the observer is told once, however many calls it takes."""
        if (cell_id, generation) not in self._stopping:
            self._stopping.add((cell_id, generation))
            self._observer.observe(ActionTaken(cell_id, "stop", why))
        try:
            await self._provisioner.stop(cell_id, generation)
        except ProvisionError as error:
            self._failed(str(error))

    def ended(self) -> list[InstanceView]:
        """List the instances that were stopped and have ended since the last call."""
        found = [self._seen[key] for key in sorted(self._stopping & self._seen.keys()) if not self._seen[key].running]
        self._stopping.difference_update((view.cell_id, view.generation) for view in found)
        return found

    def believed(self, leases: Sequence[LeaseView]) -> tuple[LeaseView, ...]:
        """Leave out the leases that the provisioner contradicts, and tell of each such lease once."""
        refused = refused_leases(leases, self._seen)
        found = {(lease.cell_id, lease.generation, lease.address, fault) for lease, fault in refused.items()}
        for cell_id, generation, _, fault in sorted(found - self._told):
            self._observer.observe(LeaseRefused(f"{cell_id}/{generation}", fault))
        self._told = found
        return tuple(lease for lease in leases if lease not in refused)

    def _failed(self, why: Reason) -> None:
        if why != self._why_unseen:
            self._observer.observe(ActionTaken("", "provisioner failed", why))
        self._why_unseen = why
