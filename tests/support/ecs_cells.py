"""The control plane in memory, on virtual time, with its cells on ECS: stacks, tasks, and all that happens to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from router.adapters.aws.resources import ResourceNames
from router.adapters.aws.stacks import CellStacks, StackConfig
from router.adapters.provisioners.ecs_tasks import PORT
from router.core.models import Reason
from router.ports import Provisioner
from tests.support.control_world import ControlWorld
from tests.support.ecs_stub import EcsStub, StubTask
from tests.support.ecs_world import provisioner_on
from tests.support.stack_stub import TEMPLATE, StackStub

PREFIX = "cellrouter"


class EcsCells(ControlWorld):
    """A world whose cells are stacks, and whose instances are tasks; each controller has a provisioner of its own."""

    def __init__(self, cells: int, **options: Any) -> None:
        super().__init__(cells, **options)
        self.ecs = EcsStub(self.clock)
        self.ecs.on_start, self.ecs.on_end = self._begin, self._end
        self.cloudformation = StackStub(self.clock)
        self.left: Reason | None = None
        self.stacks = CellStacks(
            StackConfig(
                names=ResourceNames(PREFIX, "live", "events", "dead"),
                template=TEMPLATE,
                image="repository:1",
                cpu=512,
                memory_mb=1024,
                parameters={},
                role="",
                secret_of=lambda cell_id: f"secret of {cell_id}",
                secret_id=lambda: "aaaa",
            ),
            self.cloudformation,
            _Parts(),  # type: ignore[arg-type] # what CloudFormation makes is not there
            self,  # type: ignore[arg-type] # says what is left in a cell
            self.clock,
        )

    def provisioner(self) -> Provisioner:
        """Make the provisioner of one more controller."""
        return provisioner_on(self.ecs, self.stacks, self.clock)

    async def ensure(self, cell_id: str) -> Sequence[str]:
        """Have the cell's stack made, as the CellResources port does."""
        return await self.stacks.ensure(cell_id)

    async def remove(self, cell_id: str) -> Reason | None:
        """Have a removed cell's stack deleted, as the CellResources port does."""
        return await self.stacks.remove(cell_id)

    async def why_not_empty(self, cell_id: str) -> Reason | None:
        """Say what is left in every cell."""
        return self.left

    def _begin(self, task: StubTask) -> None:
        cell_id, generation = _key(task)
        self.machines.start(cell_id, generation, f"{task.address}:{PORT}")

    def _end(self, task: StubTask) -> None:
        if (beat := self.machines.running.pop(_key(task), None)) is not None:
            beat.cancel()


class _Parts:
    """The parts of stacks, of which none is ever missing."""

    async def ensure(self, cell_id: str) -> Sequence[str]:
        return ()


def _key(task: StubTask) -> tuple[str, int]:
    _, cell_id, generation = task.request["startedBy"].split("/")
    return cell_id, int(generation)
