"""InstanceControl over HTTP, as the wire contract says."""

from __future__ import annotations

import aiohttp
import msgspec

from cell_worker import protocol
from router.core.errors import CellRefusedError, CellUnavailableError
from router.core.models import ComponentView

_health = msgspec.json.Decoder(list[protocol.ComponentHealth])


class HttpCellControl:
    """Asks instances for their components and for restarts. An instance may be sick, so every call ends in time."""

    def __init__(self, session: aiohttp.ClientSession, secret: str) -> None:
        self._session = session
        self._headers = {"Authorization": protocol.bearer(secret)}

    async def components(self, address: str, within_s: float) -> list[ComponentView]:
        """GET /components: have the instance check its components now."""
        body = await self._call("GET", address, protocol.COMPONENTS_PATH, within_s)
        try:
            return [ComponentView(c.name, c.healthy, c.detail) for c in _health.decode(body)]
        except msgspec.DecodeError as error:
            raise CellUnavailableError(f"{address}: not a list of components: {error}") from error

    async def restart(self, address: str, component: str, within_s: float) -> None:
        """POST /v1/components/{name}/restart: have the instance restart one component, or itself."""
        await self._call("POST", address, protocol.COMPONENT_RESTART_PATH.format(name=component), within_s)

    async def _call(self, method: str, address: str, path: str, within_s: float) -> bytes:
        timeout = aiohttp.ClientTimeout(total=within_s)
        try:
            async with self._session.request(
                method, f"http://{address}{path}", headers=self._headers, timeout=timeout
            ) as response:
                body = await response.content.read(protocol.MAX_BATCH_BYTES)
                if not response.ok:
                    raise CellRefusedError(response.status, body[:500].decode("utf-8", "replace"))
                return body
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise CellUnavailableError(f"{address}: {type(error).__name__}: {error}") from error
