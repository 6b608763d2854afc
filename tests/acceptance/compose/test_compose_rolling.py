"""Restarts and replacements of every service under one steady load, one after the other: nothing is lost."""

from __future__ import annotations

import pytest

from router.demo.ledger import Ledger
from tests.support.compose_world import CELLS, CONTROLLERS, PROCESSES, ROUTERS, ComposeSystem, Load, until
from tests.support.docker import docker

pytestmark = pytest.mark.alone


def nothing_lost(ledger: Ledger) -> None:
    """Check that no event was lost, done twice, given up, or moved to another cell."""
    assert (ledger.duplicates, ledger.dead_lettered, ledger.keys_moved) == (0, 0, 0)


def leads(system: ComposeSystem) -> bool:
    """Tell whether a controller that runs now leads."""
    figures = [system.text(controller, "/metrics") for controller in CONTROLLERS]
    return any("cellrouter_controller_leads 1.0" in text for text in figures)


@pytest.mark.parametrize("service", PROCESSES)
def test_a_restarted_process_takes_part_again(system: ComposeSystem, load: Load, service: str) -> None:
    """No cell is replaced: a controller that starts adopts the cells that run."""
    before = system.serving()
    system.compose("restart", service)
    until(lambda: system.get(service, "/readyz") is not None, f"{service} is ready")
    until(lambda: leads(system), "a controller leads")
    assert system.serving() == before
    nothing_lost(load.accounted())


def test_every_service_is_replaced_one_by_one(system: ComposeSystem, load: Load) -> None:
    """Routers, controllers, Redis and Prometheus get new containers; then each cell is ended by hand, and replaced."""
    for service in (*ROUTERS, *CONTROLLERS, "redis", "prometheus"):
        before = system.compose("ps", "--quiet", service)
        system.compose("up", "--detach", "--no-deps", "--force-recreate", "--wait", service)
        assert system.compose("ps", "--quiet", service) != before
        system.serving()
    until(lambda: leads(system), "a controller leads")
    for cell_id in CELLS:
        generations = system.serving()
        docker("stop", system.container(cell_id, generations[cell_id]))
        system.replaced(cell_id, generations[cell_id])
    nothing_lost(load.accounted())
    load.stop()
    ledger = load.accounted()
    assert ledger.lost == 0
    assert ledger.sent == ledger.processed > 0
