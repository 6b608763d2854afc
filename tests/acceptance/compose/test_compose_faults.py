"""Faults of cells, Redis and AWS under one steady load: whatever happens, every event is accounted for.

Each test waits until all events sent so far are settled, so that a loss is found in the test that caused it.
"""

from __future__ import annotations

import threading
from typing import Final

import pytest

from router.demo.ledger import Ledger
from tests.support.compose_world import CELLS, ComposeSystem, Load, until
from tests.support.docker import docker

pytestmark = pytest.mark.alone

FREEZE_S: Final = 10.0
STARVED_S: Final = 10.0


def nothing_lost(ledger: Ledger) -> None:
    """Check that no event was lost, done twice, given up, or moved to another cell."""
    assert (ledger.duplicates, ledger.dead_lettered, ledger.keys_moved) == (0, 0, 0)


def wait(seconds: float) -> None:
    """Wait while the load goes on."""
    threading.Event().wait(seconds)


@pytest.fixture(params=range(3), ids=["docker kill", "docker pause", "network disconnect"])
def fault(request: pytest.FixtureRequest, system: ComposeSystem) -> tuple[str, list[str]]:
    """Return a cell and the command that harms it; each fault gets another cell."""
    cell_id = CELLS[request.param]
    network = f"{system.compose.project}_default"
    return cell_id, [["kill"], ["pause"], ["network", "disconnect", network]][request.param]


def test_a_cell_that_is_harmed_is_replaced(system: ComposeSystem, load: Load, fault: tuple[str, list[str]]) -> None:
    """Its next generation replaces it; the others keep their generations, and its old container is removed."""
    cell_id, words = fault
    before = system.serving()
    docker(*words, system.container(cell_id, before[cell_id]))
    system.replaced(cell_id, before[cell_id])
    after = system.serving()
    assert {cell: after[cell] for cell in CELLS if cell != cell_id} == {
        cell: before[cell] for cell in CELLS if cell != cell_id
    }
    until(lambda: system.running(cell_id) == [system.container(cell_id, after[cell_id])], "its old container goes")
    nothing_lost(load.accounted())


def test_a_starved_cell_loses_nothing(system: ComposeSystem, load: Load, mended: list[tuple[str, ...]]) -> None:
    """With a fiftieth of a CPU it is slow, or is replaced when it can't keep its lease; the others go on."""
    cell_id = CELLS[3]
    before = system.serving()
    name = system.container(cell_id, before[cell_id])
    mended.append(("update", "--cpus", "1", name))
    docker("update", "--cpus", "0.02", name)
    wait(STARVED_S)
    others = {cell: before[cell] for cell in CELLS[:3]}  # the routers may disagree about the starved one at any moment
    until(lambda: others.items() <= system.generations().items(), "the other cells serve, as the instances they were")
    docker("update", "--cpus", "1", name, check=False)  # the container may have been replaced
    system.serving()
    nothing_lost(load.accounted())


def test_a_restart_of_redis_loses_nothing(system: ComposeSystem, load: Load) -> None:
    """Redis comes back empty. The map and the cells are restored, and no cell is replaced for it."""
    before = system.serving()
    began = len(system.audit())
    system.compose("restart", "redis")
    until(lambda: any(entry["action"] == "restore" for entry in system.audit()), "the leader puts back what was lost")
    assert system.serving() == before
    assert began > 0
    nothing_lost(load.accounted())
    assert system.serving() == before


def test_a_pause_of_aws_loses_nothing(system: ComposeSystem, load: Load, mended: list[tuple[str, ...]]) -> None:
    """AWS gives no answer for a while, and no cell is replaced. A restart would make LocalStack forget its queues."""
    before = system.serving()
    [name] = system.compose("ps", "--quiet", "localstack").split()
    mended.append(("unpause", name))
    docker("pause", name)
    wait(FREEZE_S)
    assert system.generations().items() <= before.items()  # a lane whose events all fail may be shut at this moment
    docker("unpause", name)
    nothing_lost(load.accounted())
    assert system.serving() == before
