"""cellrouter deployed on ECS, from nothing to nothing: MiniStack runs every task as a real container.

The tests run in their order on one deployment, each leaves it well, and the last one destroys it. Those that take long
run with `--long` only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.compose_world import until
from tests.support.deployed_images import image_of
from tests.support.deployed_world import CELLS, STACK, Deployed, account
from tests.support.docker import docker, require_engine

pytestmark = pytest.mark.alone
SETTINGS = "CELLROUTER_CELLS_CHAOS=true CELLROUTER_CELLS_WARM_UP_S=5 CELL_CHAOS=true"
EVENTS = 2000


@pytest.fixture(scope="module")
def deployed() -> Iterator[Deployed]:
    """The platform's stack, deployed into an empty account, with all its cells serving."""
    require_engine()
    image = image_of("good", SETTINGS)
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


@pytest.mark.long
def test_a_slow_instance_is_found_and_replaced(deployed: Deployed) -> None:
    """By its canary and its latency; the audit tells the evidence."""
    before = deployed.serving()
    deployed.cli("chaos", "slow", "cell-0002", "--ms", "400", "--for", "600")
    deployed.send(200)
    until(lambda: deployed.generations().get("cell-0002", 0) > before["cell-0002"], "cell-0002 is replaced", 240)
    after = deployed.serving()
    assert {cell for cell in after if after[cell] != before[cell]} == {"cell-0002"}
    _once(deployed)


@pytest.mark.long
def test_a_controller_that_dies_in_a_launch_starts_none_twice(deployed: Deployed) -> None:
    """The next one adopts what it has started: each generation was one task."""
    before = deployed.serving()
    deployed.stop_cell("cell-0000")
    until(lambda: deployed.launched("cell-0000") > before["cell-0000"], "a successor is launched", 120)
    deployed.kill_leader()
    until(lambda: deployed.generations().get("cell-0000", 0) > before["cell-0000"], "cell-0000 is replaced", 240)
    started = Counter(task["startedBy"] for task in deployed.all_tasks() if "cell-0000" in task.get("startedBy", ""))
    assert set(started.values()) == {1}
    deployed.send(100)
    _once(deployed)
    until(lambda: len(deployed.addresses("controller")) == 2, "ECS has started another controller", 120)


@pytest.mark.long
@pytest.mark.parametrize("release", ["crashes", "slow", "fails"])
def test_a_bad_release_is_stopped_in_its_first_wave(deployed: Deployed, release: str) -> None:
    """It is rolled back by itself and says why; the other cells never ran it."""
    before = deployed.serving()
    with deployed.load():
        said = deployed.cli(
            *("deploy", "cells", "--image", image_of(release, SETTINGS), "--waves", "1,100%", "--bake", "30", "--yes"),
            check=False,
        )
    assert "rolled back" in said.lower()
    after = deployed.serving()
    assert len({cell for cell in after if after[cell] != before[cell]}) <= 1
    assert set(deployed.images().values()) == {deployed.image}
    _once(deployed)


@pytest.mark.long
def test_a_good_release_reaches_all_cells(deployed: Deployed) -> None:
    """Wave by wave, under load, with nothing lost and nothing done twice."""
    better = image_of("better", SETTINGS)
    with deployed.load():
        said = deployed.cli("deploy", "cells", "--image", better, "--waves", "1,100%", "--bake", "25", "--yes")
    assert "done" in said.lower()
    assert set(deployed.images().values()) == {better}
    _once(deployed)


@pytest.mark.long
def test_cells_are_added_and_removed(deployed: Deployed) -> None:
    """A new cell is a new stack. The stack of a removed one goes once it is empty, or stays and says why."""
    deployed.cli("scale", "--cells", "5")
    deployed.serving(5)
    assert len(deployed.cell_stacks()) == 5
    deployed.send(200)
    _once(deployed)
    deployed.cli("scale", "--cells", str(CELLS))
    deployed.serving(CELLS)
    deployed.send(100)
    _once(deployed)
    removed = {"cell-0003", "cell-0004"}
    until(lambda: removed <= _kept_for_their_findings(deployed), "the leader says why their stacks stay", 240)


def _kept_for_their_findings(system: Deployed) -> set[str]:
    return {
        entry["cell_id"]
        for entry in system.audit()
        if entry["action"] == "remove" and "objects are left in its bucket" in entry["why"]
    }


@pytest.mark.long
def test_at_the_end_nothing_is_left(deployed: Deployed) -> None:
    """`destroy` refuses while events wait, and says what stays: what cells have emitted, and the key to read it with.

    The outboxes of removed cells are empty though no instance of theirs could say so.
    """
    url = deployed.send_dead_letter()
    assert "not destroyed" in deployed.cli("destroy", "--yes", check=False)
    deployed.sqs.purge_queue(QueueUrl=url)
    said = deployed.cli("destroy", "--yes")
    assert deployed.cell_stacks() == []
    assert deployed.stack_status(STACK) == ""
    assert deployed.tasks(desiredStatus="RUNNING") == []
    assert deployed.task_definitions() == []
    assert (
        docker("ps", "--quiet", "--filter", f"network={deployed.account.network}", "--filter", "name=ministack-ecs")
        == ""
    )
    kept = [line.partition("stays: ")[2] for line in said.splitlines() if line.startswith("stays: ")]
    assert {line.split()[0] for line in kept} == {"bucket", "key"}, said
