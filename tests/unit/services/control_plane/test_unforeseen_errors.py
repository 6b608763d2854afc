"""Errors that nobody foresaw cost a controller one action, one look or one tick, and never its cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from router.core.models import InstanceView
from router.core.telemetry import ActionTaken, AttemptFailed, TaskDied
from tests.support.control_world import ControlWorld
from tests.support.fake_clock import play
from tests.support.memory_registry import MemoryRegistry

CELL = "cell-0000"


def told(world: ControlWorld, part: str) -> list[Exception]:
    """The errors of that part that were told with their cause."""
    return [r.error for r in world.notes.records if isinstance(r, AttemptFailed) and r.part == part and r.tell]


def test_a_machine_that_cant_be_looked_at_costs_no_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen last counts, a cell that dies meanwhile is replaced by its lease, and the fault is told once."""
    world = ControlWorld(3)
    broken = OSError(24, "Too many open files")

    async def fails() -> list[InstanceView]:
        raise broken

    async def story() -> None:
        async with world.running() as ((controller,), _):
            with monkeypatch.context() as patch:
                patch.setattr(world.machines, "observe", fails)
                await world.send(30)
                await world.clock.sleep(20)
                assert not controller.task.done()
                assert {cell.generation for cell in world.control.contents.cells.values()} == {1}
                world.machines.end(CELL, 1)
                await world.until(lambda: world.control.contents.cells[CELL].generation == 2, "another serves", 60)
            await world.settled()

    play(world.clock, story())
    assert told(world, "provisioner") == [broken]
    failures = [r for r in world.notes.records if isinstance(r, ActionTaken) and r.action == "provisioner failed"]
    assert len(failures) == 1


def test_an_action_that_fails_for_one_cell_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are launched, and this one too as soon as it can be."""
    world = ControlWorld(3)
    launch, broken = world.machines.launch, True

    async def fails(cell_id: str, generation: int, image: str | None = None) -> None:
        if broken and cell_id == CELL and generation > 1:
            raise RuntimeError("a fault of the provisioner")
        await launch(cell_id, generation, image)

    monkeypatch.setattr(world.machines, "launch", fails)

    async def story() -> None:
        nonlocal broken
        async with world.running() as ((controller,), _):
            for cell_id in (CELL, "cell-0001"):
                world.machines.end(cell_id, 1)
            await world.until(lambda: world.control.contents.cells["cell-0001"].generation == 2, "the other serves", 30)
            assert not controller.task.done()
            broken = False
            await world.until(lambda: world.control.contents.cells[CELL].generation > 1, "it serves again", 60)

    play(world.clock, story())
    assert [str(error) for error in told(world, "action")] == ["a fault of the provisioner"]


@pytest.mark.parametrize("call", ["lead", "snapshot", "petitions", "samples", "note_conditions", "write"])
def test_a_registry_that_says_what_nobody_foresaw_ends_no_controller(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Healthy cells go on, and the controller leads and acts again once it can read."""
    world = ControlWorld(2)

    async def fails(*_: Any, **__: Any) -> Sequence[Any]:
        raise RecursionError("nested too deep")

    async def story() -> None:
        async with world.running() as ((controller,), _):
            with monkeypatch.context() as patch:
                patch.setattr(MemoryRegistry, call, fails)
                await world.send(30)
                await world.clock.sleep(20)
                assert not controller.task.done()
                assert world.machines.ended == set()
                world.machines.end(CELL, 1)
                await world.clock.sleep(5)
                assert not controller.task.done()
            await world.until(lambda: world.control.contents.cells[CELL].generation > 1, "another serves", 60)
            await world.settled()

    play(world.clock, story())
    assert not world.notes.count(TaskDied)
