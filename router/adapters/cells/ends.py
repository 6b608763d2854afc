"""How instances are reached: by plain HTTP, or by TLS and no other way."""

from __future__ import annotations

from typing import Any, Final

from cell_worker.contract.tls import Tls, cell_host


class CellEnds:
    """What a call needs to reach an instance; `tls` is None for plain HTTP."""

    def __init__(self, environment: str, tls: Tls | None) -> None:
        self._environment = environment
        self._tls = tls
        self.scheme = "http" if tls is None else "https"

    def options(self, cell_id: str) -> dict[str, Any]:
        """Return aiohttp's options of a call: whoever answers must present the certificate of this cell."""
        if self._tls is None:
            return {}
        return {"ssl": self._tls.context, "server_hostname": cell_host(cell_id, self._environment)}


PLAIN: Final = CellEnds("", None)
"""Instances that are reached by plain HTTP."""
