"""What controllers tell Prometheus of the cells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from router.api.app import create_app
from router.api.views import scrape_targets
from router.core.errors import RegistryUnavailableError
from router.core.models import CellRecord, LeaseView
from router.core.registry import Snapshot


def get(app: Any, path: str) -> tuple[int, Any]:
    """Status and JSON of one request, without a server."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


async def nothing(*_: Any) -> Sequence[Any]:
    """For what isn't asked."""
    return []


def controller(targets: Any) -> Any:
    """The application of a controller that says this."""
    return create_app("controller", CollectorRegistry(), list, nothing, nothing, targets)


def test_targets_are_the_admitted_instances_of_cells() -> None:
    """Dead ones too, so that Prometheus sees them down; none that was never admitted or has left no lease."""
    leases = (
        LeaseView("cell-0000", 3, "i", "10.0.0.3:8080", 16, ready=True, live=True),
        LeaseView("cell-0000", 4, "i", "10.0.0.4:8080", 16, ready=True, live=True),
        LeaseView("cell-0001", 1, "i", "10.0.0.9:8080", 16, ready=True, live=False),
    )
    records = [CellRecord("cell-0000", 3), CellRecord("cell-0001", 1), CellRecord("cell-0002", 5), CellRecord("c")]
    snapshot = Snapshot(0, None, {record.cell_id: record for record in records}, leases, "")

    async def targets() -> Sequence[Any]:
        return scrape_targets(snapshot)

    assert get(controller(targets), "/targets") == (
        200,
        [
            {"targets": ["10.0.0.3:8080"], "labels": {"cell": "cell-0000"}},
            {"targets": ["10.0.0.9:8080"], "labels": {"cell": "cell-0001"}},
        ],
    )


def test_without_the_registry_there_are_no_targets_rather_than_none() -> None:
    """An error, at which Prometheus keeps those it had; an empty list would end them all."""

    async def targets() -> Sequence[Any]:
        raise RegistryUnavailableError("is down")

    assert get(controller(targets), "/targets")[0] == 503
