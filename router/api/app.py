"""The HTTP API for people, health checks and Prometheus, with the same paths on routers and controllers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Response, status
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from router.core.errors import RegistryUnavailableError
from router.core.models import Reason
from router.core.registry import AuditEntry

MAX_AUDIT: Final = 2000
"""How many of the newest entries are searched, or listed, at most."""


def create_app(
    role: str,
    metrics: CollectorRegistry,
    missing: Callable[[], Sequence[Reason]],
    degraded: Callable[[], Sequence[Reason]],
    cells: Callable[[], Awaitable[Sequence[Any]]],
    audit: Callable[[int], Awaitable[Sequence[AuditEntry]]],
    targets: Callable[[], Awaitable[Sequence[Any]]] | None = None,
) -> FastAPI:
    """Make the application of one process; `role` is router or controller.

    Each function is called once a request. `missing` says what the process still lacks to do its work; it is ready when
    that is nothing. `degraded` says what it does without meanwhile. `audit` gets the number of entries wanted, and
    returns them oldest first.
    `targets` lists what Prometheus shall scrape; without it there is no such path.
    """
    # FastAPI's own pages load scripts from other hosts; the dashboard needs nothing but this process.
    app = FastAPI(title=f"cellrouter {role}", openapi_url=None)

    @app.get("/metrics", response_class=PlainTextResponse, summary="Shows the metrics, for Prometheus.")
    async def metrics_text() -> Response:
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)

    @app.get("/cells", summary="Shows every cell as this process sees it.")
    async def cells_now() -> Sequence[Any]:
        return await cells()

    @app.get("/audit", summary="Lists what the controllers did lately and why, oldest first.")
    async def audit_now(limit: int = 100, find: str = "", skip: int = 0) -> Sequence[Any]:
        limit, skip = min(max(limit, 1), MAX_AUDIT), min(max(skip, 0), MAX_AUDIT)
        if not find:
            entries = await audit(min(limit + skip, MAX_AUDIT))
        else:
            entries = [entry for entry in await audit(MAX_AUDIT) if says(entry, find)]
        newest = len(entries) - skip
        return entries[max(0, newest - limit) : max(0, newest)]

    _add_health(app, role, missing, degraded)
    if targets is not None:
        _add_targets(app, targets)
    return app


def says(entry: AuditEntry, words: str) -> bool:
    """Tell whether each of the words is somewhere in the entry, whatever its case."""
    text = f"{entry.who} {entry.action} {entry.cell_id} {entry.why}".casefold()
    return all(word in text for word in words.casefold().split())


def _add_health(
    app: FastAPI, role: str, missing: Callable[[], Sequence[Reason]], degraded: Callable[[], Sequence[Reason]]
) -> None:
    @app.get("/healthz", summary="Answers while the process runs.")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "role": role}

    @app.get("/readyz", summary="Answers 200 when the process does its work, also degraded; 503 names what is missing.")
    async def readyz() -> JSONResponse:
        lacks, amiss = missing(), degraded()
        code = status.HTTP_503_SERVICE_UNAVAILABLE if lacks else status.HTTP_200_OK
        state = "not ready" if lacks else "degraded" if amiss else "ready"
        return JSONResponse({"ready": not lacks, "status": state, "missing": lacks, "degraded": amiss}, code)


def _add_targets(app: FastAPI, targets: Callable[[], Awaitable[Sequence[Any]]]) -> None:
    @app.get("/targets", summary="Lists the cells' instances, for Prometheus' http_sd_configs.")
    async def targets_now() -> Sequence[Any]:
        try:
            return await targets()
        except RegistryUnavailableError as error:  # Prometheus keeps the targets that it had
            raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, str(error)) from error
