"""Cells on ECS under a real controller, on virtual time: made from nothing, replaced in time, launched once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from router.core.control.ladder import TreatmentResult
from router.core.fleet.explained import explanation, summary
from router.core.models import CellRecord, Rung, Treatment
from router.core.registry import AuditEntry
from router.core.telemetry import ActionTaken
from router.services.control_plane.treater import Treater
from tests.support.aws_models import refusal
from tests.support.ecs_cells import EcsCells
from tests.support.ecs_stub import RETIREMENT, SPOT, EcsStub
from tests.support.fake_clock import play

CELL, NAME = "cell-0000", "cellrouter-live-cell-0000"
CAPACITY = {"reason": "Capacity is unavailable at this time. Please try again later or in a different zone"}


def on_ecs(story: Callable[[EcsCells], Awaitable[None]], cells: int = 1) -> EcsCells:
    """Run a story on virtual time, on a cluster of its own."""
    world = EcsCells(cells)

    async def main() -> None:
        try:
            await story(world)
        finally:
            world.ecs.close()

    play(world.clock, main())
    return world


def record(world: EcsCells) -> CellRecord:
    """Return what the registry holds of the cell."""
    return world.control.contents.cells[CELL]


def audited(world: EcsCells, action: str) -> list[AuditEntry]:
    """List the entries of the audit about one action, oldest first."""
    return [entry for entry in world.control.contents.audit if entry.action == action]


def test_cells_are_made_from_nothing_and_serve() -> None:
    """Stack, then task: of the task definition that the stack names. Each once."""

    async def story(world: EcsCells) -> None:
        async with world.running():
            assert world.cloudformation.calls["CreateStack"] == 3
            definitions = [task.request["taskDefinition"] for task in world.ecs.tasks.values()]
            assert sorted(name.rpartition("/")[2] for name in definitions) == [
                f"cellrouter-live-cell-000{number}:1" for number in range(3)
            ]
            told = [each.why for each in world.notes.records if isinstance(each, ActionTaken) and each.cell_id == CELL]
            assert told[:2] == [f"the stack {NAME} is being made", f"the stack {NAME} is CREATE_IN_PROGRESS"]
            assert told[2] == "there shall be this cell, and there was none"

    on_ecs(story, cells=3)


@pytest.mark.parametrize("notice", [SPOT, RETIREMENT])
def test_a_task_that_will_end_is_replaced_before_it_does(notice: tuple[str, str]) -> None:
    """Launched, verified and admitted within the notice; the old one has the traffic until then."""

    async def story(world: EcsCells) -> None:
        world.ecs.provision_s = 5
        async with world.running():
            before = record(world).generation
            old = world.ecs.task(CELL, before)
            world.ecs.drain_s = 120  # how long the machine still runs
            world.ecs.end(old, *notice)
            await world.until(lambda: record(world).generation > before, "another generation is admitted")
            assert old.status == "RUNNING"
            assert notice[1] in audited(world, "launch")[-1].why
            await world.until(lambda: old.status == "STOPPED", "the old one has ended")
            await world.clock.sleep(60)
            assert (len(world.ecs.tasks), record(world).launch_failures) == (2, 0)

    on_ecs(story)


def test_a_candidate_that_ecs_will_end_is_given_up_at_once() -> None:
    """It never gets the traffic, and the next one is launched without waiting for its end."""

    async def story(world: EcsCells) -> None:
        async with world.running():
            first = record(world).generation
            world.ecs.provision_s, world.ecs.drain_s = 5, 120
            world.ecs.end(world.ecs.task(CELL, first), *SPOT)
            await world.until(lambda: len(world.ecs.tasks) == 2, "a candidate is launched")
            world.ecs.end(world.ecs.task(CELL, record(world).launching), *SPOT)
            await world.until(lambda: record(world).generation > first + 1, "the one after it is admitted")
            assert "will end before it is ready" in audited(world, "give up launch")[-1].why

    on_ecs(story)


class Deadly(EcsStub):
    """A cluster that kills the controller which asks it to run a task, before or after it does."""

    kill: Callable[[], None] | None = None
    runs: bool

    async def run_task(self, **request: Any) -> Any:
        kill, self.kill = self.kill, None
        if kill is None:
            return await super().run_task(**request)
        if self.runs:
            await super().run_task(**request)
        kill()
        return await asyncio.Event().wait()  # nobody hears of it


@pytest.mark.parametrize("runs", [True, False])
def test_a_controller_that_is_killed_in_the_middle_of_a_launch_has_launched_once(runs: bool) -> None:
    """The next one takes the task that runs; where none does, it launches when the time for the launch is over."""

    async def story(world: EcsCells) -> None:
        deadly = Deadly(world.clock)
        deadly.on_start, deadly.on_end, deadly.runs = world.ecs.on_start, world.ecs.on_end, runs
        world.ecs = deadly
        first = world.controller("controller-0")
        deadly.kill = first.kill
        await world.until(lambda: first.task.done() or first.task.cancelling() > 0, "the first one is killed")
        second = world.controller("controller-1")
        await world.until(lambda: world.serving() == 1, "the cell serves")
        await world.clock.sleep(60)
        assert len(deadly.tasks) == 1
        assert record(world).generation == (1 if runs else 2)
        second.task.cancel()
        await asyncio.gather(first.task, second.task, return_exceptions=True)

    on_ecs(story)


def test_without_capacity_launches_become_rarer_and_explain_says_why() -> None:
    """After 2, 4, 8, … 60 s; the audit and `cellrouter explain` have ECS' words. It serves when there is room again."""

    async def story(world: EcsCells) -> None:
        world.ecs.failures = [dict(CAPACITY) for _ in range(7)]
        async with world.running():
            at = world.ecs.run_at
            waits = [round(later - earlier) for earlier, later in itertools.pairwise(at)]
            assert len(waits) == 7
            for wait, least in zip(waits, (2, 4, 8, 16, 32, 60, 60), strict=True):
                assert least <= wait <= least + 2
            snapshot = await world.look()
            shown = explanation(CELL, snapshot, {}, world.control.contents.audit)
            said = [entry.why for entry in shown.audit if entry.action == "give up launch"]
            assert all("no capacity, which may pass" in why and CAPACITY["reason"] in why for why in said)
            assert said
            assert "launches that failed" not in dict(summary(shown))
            again = replace(record(world), launch_failures=7, why_launch_failed=said[-1])
            failing = replace(snapshot, cells={CELL: again})
            shown = explanation(CELL, failing, {}, world.control.contents.audit)
            assert dict(summary(shown))["launches that failed"] == f"7 in a row, the last: {said[-1]}"

    on_ecs(story)


def test_what_needs_a_person_is_told_as_such() -> None:
    """A role that is missing, or an image: the reason names what to do, and the other cells are not held up."""

    async def story(world: EcsCells) -> None:
        denied = refusal("AccessDeniedException", "User: x is not authorized to perform: ecs:RunTask")
        world.ecs.refused["RunTask"] = [denied]
        async with world.running():
            [told] = audited(world, "give up launch")
            assert "denied, which needs a person" in told.why
            assert "not authorized to perform: ecs:RunTask" in told.why

    on_ecs(story, cells=2)


def test_a_stack_that_can_not_be_made_is_told_once_and_made_anew() -> None:
    """The cells beside it serve meanwhile."""

    async def story(world: EcsCells) -> None:
        world.cloudformation.failing[f"cellrouter-live-{CELL}"] = "no permission to make a stream"
        async with world.running():
            taken = [each for each in world.notes.records if isinstance(each, ActionTaken)]
            [told] = [each for each in taken if each.action == "create failed"]
            assert told.cell_id == CELL
            assert "no permission to make a stream" in told.why

    on_ecs(story, cells=2)


def test_a_rung_does_not_wait_for_a_stack() -> None:
    """The ladder's last rung has its time, in which the stack goes on."""

    async def story(world: EcsCells) -> None:
        treater = Treater(world.instances, world, can_launch=True)
        record = CellRecord(CELL, generation=1, treatment=Treatment(Rung.REPROVISIONING))
        assert await treater.treat(record, await world.look()) == TreatmentResult()
        assert world.cloudformation.calls["CreateStack"] == 1
        await world.clock.sleep(world.cloudformation.takes_s)
        result = await treater.treat(record, await world.look())
        assert result.written is not None
        assert (result.written.action, result.written.why) == ("reprovisioned", "made anew: stack")

    on_ecs(story)
