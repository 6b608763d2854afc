"""What the demo asks of the running system over HTTP."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp

from cell_worker.contract import protocol
from cell_worker.contract.protocol import Fault
from router.adapters.cells.calls import CellCalls
from router.adapters.cells.chaos import inject
from router.adapters.http_session import http_session
from router.bootstrap.registry import keyring_of
from router.bootstrap.workers import ends_of
from router.core.models import Target
from router.ports import Clock
from router.settings import Settings


@dataclass(frozen=True, slots=True)
class SystemClient:
    """Asks the router, the controller and the workers of a running system."""

    session: aiohttp.ClientSession
    router_url: str
    controller_url: str
    calls: CellCalls

    async def lanes(self) -> list[dict[str, Any]]:
        """Return the router's lanes, by its GET /cells; none while it can't be reached."""
        return await self._get(f"{self.router_url}/cells")

    async def cells(self) -> list[dict[str, Any]]:
        """Return the cells as the controller sees them, by its GET /cells; none while it can't be reached."""
        return await self._get(f"{self.controller_url}/cells")

    async def audit(self) -> list[dict[str, Any]]:
        """Return what the controller did lately, by its GET /audit; nothing while it can't be reached."""
        return await self._get(f"{self.controller_url}/audit")

    async def components(self, address: str) -> list[dict[str, Any]]:
        """Return the components of the worker at an address, and what each says of itself."""
        return await self._get(f"http://{address}{protocol.COMPONENTS_PATH}")

    async def inject(self, lane: dict[str, Any], fault: Fault) -> None:
        """Have the worker of a lane fail. Raises ChaosRefusedError or CellUnavailableError."""
        await inject(self.calls, Target(lane["cell_id"], lane["generation"], lane["address"], 1, 0), fault)

    async def _get(self, url: str) -> list[dict[str, Any]]:
        try:
            timeout = aiohttp.ClientTimeout(total=2)
            async with self.session.get(url, timeout=timeout, allow_redirects=False) as response:
                found: list[dict[str, Any]] = await response.json() if response.status == HTTPStatus.OK else []
        except (aiohttp.ClientError, TimeoutError):
            return []
        return found


async def open_system(
    stack: AsyncExitStack, settings: Settings, router_url: str, controller_url: str, clock: Clock
) -> SystemClient:
    """Make a client of the system at these URLs, which asks its workers as these settings say; the stack closes it."""
    session = await stack.enter_async_context(http_session())
    calls = CellCalls(session, keyring_of(settings), clock, ends=ends_of(stack, settings, clock))
    return SystemClient(session, router_url, controller_url, calls)
