"""Cells' stacks and tasks on MiniStack: stacks on its CloudFormation, tasks as real containers where Docker runs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from router.adapters.aws.cell_contents import CellContents
from router.adapters.aws.resources import AwsCellResources, ResourceNames
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.stacks import CellStacks, StackConfig
from router.adapters.clock import SystemClock
from router.adapters.provisioners.ecs import EcsProvisioner
from router.adapters.provisioners.ecs_tasks import EcsConfig
from router.core.errors import NotYetError, ProvisionError
from router.core.models import InstanceView
from tests.support.aio import run, until
from tests.support.docker import built_image, docker, require_engine
from tests.support.paths import REPOSITORY
from tests.support.servers import ministack
from tests.support.system import System

CELL = "cell-0000"
CLOCK = SystemClock()
STANDIN = (REPOSITORY / "tests/support/cell_standin.yaml").read_text()
SUBNET, GROUP = "subnet-0123abcd", "sg-0123abcd"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Run a MiniStack of these tests' own, which reaches the Docker engine that they reach."""
    with ministack() as url:
        yield url


@dataclass
class Account:
    """An account's clients, and the stacks of an environment of the test's own."""

    clients: dict[str, Any]
    names: ResourceNames
    image: str = "repository:1"

    @property
    def contents(self) -> CellContents:
        return CellContents(self.names, self.clients["sqs"], self.clients["s3"], self.clients["dynamodb"])

    def stacks(self) -> CellStacks:
        """Make the stacks of one more controller."""
        config = StackConfig(
            names=self.names,
            template=STANDIN,
            image=self.image,
            cpu=256,
            memory_mb=512,
            parameters={},
            role="",
            secret_of=lambda cell_id: f"secret of {cell_id}",
            secret_id=lambda: "aaaa",
        )
        aws = [self.clients[name] for name in ("sqs", "s3", "firehose")]
        parts = AwsCellResources(self.names, *aws, region="us-east-1", firehose_role="arn:aws:iam::000000000000:role/f")
        return CellStacks(config, self.clients["cloudformation"], parts, self.contents, CLOCK)

    def provisioner(self) -> EcsProvisioner:
        """Make the provisioner of one more controller."""
        config = EcsConfig(self.names.prefix, self.names.environment, "cells", [SUBNET], [GROUP], "FARGATE")
        return EcsProvisioner(config, self.clients["ecs"], self.stacks(), CLOCK)

    async def made(self) -> None:
        """Have the cell's stack made."""
        stacks = self.stacks()

        async def there() -> bool:
            try:
                await stacks.ensure(CELL)
            except NotYetError:
                return False
            return True

        await until(there, "the cell's stack is complete", 60)


@asynccontextmanager
async def account(endpoint: str) -> AsyncIterator[Account]:
    """Open an account with an environment of the test's own."""
    async with AsyncExitStack() as stack:
        config = AwsConfig("us-east-1", endpoint)
        wanted = ("sqs", "s3", "firehose", "dynamodb", "cloudformation", "ecs")
        clients = {name: await open_client(stack, config, name) for name in wanted}
        await clients["ecs"].create_cluster(clusterName="cells")
        yield Account(clients, ResourceNames("cellrouter", f"e-{uuid.uuid4().hex[:8]}", "events", "dead"))


def test_a_cells_stack_is_made_and_what_was_deleted_from_it_too(endpoint: str) -> None:
    """Under the names that everybody forms; the controller finds the cell by its hold queue."""

    async def story() -> None:
        async with account(endpoint) as has:
            await has.made()
            assert await has.stacks().with_hold_queues() == {CELL}
            url = (await has.clients["sqs"].get_queue_url(QueueName=has.names.hold_queue(CELL)))["QueueUrl"]
            await has.clients["sqs"].delete_queue(QueueUrl=url)
            assert await has.stacks().ensure(CELL) == ["hold queue"]
            definition = await has.stacks().task_definition(CELL, None)
            assert f"task-definition/{has.names.cell(CELL)}:" in definition
            other = await has.stacks().task_definition(CELL, "repository:2")
            assert other != definition
            assert await has.stacks().task_definition(CELL, "repository:2") == other

    run(story(), 120)


def test_nobody_deletes_a_cell_in_which_something_is_left(endpoint: str) -> None:
    """An event in its hold queue, a line in its store's outbox, an object in its bucket; then nothing is."""

    async def story() -> None:
        async with account(endpoint) as has:
            await has.made()
            name, sqs, table = has.names.cell(CELL), has.clients["sqs"], has.clients["dynamodb"]
            assert await has.contents.why_not_empty(CELL) is None
            await has.clients["s3"].put_object(Bucket=name, Key="finding", Body=b"x")
            assert "in its bucket" in str(await has.contents.why_not_empty(CELL))
            for item_id, marks in (("fence", {"tail": {"N": "4"}}), ("lines/3", {}), ("lines/4", {})):
                await table.put_item(TableName=name, Item={"id": {"S": item_id}, **marks})
            assert "in its outbox" in str(await has.contents.why_not_empty(CELL))
            url = (await sqs.get_queue_url(QueueName=has.names.hold_queue(CELL)))["QueueUrl"]
            await sqs.send_message(QueueUrl=url, MessageBody="event")
            assert "in its hold queue" in str(await has.contents.why_not_empty(CELL))
            await sqs.purge_queue(QueueUrl=url)
            for kept, left in (({"kept": {"NS": ["3"]}}, True), ({}, False)):
                await table.put_item(TableName=name, Item={"id": {"S": "outbox"}, "head": {"N": "5"}, **kept})
                assert ("in its outbox" in str(await has.contents.why_not_empty(CELL))) is left
            await table.put_item(TableName=name, Item={"id": {"S": "outbox"}, "head": {"S": "all"}})
            with pytest.raises(ProvisionError, match="no number in head"):
                await has.contents.why_not_empty(CELL)
            # An instance that lost the store, or ended, has delivered everything and could not write that down.
            await table.put_item(TableName=name, Item={"id": {"S": "outbox"}, "head": {"N": "2"}})
            assert "in its outbox" in str(await has.contents.why_not_empty(CELL))
            for chunk in ("lines/3", "lines/4"):
                await table.delete_item(TableName=name, Key={"id": {"S": chunk}})
            assert "in its bucket" in str(await has.contents.why_not_empty(CELL))
            await has.clients["s3"].delete_object(Bucket=name, Key="finding")
            assert await has.contents.why_not_empty(CELL) is None
            assert await replace(has, names=replace(has.names, prefix="other")).contents.why_not_empty(CELL) is None

    run(story(), 120)


async def _view(provisioner: EcsProvisioner, generation: int) -> InstanceView:
    [found] = [view for view in await provisioner.observe() if view.generation == generation]
    return found


def test_instances_are_real_containers(endpoint: str) -> None:
    """Launched, found by another controller at their address, stopped, and told of with their end."""
    require_engine()
    image = built_image()

    async def story() -> None:
        async with account(endpoint) as has:
            has.image = image
            await has.made()
            first, second = has.provisioner(), has.provisioner()
            await first.launch(CELL, 7)
            await second.launch(CELL, 7)

            async def addressed() -> bool:
                return (await _view(second, 7)).address.endswith(":8080")

            await until(addressed, "the container has an address", 60)
            listed = await has.clients["ecs"].list_tasks(cluster="cells", startedBy=f"{has.names.environment}/{CELL}/7")
            assert len(listed["taskArns"]) == 1
            name = f"name=ministack-ecs-{listed['taskArns'][0].rpartition('/')[2][:8]}"
            [container] = docker("ps", "--quiet", "--filter", name).split()
            assert docker("logs", container).split() == ["started", "7"]
            await second.stop(CELL, 7)

            async def ended() -> bool:
                return not (await _view(first, 7)).running

            await until(ended, "the instance has ended", 60)
            seen = await _view(first, 7)
            assert seen.detail.startswith("exit code 0; the controller asked for it")

    run(story(), 180)


def test_an_image_that_is_not_there_is_told_of(endpoint: str) -> None:
    """As last words of a task that never ran."""
    require_engine()

    async def story() -> None:
        async with account(endpoint) as has:
            has.image = "cellrouter:of-nowhere"
            await has.made()
            provisioner = has.provisioner()
            await provisioner.launch(CELL, 1)

            async def ended() -> bool:
                return not (await _view(provisioner, 1)).running

            await until(ended, "the task has failed", 60)
            assert "no exit code; image, which needs a person" in (await _view(provisioner, 1)).detail

    run(story(), 120)


@pytest.mark.one_kind
def test_explain_says_why_no_task_starts(endpoint: str, redis_url: str, tmp_path: Path) -> None:
    """A real controller makes the stack, launches, and gives up with ECS' words; a person reads them in `explain`."""
    require_engine()
    system = System(redis_url, endpoint, tmp_path, cells=1, fifo=False)
    system.environ |= {
        "CELLROUTER_CELLS_PROVISIONER": "ecs",
        "CELLROUTER_CELLS_LAUNCH_TIMEOUT_S": "120",
        "CELLROUTER_ECS_CLUSTER": "cells",
        "CELLROUTER_ECS_SUBNETS": SUBNET,
        "CELLROUTER_ECS_SECURITY_GROUPS": GROUP,
        "CELLROUTER_ECS_IMAGE": "cellrouter:of-nowhere",
        "CELLROUTER_ECS_TEMPLATE": str(tmp_path / "cell.yaml"),
    }
    told = ("Handler", "Concurrency", "SideEffects", "Chaos", "LeaseTtlS", "EventTimeoutS", "DrainTimeoutS")
    declared = "".join(f"  {name}: {{Type: String}}\n" for name in told)
    (tmp_path / "cell.yaml").write_text(STANDIN.replace("Parameters:\n", f"Parameters:\n{declared}", 1))

    async def story() -> None:
        async with account(endpoint):  # the cluster
            await system.controller()

            async def explained() -> bool:
                return "image, which needs a person" in system.cli("explain", CELL, "--json", check=False).stdout

            await until(explained, "explain says why", 90)

    try:
        run(story(), 180)
        (tmp_path / "explain.txt").write_text(system.cli("explain", CELL).stdout)
        assert "of-nowhere" in system.cli("explain", CELL, "--json").stdout
    finally:
        system._end()
