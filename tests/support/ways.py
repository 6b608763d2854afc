"""The ways in which a cell can be reached, each with the files that it needs: what holds on one must hold on all.

So it is with the clients that call it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import ClientSession

from cell_worker.contract.tls import TlsFiles, cell_host, of_caller, of_cell
from router.adapters.cells.ends import PLAIN, CellEnds
from router.adapters.http_session import http_session
from router.adapters.lean_http.session import LeanSession
from tests.support.certificates import Authority

WAYS: Final = ("plain", "TLS", "mutual TLS")
CLIENTS: Final = ("lean", "aiohttp")


@dataclass(frozen=True)
class Way:
    """How a router calls a cell, and how that listens."""

    ends: CellEnds
    listens: ssl.SSLContext | None  # None: by plain HTTP
    settings: dict[str, object]  # of a worker that listens so


def way_of(name: str, folder: Path, environment: str, cell_id: str = "cell-0000") -> Way:
    """Make what one of WAYS needs, with its files in this folder."""
    if name == "plain":
        return Way(PLAIN, None, {})
    ca, mutual = Authority(folder), name == "mutual TLS"
    of_worker = ca.files(cell_host(cell_id, environment), ca=ca.cert if mutual else None, file="cell")
    of_router = ca.files("router", ca=ca.cert, file="router") if mutual else TlsFiles(ca.cert, None, None)
    settings: dict[str, object] = {"tls_cert": of_worker.cert, "tls_key": of_worker.key}
    if mutual:
        settings["tls_client_ca"] = ca.cert
    listens = of_cell(cell_id, environment, of_worker).context
    return Way(CellEnds(environment, of_caller(of_router)), listens, settings)


def session_of(client: str) -> LeanSession | ClientSession:
    """Make a session of one of CLIENTS."""
    return LeanSession() if client == "lean" else http_session()
