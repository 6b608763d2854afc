"""An ECS provisioner on the strict stub, on virtual or real time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from router.adapters.provisioners.ecs import EcsProvisioner, TaskDefinitions
from router.adapters.provisioners.ecs_tasks import EcsConfig
from router.ports import Clock
from tests.support.ecs_stub import EcsStub

CONFIG = EcsConfig(
    prefix="cellrouter",
    environment="live",
    cluster="cells",
    subnets=("subnet-0123abcd", "subnet-4567abcd"),
    security_groups=("sg-0123abcd",),
    capacity_provider="FARGATE",
)


IMAGE = "worker:1"
"""The image of a cell's task definition, as long as no other one is asked for."""


@dataclass
class Definitions:
    """Knows a task definition of every cell, at once or after a while."""

    clock: Clock
    images: dict[str, str] = field(default_factory=dict)  # by task definition
    takes_s: float = 0.0
    fault: Exception | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    async def task_definition(self, cell_id: str, image: str | None) -> str:
        self.asked.append((cell_id, image))
        if self.takes_s:
            await self.clock.sleep(self.takes_s)
        if self.fault is not None:
            raise self.fault
        revision = 1 if image is None else 1 + len(self.images)
        arn = f"arn:aws:ecs:us-east-1:123456789012:task-definition/cellrouter-live-{cell_id}:{revision}"
        self.images[arn] = image or IMAGE
        return arn


def provisioner_on(stub: Any, definitions: TaskDefinitions, clock: Clock, config: EcsConfig = CONFIG) -> EcsProvisioner:
    """Make the provisioner of one more controller."""
    return EcsProvisioner(config, stub, definitions, clock)


@dataclass
class EcsRoom:
    """A cluster, and one controller's provisioner."""

    clock: Clock
    stub: EcsStub = field(init=False)
    definitions: Definitions = field(init=False)
    provisioner: EcsProvisioner = field(init=False)

    def __post_init__(self) -> None:
        self.stub, self.definitions = EcsStub(self.clock), Definitions(self.clock)
        self.stub.images = self.definitions.images
        self.provisioner = self.another()

    def another(self, config: EcsConfig = CONFIG) -> EcsProvisioner:
        """Make the provisioner of another controller."""
        return provisioner_on(self.stub, self.definitions, self.clock, config)
