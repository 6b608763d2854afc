"""The dashboard: one page for the whole fleet, its files, and what it asks for. Its actions are the Admin API's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pkgutil import get_data
from typing import Any, Final

import msgspec
from fastapi import FastAPI, HTTPException, Request, Response, status
from fastapi.responses import JSONResponse, StreamingResponse

from router.api.feed import FleetFeed
from router.core.errors import RegistryUnavailableError
from router.core.fleet.explained import Peer, evidence, explanation, summary
from router.core.fleet.history import STEP_MS, Past
from router.core.fleet.routes import route_of, route_rows
from router.core.models import Reason
from router.core.policy import MAX_KEY_CHARS
from router.core.registry import AuditEntry, Snapshot

LIVE_PATH: Final = "/fleet/live"
"""Where the page is told of news; such an answer goes on until the page is closed."""
AUDIT_READ: Final = 2000  # entries, about all cells, of which those of one cell are shown
_KINDS: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_NAMES: Final = (
    *("page.css", "parts.css", "actions.css", "icon.svg"),
    *("main.js", "live.js", "dom.js", "words.js", "charts.js", "fleet.js", "comb.js", "cell.js", "audit.js", "key.js"),
    *("caller.js", "deeds.js", "dialog.js"),
)
_FOREVER: Final = {"cache-control": "public, max-age=31536000, immutable"}  # another version has other paths

Row = tuple[str, str]


@dataclass(frozen=True, slots=True)
class CellPage:
    """All that the page shows of one cell beside the overview: the rows of `cellrouter explain`, and its last hour."""

    doubts: tuple[Reason, ...]
    summary: list[Row]
    evidence: list[Row]
    components: list[Row]
    peers: tuple[Peer, ...]  # and the cell itself among them
    audit: tuple[AuditEntry, ...]
    past: Past | None
    step: int  # the newest of the past
    step_ms: int


@dataclass(frozen=True, slots=True)
class KeyPage:
    """All that the page shows of one key: the rows of `cellrouter where`, and what there is to be undone."""

    rows: list[Row]
    cell: str
    pinned: bool
    limited: bool  # by a limit of its own
    weight: int
    priority: str
    quarantined: bool


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """The last hour of all cells together, and the last minutes of each."""

    step: int  # the newest, counted since 1970
    step_ms: int
    fleet: Past
    cells: dict[str, Past]


def file(name: str) -> bytes:
    """Read one of the page's files. Raises FileNotFoundError."""
    return get_data(__name__, f"static/{name}") or b""


FILES: Final = {name: file(name) for name in _NAMES}
"""The page's scripts, styles and pictures, by name."""
VERSION: Final = sha256(b"\0".join(FILES.values())).hexdigest()[:16]
INDEX: Final = file("index.html").replace(b"{version}", VERSION.encode())
"""The page itself, which names its files by a path that has their version in it."""


def add_dashboard(app: FastAPI, feed: FleetFeed) -> None:
    """Serve the page, its files, and what it shows."""
    app.add_exception_handler(RegistryUnavailableError, _out_of_reach)

    @app.get("/", summary="Shows the dashboard.")
    async def page() -> Response:
        return Response(INDEX, media_type="text/html")

    for name, content in FILES.items():
        app.add_api_route(f"/static/{VERSION}/{name}", _answering(name, content), include_in_schema=False)

    @app.get("/fleet", summary="Shows the whole fleet: whether all is well, what is done, what needs a person.")
    async def fleet() -> Response:
        return _json(feed.newest)

    @app.get(LIVE_PATH, summary="Tells of the fleet once a second, as server-sent events.")
    async def live() -> Response:
        if feed.full:
            raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, "too many pages are open: ask for /fleet instead")
        return StreamingResponse(feed.frames(), media_type="text/event-stream")

    @app.get("/fleet/history", summary="Shows the last hour, in steps of ten seconds.")
    async def history() -> Response:
        past = feed.history
        return _json(msgspec.json.encode(HistoryPage(past.step, STEP_MS, past.fleet(), past.recent())))

    @app.get("/fleet/cell", summary="Explains one cell: the rows of cellrouter explain.")
    async def cell(cell: str) -> Response:
        return _json(msgspec.json.encode(await _cell_page(feed, cell)))

    @app.get("/fleet/key", summary="Shows where a key's events go: the rows of cellrouter where.")
    async def key(key: str) -> Response:
        return _json(msgspec.json.encode(_key_page(key[:MAX_KEY_CHARS], await feed.registry.snapshot())))


def _answering(name: str, content: bytes) -> Callable[[], Awaitable[Response]]:
    async def answer(kind: str) -> Response:
        return Response(content, media_type=kind, headers=_FOREVER)

    return partial(answer, _KINDS[name.rpartition(".")[2]])


def _key_page(key: str, snapshot: Snapshot) -> KeyPage:
    route, policy = route_of(key, snapshot), snapshot.policy
    return KeyPage(
        rows=route_rows(route),
        cell=route.cell,
        pinned=key in policy.pins,
        limited=key in policy.limits,
        weight=route.weight,
        priority=route.priority,
        quarantined=policy.in_quarantine(key, snapshot.now_ms) is not None,
    )


async def _cell_page(feed: FleetFeed, cell_id: str) -> CellPage:
    snapshot = await feed.registry.snapshot()
    if cell_id not in snapshot.cells:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "there is no such cell")
    conditions, audit = await feed.registry.conditions(), await feed.registry.audit(AUDIT_READ)
    found, past = explanation(cell_id, snapshot, conditions, audit), feed.history
    seen, lease = found.assessment, snapshot.lease(cell_id, found.generation)
    own = [Peer(cell_id, seen.deviation, seen.canary_s, seen.verdict)] if seen is not None else []
    return CellPage(
        doubts=found.doubts,
        summary=summary(found),
        evidence=evidence(seen) if seen is not None else [],
        components=await feed.components.rows(lease.target()) if lease is not None and lease.live else [],
        peers=tuple(sorted((*own, *found.peers), key=lambda peer: peer.cell_id)),
        audit=found.audit,
        past=past.cell(cell_id),
        step=past.step,
        step_ms=STEP_MS,
    )


async def _out_of_reach(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": f"the registry: {error}"}, status.HTTP_503_SERVICE_UNAVAILABLE)


def _json(content: Any) -> Response:
    return Response(content, media_type="application/json")
