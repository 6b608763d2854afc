"""The HTTP API: the targets that controllers name to Prometheus, and the snapshots that a process publishes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import count
from typing import Any

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from router.adapters.logs import Observers
from router.api.app import create_app
from router.api.dashboard import add_dashboard
from router.api.published import PUBLISH_S, Published
from router.api.troubles import Troubles
from router.api.views import scrape_target, scrape_targets
from router.core.errors import RegistryUnavailableError
from router.core.models import CellRecord, LeaseView, RouterReport, RouterView
from router.core.registry import Snapshot
from router.core.telemetry import AccessDenied, LeasesDoubted, QueueFaulty, QueueWell, RegistryFaulty, RegistryWell
from tests.support.fake_clock import FakeClock, play
from tests.support.fleet_world import FleetWorld


def get(app: Any, path: str) -> tuple[int, Any]:
    """Make one request without a server; returns its status and its JSON."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


async def nothing(*_: Any) -> Sequence[Any]:
    """Stands in for a part that a test does not use."""
    return []


def controller(targets: Any) -> Any:
    """Make the application of a controller with these targets."""
    return create_app("controller", CollectorRegistry(), list, list, nothing, nothing, targets)


def test_targets_are_routers_controllers_and_the_admitted_instances_of_cells() -> None:
    """Dead instances are among them, so that Prometheus sees them down. Those without admission or lease aren't.

    Each is named by its instance: a recycled address is another target, and never goes on with another one's series.
    """
    leases = (
        LeaseView("cell-0000", 3, "i", "10.0.0.3:8080", 16, ready=True, live=True, zone="eu-west-1b"),
        LeaseView("cell-0000", 4, "i", "10.0.0.4:8080", 16, ready=True, live=True),
        LeaseView("cell-0001", 1, "i", "[2600:1f13::9]:8080", 16, ready=True, live=False),
    )
    records = [CellRecord("cell-0000", 3), CellRecord("cell-0001", 1), CellRecord("cell-0002", 5), CellRecord("c")]
    reports = [
        RouterReport("task/7/ab", 1, quiet=True, address="10.0.0.7:8080", zone="eu-west-1a"),
        RouterReport("laptop/8/cd", 1, quiet=True),
        RouterReport("forged", 1, quiet=True, address="169.254.169.254:80"),
    ]
    routers = (*(RouterView(report, live=True) for report in reports), RouterView(reports[0], live=False))
    snapshot = Snapshot(0, None, {record.cell_id: record for record in records}, leases, "", routers=routers)
    own = scrape_target("controller", "task/1/ef", "10.0.0.1:8080", "eu-west-1c")

    async def targets() -> Sequence[Any]:
        return scrape_targets(snapshot, own)

    def target(address: str, **labels: str) -> dict[str, Any]:
        return {"targets": [address], "labels": labels}

    assert get(controller(targets), "/targets") == (
        200,
        [
            target("10.0.0.1:8080", job="controller", instance="task/1/ef", zone="eu-west-1c"),
            target("10.0.0.7:8080", job="router", instance="task/7/ab", zone="eu-west-1a"),
            target("10.0.0.3:8080", cell="cell-0000", job="cell", instance="cell-0000/3", zone="eu-west-1b"),
            target("[2600:1f13::9]:8080", cell="cell-0001", job="cell", instance="cell-0001/1"),
        ],
    )


def test_a_process_that_does_without_something_is_ready_and_says_degraded() -> None:
    """Traffic must go on: only what keeps it from its work at all makes it not ready."""
    troubles = Troubles()
    app = create_app("router", CollectorRegistry(), list, troubles.reasons, nothing, nothing)
    observer = Observers(troubles)
    assert get(app, "/readyz") == (200, {"ready": True, "status": "ready", "missing": [], "degraded": []})
    observer.observe(RegistryFaulty("read-only", "it is a replica now"))
    observer.observe(QueueFaulty("events", missing=False, why="no answer"))
    observer.observe(LeasesDoubted("no lease was renewed"))
    observer.observe(AccessDenied("KMS.DisabledException"))
    degraded = ["registry: read-only: it is a replica now", "queue events: no answer", "leases: no lease was renewed"]
    degraded.append("access: KMS.DisabledException")
    body = {"ready": True, "status": "degraded", "missing": [], "degraded": degraded}
    assert get(app, "/readyz") == (200, body)
    for record in (RegistryWell(), QueueWell("events"), LeasesDoubted(None), AccessDenied(None)):
        observer.observe(record)
    assert get(app, "/readyz")[1]["status"] == "ready"


def test_a_queue_that_aws_refuses_makes_the_process_not_ready() -> None:
    """Nothing can be received, whatever else works; the reason is the one that AWS gives."""
    troubles = Troubles()
    observer = Observers(troubles)
    observer.observe(QueueFaulty("events", missing=False, why="queue events: ExpiredToken: no", denied=True))
    observer.observe(QueueFaulty("holds", missing=False, why="queue holds: no answer"))
    assert troubles.why_denied("events") == ["queue events: ExpiredToken: no"]
    assert troubles.why_denied("holds") == []
    observer.observe(QueueFaulty("events", missing=False, why="queue events: no answer"))
    assert troubles.why_denied("events") == []
    observer.observe(QueueFaulty("events", missing=False, why="AccessDenied", denied=True))
    observer.observe(QueueWell("events"))
    assert troubles.why_denied("events") == []


def test_without_the_registry_targets_are_an_error_and_not_an_empty_list() -> None:
    """On an error Prometheus keeps the targets that it had; an empty list would end them all."""

    async def targets() -> Sequence[Any]:
        raise RegistryUnavailableError("is down")

    assert get(controller(targets), "/targets")[0] == 503


def test_a_snapshot_is_made_by_its_task_and_never_by_a_reader() -> None:
    """Readers get the newest snapshot, the same object until the task has made another one."""
    clock, numbers = FakeClock(), count()
    published = Published(lambda: [next(numbers)], clock)

    async def story() -> None:
        task = asyncio.create_task(published.run())
        await clock.sleep(PUBLISH_S * 2.5)
        assert published.newest is published.newest
        assert published.newest == [3]
        task.cancel()

    play(clock, story())


def test_a_snapshot_that_cannot_be_made_is_logged_and_tried_again() -> None:
    """The task goes on, readers keep the last snapshot, and the log has the failure once, not twice a second."""
    clock, numbers = FakeClock(), count()

    def make() -> int:
        number = next(numbers)
        if 1 <= number <= 3:
            raise RuntimeError("no figures")
        return number

    async def story() -> None:
        with capture_logs() as logs:
            published = Published(make, clock)
            task = asyncio.create_task(published.run())
            await clock.sleep(PUBLISH_S * 2.5)
            assert published.newest == 0
            assert [entry["why"] for entry in logs] == ["RuntimeError: no figures"]
            await clock.sleep(PUBLISH_S)
            assert published.newest == 4
        assert not task.done()
        task.cancel()

    play(clock, story())


def test_nobody_commands_a_router_or_a_controller_over_http() -> None:
    """Whoever reaches the port, with whichever secret: there is nothing but pages to read."""
    app = controller(nothing)
    add_dashboard(app, FleetWorld(FakeClock()).feed)
    methods = {method for path in app.openapi()["paths"].values() for method in path}
    assert methods == {"get"}
