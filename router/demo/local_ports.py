"""The ports of this machine that a local system listens on: four in a row that people know, or any that are free."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from router.core.errors import CellRouterError
from router.core.models import Reason

FIRST_PORT: Final = 8180
"""The first of the four, unless somebody names another: none that `docker compose` of this repository publishes."""
_PURPOSES: Final = ("the router", "the controller", "Redis", "AWS")


class PortTakenError(CellRouterError):
    """A port is somebody else's already; the text says which, and what chooses another."""


@dataclass(frozen=True, slots=True)
class LocalPorts:
    """One port for each server of a local system."""

    router: int
    controller: int
    redis: int
    aws: int

    @classmethod
    def free(cls) -> LocalPorts:
        """Choose ports that nothing listens on.

        They are below the range from which systems take the ports of outgoing connections (from 32768 on Linux, 49152
        on macOS), because a port of that range may be taken before the server has started.
        """
        ports: set[int] = set()
        while len(ports) < len(_PURPOSES):
            port = 20_000 + secrets.randbelow(12_000)
            if _why_taken(port) is None:
                ports.add(port)
        return cls(*ports)

    @classmethod
    def from_first(cls, first: int) -> LocalPorts:
        """Take `first` and the three after it. Raises PortTakenError when something listens on one of them."""
        for purpose, port in zip(_PURPOSES, range(first, first + len(_PURPOSES)), strict=True):
            if (why := _why_taken(port)) is not None:
                raise PortTakenError(
                    f"port {port}, which {purpose} needs, can't be had: {why}. End what listens there, another "
                    f"`cellrouter dev` or demo perhaps, or name others: --port N takes N to N+{len(_PURPOSES) - 1}"
                )
        return cls(*range(first, first + len(_PURPOSES)))


def _why_taken(port: int) -> Reason | None:
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended take no port
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.strerror or str(error)
    return None
