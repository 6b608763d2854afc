"""The controller with real workers, a real Valkey and a real AWS stand-in: launch, crash, hang, hand-over."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cell_worker.contract.redis_client import connect
from router.adapters.aws.resources import AwsCellResources, ResourceNames
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.clock import SystemClock
from router.adapters.provisioners.subprocess import SubprocessConfig, SubprocessProvisioner
from router.adapters.redis.registry import RedisRegistry
from router.core.fleet.states import state_of
from router.core.models import CellRecord, CellState, cell_ids
from router.core.registry import Snapshot
from router.services.control_plane.controller import Controller, ControllerConfig
from tests.support.aio import run, until
from tests.support.fake_cells import Instances
from tests.support.keys import ring
from tests.support.paths import REPOSITORY
from tests.support.router_world import Notes

CELLS = cell_ids(2)
LEASE_TTL_S = 1.0


@dataclass
class Plane:
    """A control plane and its cells."""

    registry: RedisRegistry
    resources: AwsCellResources
    directory: Path
    environment: dict[str, str]
    provisioners: list[SubprocessProvisioner] = field(default_factory=list)

    def controller(self, owner: str) -> Controller:
        """One of several controllers, with a provisioner of its own on the same machine."""
        secret_of = ring(self.environment["CELL_ENVIRONMENT"]).cell_secret
        config = SubprocessConfig(self.directory / "run", self.environment, self.directory / "cells", 2, secret_of)
        provisioner = SubprocessProvisioner(config, SystemClock(), print)
        self.provisioners.append(provisioner)
        settings = ControllerConfig(owner, len(CELLS), launch_timeout_s=20, lease_ttl_s=LEASE_TTL_S, leader_ttl_s=2)
        ports = (self.registry, provisioner, self.resources, well, Instances(), SystemClock(), Notes())
        return Controller(settings, *ports)

    async def serving(self, **generations: int) -> None:
        """Wait until every cell serves; the named ones (cell_0000=2) must serve in that generation."""
        wanted = {name.replace("_", "-"): generation for name, generation in generations.items()}

        async def all_serving() -> bool:
            snapshot = await self.registry.snapshot()
            return snapshot.slot_map is not None and all(
                state_of(cell, snapshot.lease(cell.cell_id, cell.generation)) is CellState.SERVING
                and cell.generation == wanted.get(cell.cell_id, cell.generation)
                for cell in snapshot.cells.values()
            )

        await until(all_serving, f"all serve, with {wanted}", 30)

    def process(self, cell_id: str, generation: int) -> psutil.Process:
        """Return the worker process of an instance."""
        return next(p._running[cell_id, generation] for p in self.provisioners if (cell_id, generation) in p._running)


async def well(cell: CellRecord, snapshot: Snapshot, within_s: float) -> str | None:
    """A canary that always succeeds."""
    return None


@asynccontextmanager
async def plane(redis_url: str, aws_endpoint: str, directory: Path) -> AsyncIterator[Plane]:
    """Make a control plane in an environment of its own; stop every worker at the end."""
    environment = f"test-{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(connect(redis_url))
        aws = AwsConfig("us-east-1", aws_endpoint)
        clients = [await open_client(stack, aws, service) for service in ("sqs", "s3", "firehose")]
        names = ResourceNames("t", environment, "events", "dead-letters")
        role = "arn:aws:iam::000000000000:role/firehose"
        resources = AwsCellResources(names, *clients, region="us-east-1", firehose_role=role)
        variables = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "CELL_ENVIRONMENT": environment,
            "CELL_HANDLER": "tests.support.trivial:handle",
            "CELL_REDIS_URL": redis_url,
            "CELL_SINK": "none",
            "CELL_LEASE_TTL_S": str(LEASE_TTL_S),
            "CELL_DRAIN_TIMEOUT_S": "1",
        }
        made = Plane(
            RedisRegistry(redis, environment, ring(environment), SystemClock()), resources, directory, variables
        )
        try:
            yield made
        finally:
            for provisioner in made.provisioners:
                await provisioner.stop_all()


@asynccontextmanager
async def running(controller: Controller) -> AsyncIterator[None]:
    """A controller that runs until the end of the block."""
    task = asyncio.create_task(controller.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_crashed_cell_is_replaced_and_no_slot_moves(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """The cell gets the next generation and keeps its slots; the audit says what and why; the other is untouched."""

    async def story() -> None:
        async with plane(redis_url, aws_endpoint, tmp_path) as world, running(world.controller("a")):
            await world.serving(cell_0000=1, cell_0001=1)
            before = (await world.registry.snapshot()).slot_map
            world.process("cell-0001", 1).kill()
            await world.serving(cell_0000=1, cell_0001=2)
            assert before is not None
            assert (await world.registry.snapshot()).slot_map == before
            audit = [(e.action, e.cell_id, e.why) for e in await world.registry.audit(100)]
            (launched,) = [why for action, _, why in audit if action == "launch" and why.startswith("generation 2")]
            assert launched.startswith("generation 2: generation 1 exited: killed by signal 9")
            assert ("admit", "cell-0001", "generation 2 is ready, and has answered a canary") in audit

    run(story())


def test_a_hung_cell_is_replaced_and_its_process_ended(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """SIGSTOP hangs the process, so its lease ends. The next generation serves before the hung process is killed."""

    async def story() -> None:
        async with plane(redis_url, aws_endpoint, tmp_path) as world, running(world.controller("a")):
            await world.serving(cell_0000=1, cell_0001=1)
            hung = world.process("cell-0000", 1)
            hung.send_signal(signal.SIGSTOP)
            await world.serving(cell_0000=2, cell_0001=1)

            async def ended() -> bool:
                return not hung.is_running() or hung.status() == psutil.STATUS_ZOMBIE

            await until(ended, "the hung process is ended")

    run(story())


def test_a_second_controller_adopts_the_cells_of_one_that_died(
    redis_url: str, aws_endpoint: str, tmp_path: Path
) -> None:
    """It waits while the first one leads. Then it leads, starts no instance anew, and replaces a cell that crashes."""

    async def story() -> None:
        async with plane(redis_url, aws_endpoint, tmp_path) as world:
            first = asyncio.create_task(world.controller("a").run())
            await world.serving(cell_0000=1, cell_0001=1)
            second = world.controller("b")
            await second.tick()
            assert second.epoch is None
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            async with running(second):

                async def leads() -> bool:
                    return second.epoch is not None

                await until(leads, "the second leads")
                await world.serving(cell_0000=1, cell_0001=1)
                world.process("cell-0000", 1).kill()
                await world.serving(cell_0000=2, cell_0001=1)

    run(story())
