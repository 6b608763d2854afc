"""The ECS provisioner on MiniStack, whose tasks are real containers, for the provisioners' contract test."""

from __future__ import annotations

import threading
import uuid
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from typing import Any

from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.clock import SystemClock
from router.adapters.provisioners.ecs import EcsProvisioner
from router.adapters.provisioners.ecs_tasks import CONTAINER
from router.core.errors import ProvisionError
from router.ports import Provisioner
from tests.support.docker import built_image, docker
from tests.support.ecs_world import CONFIG, Definitions, provisioner_on
from tests.support.provisioner_rigs import Rig
from tests.support.servers import ministack

ENDS = (
    "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); "
    "print('\"started\"', flush=True); time.sleep(600)"
)


class MiniStackRig(Rig):
    """Instances as containers that MiniStack has started. It says of any at once that it has stopped, and well."""

    stopped_hung = (False, "exit code 0")
    no_image = "the image can't be pulled"

    def __init__(self) -> None:
        self._image = built_image()
        self._other = f"{self._image}-of-{uuid.uuid4().hex[:8]}"
        self._server = ExitStack()
        self._endpoint = self._server.enter_context(ministack())
        self._clients = AsyncExitStack()
        self._config = replace(CONFIG, environment=f"c-{uuid.uuid4().hex[:8]}")
        self._definitions = _Registered(SystemClock(), self._image)
        self._ecs: Any = None
        self._made: list[EcsProvisioner] = []

    async def provisioner(self) -> Provisioner:
        if self._ecs is None:
            self._ecs = await open_client(self._clients, AwsConfig("us-east-1", self._endpoint), "ecs")
            await self._ecs.create_cluster(clusterName=self._config.cluster)
            self._definitions.ecs = self._ecs
        self._made.append(provisioner_on(self._ecs, self._definitions, SystemClock(), self._config))
        return self._made[-1]

    async def broken(self) -> Provisioner:
        self._definitions.fault = ProvisionError("there is no stack of it")
        return await self.provisioner()

    def images(self) -> tuple[str, str]:
        docker("tag", self._image, self._other)
        return self._image, self._other

    def log(self, cell_id: str, generation: int) -> str:
        found = self._container(cell_id, generation)
        return docker("logs", found, both=True) if found else ""

    def kill(self, cell_id: str, generation: int) -> None:
        docker("kill", self._running(cell_id, generation))

    def hang(self, cell_id: str, generation: int) -> None:
        docker("kill", "--signal", "STOP", self._running(cell_id, generation))

    def _running(self, cell_id: str, generation: int) -> str:
        """Wait until an instance has a container that runs."""
        pause = threading.Event()
        for _ in range(600):
            if found := self._container(cell_id, generation):
                return found
            pause.wait(0.1)
        raise AssertionError(f"{cell_id} generation {generation} has no container")

    def _container(self, cell_id: str, generation: int) -> str:
        """Return the id of an instance's container; empty while it has none."""
        arn = next((m._running[key].arn for m in self._made if (key := (cell_id, generation)) in m._running), "")
        name = f"name=ministack-ecs-{arn.rpartition('/')[2][:8]}-{CONTAINER}"
        return docker("ps", "--quiet", "--filter", name).strip() if arn else ""

    async def close(self) -> None:
        for made in self._made:
            for key in list(made._running):
                await self._ecs.stop_task(cluster=self._config.cluster, task=made._running[key].arn)
            await made.close()
        await self._clients.aclose()
        self._server.close()
        docker("image", "rm", self._other, check=False)  # if a test has asked for it


class _Registered(Definitions):
    """Registers a cell's task definition when it is asked for it first."""

    def __init__(self, clock: SystemClock, image: str) -> None:
        super().__init__(clock)
        self._image = image
        self.ecs: Any = None

    async def task_definition(self, cell_id: str, image: str | None) -> str:
        if self.fault is not None:
            raise self.fault
        command = ["python", "-uc", ENDS]
        container = {"name": CONTAINER, "image": image or self._image, "command": command, "essential": True}
        answer = await self.ecs.register_task_definition(
            family=cell_id,
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[container],
        )
        return str(answer["taskDefinition"]["taskDefinitionArn"])
