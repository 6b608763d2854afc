"""Provisioners for their contract test, and ways to harm their instances that no provisioner offers."""

from __future__ import annotations

import os
import signal
import uuid
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from router.adapters.clock import SystemClock
from router.adapters.provisioners.docker import DockerProvisioner
from router.adapters.provisioners.docker_containers import DEFAULT_ENGINE_URL, DockerConfig
from router.adapters.provisioners.subprocess import SubprocessConfig, SubprocessProvisioner
from router.core.errors import ProvisionError
from router.ports import Provisioner
from tests.support.docker import built_image, docker
from tests.support.ecs_world import IMAGE, EcsRoom
from tests.support.keys import ring
from tests.support.paths import REPOSITORY

GRACE_S = 2
VARIABLES = {
    "CELL_REDIS_URL": "redis://127.0.0.1:1/0",  # nobody listens there: a worker goes on without Redis
    "CELL_SINK": "none",
    "CELL_DRAIN_TIMEOUT_S": "1",
}
SECRET_OF = ring("live").cell_secret


class Rig(ABC):
    """One installation of a provisioner and its instances."""

    stopped_hung = (True, "killed by signal 9")
    """Whether a hung instance that is stopped is said to run at first, and how it is said to have ended."""

    no_image = "has no image worker:of-nowhere"
    """What is said of an instance whose image isn't there."""

    @abstractmethod
    async def provisioner(self) -> Provisioner:
        """Make the provisioner of one more controller."""

    @abstractmethod
    async def broken(self) -> Provisioner:
        """Make a provisioner that can't launch."""

    def images(self) -> tuple[str, str]:
        """Return the image that is launched when none is named, and another one."""
        raise NotImplementedError

    @abstractmethod
    def log(self, cell_id: str, generation: int) -> str:
        """Return what an instance has logged."""

    @abstractmethod
    def kill(self, cell_id: str, generation: int) -> None:
        """Kill an instance with SIGKILL, without telling its provisioner."""

    @abstractmethod
    def hang(self, cell_id: str, generation: int) -> None:
        """Stop an instance with SIGSTOP, so that it doesn't react to SIGTERM."""

    @abstractmethod
    async def close(self) -> None:
        """End and remove everything that the rig has started."""


class SubprocessRig(Rig):
    """Instances as processes of this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: list[SubprocessProvisioner] = []

    async def provisioner(self) -> Provisioner:
        variables = {"PYTHONPATH": str(REPOSITORY), "CELL_HANDLER": "tests.support.trivial:handle", **VARIABLES}
        config = SubprocessConfig(
            self._directory / "run", {**os.environ, **variables}, self._directory / "cells", GRACE_S, SECRET_OF
        )
        self._made.append(SubprocessProvisioner(config, SystemClock(), print))
        return self._made[-1]

    async def broken(self) -> Provisioner:
        made = await self.provisioner()
        (self._directory / "run").rmdir()
        return made

    def log(self, cell_id: str, generation: int) -> str:
        return (self._directory / "run" / f"{cell_id}.g{generation}.log").read_text()

    def kill(self, cell_id: str, generation: int) -> None:
        self._process(cell_id, generation).kill()

    def hang(self, cell_id: str, generation: int) -> None:
        self._process(cell_id, generation).send_signal(signal.SIGSTOP)

    def _process(self, cell_id: str, generation: int) -> psutil.Process:
        return next(p._running[cell_id, generation] for p in self._made if (cell_id, generation) in p._running)

    async def close(self) -> None:
        for made in self._made:
            await made.stop_all()


class EcsRig(Rig):
    """Instances as tasks of a cluster in memory, which does what ECS does."""

    no_image = "the image can't be pulled"

    def __init__(self) -> None:
        clock = SystemClock()
        self._room = EcsRoom(clock)
        self._stub = self._room.stub
        self._stub.stop_timeout_s, self._stub.drain_s = GRACE_S, 0.1

    async def provisioner(self) -> Provisioner:
        return self._room.another()

    async def broken(self) -> Provisioner:
        self._room.definitions.fault = ProvisionError("there is no stack of it")
        return self._room.another()

    def images(self) -> tuple[str, str]:
        return IMAGE, "worker:other"

    def log(self, cell_id: str, generation: int) -> str:
        return '"started"' if self._stub.task(cell_id, generation).status == "RUNNING" else ""

    def kill(self, cell_id: str, generation: int) -> None:
        self._stub.exit(self._stub.task(cell_id, generation), 137)

    def hang(self, cell_id: str, generation: int) -> None:
        self._stub.task(cell_id, generation).hung = True

    async def close(self) -> None:
        self._stub.close()


class DockerRig(Rig):
    """Instances as containers of the local engine, with a prefix of their own."""

    def __init__(self, engine_url: str = DEFAULT_ENGINE_URL, **changes: Any) -> None:
        self.config = replace(
            DockerConfig(
                engine_url=engine_url,
                image=built_image(),
                network="bridge",
                prefix=f"test-{uuid.uuid4().hex[:8]}",
                environment="live",
                variables={"CELL_HANDLER": "cell_worker.handlers.security:SecurityMonitor", **VARIABLES},
                labels={},
                memory_mb=256,
                cpus=1,
                pids=64,
                stop_grace_s=GRACE_S,
                secret_of=SECRET_OF,
            ),
            **changes,
        )
        self._made: list[DockerProvisioner] = []

    async def provisioner(self, **changes: Any) -> DockerProvisioner:
        self._made.append(DockerProvisioner(replace(self.config, **changes)))
        return self._made[-1]

    async def broken(self) -> Provisioner:
        return await self.provisioner(image="cellrouter:of-nowhere")

    def images(self) -> tuple[str, str]:
        other = f"{self.config.image}-of-{self.config.prefix}"
        docker("tag", self.config.image, other)
        return self.config.image, other

    def name(self, cell_id: str, generation: int) -> str:
        """Return the name of an instance's container."""
        return f"{self.config.prefix}-live-{cell_id}-g{generation}"

    def log(self, cell_id: str, generation: int) -> str:
        return docker("logs", self.name(cell_id, generation), both=True)

    def kill(self, cell_id: str, generation: int) -> None:
        docker("kill", self.name(cell_id, generation))

    def hang(self, cell_id: str, generation: int) -> None:
        docker("kill", "--signal", "STOP", self.name(cell_id, generation))

    async def close(self) -> None:
        for made in self._made:
            await made.close()
        ours = ("--quiet", "--filter", f"label=cellrouter.prefix={self.config.prefix}")
        if containers := docker("ps", "--all", *ours).split():
            docker("rm", "--force", *containers)
        if volumes := docker("volume", "ls", *ours).split():
            docker("volume", "rm", *volumes)
        docker("image", "rm", f"{self.config.image}-of-{self.config.prefix}", check=False)  # if a test has asked for it
