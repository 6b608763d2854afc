"""Injects faults into a running instance, as the wire contract says."""

from __future__ import annotations

from typing import Final

import aiohttp
import msgspec

from cell_worker.contract import protocol
from cell_worker.contract.protocol import Fault, FaultKind
from cell_worker.contract.strict_reader import StrictReader, Unreadable
from router.core.errors import CellUnavailableError, ChaosRefusedError

_TIMEOUT: aiohttp.ClientTimeout = aiohttp.ClientTimeout(total=10, sock_connect=2)
_FORBIDDEN = 403
_MAX_ANSWER_BYTES: Final = 2000


class _Refusal(msgspec.Struct, frozen=True):
    """What FastAPI answers to a command that it refuses."""

    detail: str


_refusal: Final = StrictReader[_Refusal]("refusal", _Refusal, _MAX_ANSWER_BYTES)


async def inject(session: aiohttp.ClientSession, secret: str, address: str, fault: Fault) -> None:
    """Have the instance at `address` (host:port) misbehave as `fault` says.

    Raises ChaosRefusedError with the reason when it refuses, and CellUnavailableError when it can't be reached.
    """
    headers = {"Authorization": protocol.bearer(secret), "Content-Type": "application/json"}
    body, url = msgspec.json.encode(fault), f"http://{address}{protocol.CHAOS_PATH}"
    try:
        async with session.post(url, data=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False) as response:
            if response.status != 200:  # noqa: PLR2004 - HTTP's own number
                raise ChaosRefusedError(f"{address} refuses: {await _reason(response)}")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        # A process that kills itself sends no answer. One that does not run refuses the connection.
        if fault.kind is not FaultKind.CRASH or isinstance(error, aiohttp.ClientConnectorError):
            raise CellUnavailableError(f"{address} can't be reached: {type(error).__name__}: {error}") from error


async def _reason(response: aiohttp.ClientResponse) -> str:
    text = await response.content.read(_MAX_ANSWER_BYTES)
    refusal = _refusal.read(text)
    if isinstance(refusal, Unreadable):
        reason = f"HTTP {response.status}: {text.decode('utf-8', 'replace')}"
    else:
        reason = refusal.detail
    allowed = "; cells.chaos = true allows it, once the cell has been started again with it"
    return reason + (allowed if response.status == _FORBIDDEN else "")
