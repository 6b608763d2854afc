"""Provisioner for workers that something else starts and restarts: compose, ECS services, systemd."""

from __future__ import annotations

from router.core.errors import ProvisionError
from router.core.models import InstanceView


class ExternalProvisioner:
    """Launches nothing: such workers claim their own generation, and the controller admits them."""

    can_launch = False

    async def launch(self, cell_id: str, generation: int) -> None:
        """Not possible."""
        raise ProvisionError(f"{cell_id} generation {generation}: its workers are started from outside")

    async def stop(self, cell_id: str, generation: int) -> None:
        """Nothing to do: a worker of an older generation fences itself."""

    async def observe(self) -> list[InstanceView]:
        """None that it started."""
        return []
