"""InstanceControl over HTTP, as the wire contract says."""

from __future__ import annotations

from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from cell_worker.contract import protocol
from cell_worker.contract.strict_reader import StrictReader, Unreadable
from router.core.errors import CellRefusedError, CellUnavailableError
from router.core.models import ComponentView

_MAX_ANSWER_BYTES: Final = 256 * 1024
_health = StrictReader[list[protocol.ComponentHealth]]("components", list[protocol.ComponentHealth], _MAX_ANSWER_BYTES)


class HttpCellControl:
    """Asks instances for their components and for restarts. An instance may be sick, so every call ends in time."""

    def __init__(self, session: aiohttp.ClientSession, secret: str) -> None:
        self._session = session
        self._headers = {"Authorization": protocol.bearer(secret)}

    async def components(self, address: str, within_s: float) -> list[ComponentView]:
        """GET /components: have the instance check its components now."""
        body = await self._call("GET", address, protocol.COMPONENTS_PATH, within_s)
        found = _health.read(body)
        if isinstance(found, Unreadable):
            raise CellUnavailableError(f"{address}: not a list of components: {found.why}")
        return [ComponentView(c.name, c.healthy, c.detail[: protocol.MAX_REASON_CHARS]) for c in found]

    async def restart(self, address: str, component: str, within_s: float) -> None:
        """POST /v1/components/{name}/restart: have the instance restart one component, or itself."""
        await self._call("POST", address, protocol.COMPONENT_RESTART_PATH.format(name=component), within_s)

    async def _call(self, method: str, address: str, path: str, within_s: float) -> bytes:
        timeout = aiohttp.ClientTimeout(total=within_s)
        try:
            async with self._session.request(
                method, f"http://{address}{path}", headers=self._headers, timeout=timeout, allow_redirects=False
            ) as response:
                body = await _whole(response)
                if response.status != 200:  # noqa: PLR2004 - HTTP's own number
                    raise CellRefusedError(response.status, body[:500].decode("utf-8", "replace"))
                return body
        except (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError, ValueError) as error:
            raise CellUnavailableError(f"{address}: {type(error).__name__}: {error}") from error


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """Read a whole answer. Raises ValueError for a longer one than any honest instance gives."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_ANSWER_BYTES:
            raise ValueError(f"an answer of more than {_MAX_ANSWER_BYTES} bytes")
    return bytes(body)
