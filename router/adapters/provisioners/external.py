"""Provisioner for workers that something else starts and restarts: compose, an ECS service, systemd."""

from __future__ import annotations

from router.core.errors import ProvisionError
from router.core.models import InstanceView


class ExternalProvisioner:
    """Launches nothing: workers claim their generations themselves, and the controller admits them."""

    can_launch = False
    takes_images = False

    async def launch(self, cell_id: str, generation: int, image: str | None = None) -> None:
        """Raise ProvisionError, since only something else can start a worker."""
        what = f"{cell_id} generation {generation}{f' of {image}' if image else ''}"
        raise ProvisionError(f"{what}: its workers are started from outside")

    async def stop(self, cell_id: str, generation: int) -> None:
        """Do nothing: a worker fences itself when a newer generation is admitted."""

    async def observe(self) -> list[InstanceView]:
        """Return no instances, since it started none."""
        return []
