"""AWS refuses to say what there is of a cell: the leader asks less and less often, and tells of it once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from router.core.errors import ProvisionError
from router.core.telemetry import ActionTaken
from tests.support.control_world import ControlWorld
from tests.support.fake_clock import play


class Refusing(ControlWorld):
    """A world in which AWS refuses every look-up while `refuses` is set."""

    refuses = "AccessDenied"
    looks = 0

    async def ensure(self, cell_id: str) -> Sequence[str]:
        self.looks += 1
        if self.refuses:
            raise ProvisionError(f"can't look up a cell's resources: {self.refuses}")
        return ()


def test_a_leader_that_aws_refuses_asks_less_and_less_often_and_says_so_once() -> None:
    """Another reason is told too; when AWS answers again, the cells are made and serve."""
    world = Refusing(2)

    def told() -> list[str]:
        taken = [record for record in world.notes.records if isinstance(record, ActionTaken)]
        return [f"{record.cell_id} {record.why}" for record in taken if record.action == "create failed"]

    async def story() -> None:
        leader = world.controller("controller-0")
        await world.clock.sleep(120)
        assert len(told()) == 2
        assert 4 <= world.looks <= 2 * 6
        world.refuses = "Throttling"
        await world.clock.sleep(120)
        assert len(told()) == 4
        world.refuses = ""
        await world.until(lambda: world.serving() == 2, "all cells serve")
        for task in (leader.task, *world.machines.running.values()):
            task.cancel()
        await asyncio.wait([leader.task])

    play(world.clock, story())
