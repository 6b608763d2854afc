"""cellrouter deployed on ECS: MiniStack runs every router, controller and cell as a real container.

The tests run on one deployment, and each leaves it well.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.compose_world import until
from tests.support.deployed_images import image_with_handler
from tests.support.deployed_world import CELLS, Deployed, account
from tests.support.docker import require_engine

pytestmark = pytest.mark.alone
SETTINGS = "CELLROUTER_CELLS_CHAOS=true CELLROUTER_CELLS_WARM_UP_S=5 CELL_CHAOS=true"
EVENTS = 2000


@pytest.fixture(scope="module")
def deployed() -> Iterator[Deployed]:
    """The platform's stack, deployed into an empty account, with all its cells serving. At the end nothing is left."""
    require_engine()
    image = image_with_handler("cellrouter-test-deployed", SETTINGS)
    with account() as where:
        system = Deployed(where, image)
        try:
            system.deploy()
            system.serving()
            yield system
        finally:
            print(system.told())  # noqa: T201 - pytest shows it after a failure


def _once(system: Deployed) -> None:
    """Every event sent so far has had its effect, and none had it twice."""
    effects = system.accounted()
    assert [event for event, times in effects.items() if times > 1] == []


def test_two_thousand_events_have_their_effect_once(deployed: Deployed) -> None:
    """Through queue, routers and cells into the cells' buckets; each cell is a stack of its own."""
    deployed.send(EVENTS)
    _once(deployed)
    assert len(deployed.cell_stacks()) == CELLS


def test_a_task_that_ecs_stops_is_replaced(deployed: Deployed) -> None:
    """No event is lost or done twice, and no other cell gets another instance."""
    before = deployed.serving()
    deployed.send(100)
    deployed.stop_cell("cell-0001")
    deployed.send(100)
    until(lambda: deployed.generations().get("cell-0001", 0) > before["cell-0001"], "cell-0001 is replaced", 240)
    after = deployed.serving()
    assert {cell for cell in after if after[cell] != before[cell]} == {"cell-0001"}
    _once(deployed)
