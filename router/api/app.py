"""HTTP for people, health checks and Prometheus; the same paths on routers and controllers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Response, status
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from router.core.errors import RegistryUnavailableError

_DASHBOARD: Final = Path(__file__).with_name("dashboard.html")


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether this process does its work, and what is missing."""

    missing: Sequence[str] = field(default_factory=list)


def create_app(
    role: str,
    metrics: CollectorRegistry,
    readiness: Callable[[], Readiness],
    cells: Callable[[], Awaitable[Sequence[Any]]],
    audit: Callable[[int], Awaitable[Sequence[Any]]],
    targets: Callable[[], Awaitable[Sequence[Any]]] | None = None,
) -> FastAPI:
    """The application of one process; `role` is router or controller. `targets`: what Prometheus shall scrape."""
    # FastAPI's own pages load their scripts from elsewhere; the dashboard needs nothing but this process.
    app = FastAPI(title=f"cellrouter {role}", docs_url=None, redoc_url=None)

    @app.get("/", response_class=FileResponse, summary="The dashboard.")
    async def dashboard() -> FileResponse:
        return FileResponse(_DASHBOARD)

    @app.get("/healthz", summary="The process runs.")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "role": role}

    @app.get("/readyz", summary="The process does its work; 503 names what is missing.")
    async def readyz() -> JSONResponse:
        missing = readiness().missing
        code = status.HTTP_503_SERVICE_UNAVAILABLE if missing else status.HTTP_200_OK
        return JSONResponse({"ready": not missing, "missing": missing}, code)

    @app.get("/metrics", response_class=PlainTextResponse, summary="For Prometheus.")
    async def metrics_text() -> Response:
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)

    @app.get("/cells", summary="Every cell as this process sees it.")
    async def cells_now() -> Sequence[Any]:
        return await cells()

    @app.get("/audit", summary="What the controllers did lately and why, oldest first.")
    async def audit_now(limit: int = 100) -> Sequence[Any]:
        return await audit(min(max(limit, 1), 1000))

    if targets is not None:

        @app.get("/targets", summary="The cells' instances, for Prometheus' http_sd_configs.")
        async def targets_now() -> Sequence[Any]:
            try:
                return await targets()
            except RegistryUnavailableError as error:  # Prometheus goes on with what it had
                raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, str(error)) from error

    return app
