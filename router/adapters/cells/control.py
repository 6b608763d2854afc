"""InstanceControl over HTTP, as the wire contract says."""

from __future__ import annotations

from urllib.parse import quote

import aiohttp

from cell_worker.contract import protocol
from cell_worker.contract.strict_reader import StrictReader, Unreadable
from router.adapters.cells.calls import MAX_ANSWER_BYTES, CellCalls
from router.core.errors import CellUnavailableError
from router.core.models import ComponentView, Target

_health = StrictReader[list[protocol.ComponentHealth]]("components", list[protocol.ComponentHealth], MAX_ANSWER_BYTES)


class HttpCellControl:
    """Asks instances for their components and for restarts. An instance may be sick, so every call ends in time."""

    def __init__(self, calls: CellCalls) -> None:
        self._calls = calls

    async def components(self, target: Target, within_s: float) -> list[ComponentView]:
        """GET /components: have the instance check its components now."""
        body = await self._call("GET", target, protocol.COMPONENTS_PATH, within_s)
        found = _health.read(body)
        if isinstance(found, Unreadable):
            raise CellUnavailableError(f"{target.address}: not a list of components: {found.why}")
        return [ComponentView(c.name, c.healthy, c.detail[: protocol.MAX_REASON_CHARS]) for c in found]

    async def restart(self, target: Target, component: str, within_s: float) -> None:
        """POST /v1/components/{name}/restart: have the instance restart one component, or itself."""
        path = protocol.COMPONENT_RESTART_PATH.format(name=quote(component, safe=""))
        await self._call("POST", target, path, within_s)

    async def _call(self, method: str, target: Target, path: str, within_s: float) -> bytes:
        async with self._calls.call(method, target, path, b"", aiohttp.ClientTimeout(total=within_s)) as answer:
            return await answer.whole()
