"""What the demo asks the running system over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import aiohttp

from cell_worker import protocol
from cell_worker.protocol import Fault
from router.adapters.cells.chaos import inject


@dataclass(frozen=True, slots=True)
class System:
    """Where router and controller answer."""

    session: aiohttp.ClientSession
    router_url: str
    controller_url: str
    secret: str

    async def lanes(self) -> list[dict[str, Any]]:
        """The router's GET /cells; empty while it can't be reached."""
        return await self._get(f"{self.router_url}/cells")

    async def cells(self) -> list[dict[str, Any]]:
        """The controller's GET /cells."""
        return await self._get(f"{self.controller_url}/cells")

    async def audit(self) -> list[dict[str, Any]]:
        """What the controller did."""
        return await self._get(f"{self.controller_url}/audit")

    async def components(self, address: str) -> list[dict[str, Any]]:
        """The components of the worker at this address, and what each says of itself."""
        return await self._get(f"http://{address}{protocol.COMPONENTS_PATH}")

    async def inject(self, address: str, fault: Fault) -> None:
        """Have the worker at this address fail. Raises ChaosRefusedError, CellUnavailableError."""
        await inject(self.session, self.secret, address, fault)

    async def _get(self, url: str) -> list[dict[str, Any]]:
        try:
            async with self.session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
                found: list[dict[str, Any]] = await response.json() if response.ok else []
        except (aiohttp.ClientError, TimeoutError):
            return []
        return found
