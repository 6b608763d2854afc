"""Injects faults into a running instance, as the wire contract says."""

from __future__ import annotations

from typing import Final

import aiohttp
import msgspec

from cell_worker.contract import protocol
from cell_worker.contract.protocol import Fault, FaultKind
from cell_worker.contract.strict_reader import StrictReader, Unreadable
from router.adapters.cells.calls import CellCalls
from router.core.errors import CellRefusedError, CellUnavailableError, ChaosRefusedError
from router.core.models import Target

_TIMEOUT: aiohttp.ClientTimeout = aiohttp.ClientTimeout(total=10, sock_connect=2)
_FORBIDDEN = 403
_MAX_ANSWER_BYTES: Final = 2000


class _Refusal(msgspec.Struct, frozen=True):
    """What FastAPI answers to a command that it refuses."""

    detail: str


_refusal: Final = StrictReader[_Refusal]("refusal", _Refusal, _MAX_ANSWER_BYTES)


async def inject(calls: CellCalls, target: Target, fault: Fault) -> None:
    """Have an instance misbehave as `fault` says.

    Raises ChaosRefusedError with the reason when it refuses, and CellUnavailableError when it can't be reached.
    """
    try:
        async with calls.call("POST", target, protocol.CHAOS_PATH, msgspec.json.encode(fault), _TIMEOUT) as answer:
            await answer.whole()
    except CellRefusedError as error:
        raise ChaosRefusedError(f"{target.address} refuses: {_reason(error)}") from error
    except CellUnavailableError as error:
        # A process that kills itself sends no answer. One that does not run refuses the connection.
        if fault.kind is not FaultKind.CRASH or not error.reached:
            raise CellUnavailableError(f"{target.address} can't be reached: {error}") from error


def _reason(error: CellRefusedError) -> str:
    refusal = _refusal.read(error.detail.encode())
    reason = str(error) if isinstance(refusal, Unreadable) else refusal.detail
    allowed = "; cells.chaos = true allows it, once the cell has been started again with it"
    return reason + (allowed if error.status == _FORBIDDEN else "")
