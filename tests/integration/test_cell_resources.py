"""Missing AWS resources of a cell are created, and created again after somebody deleted them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from router.adapters.aws.resources import AwsCellResources, ResourceNames
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.sqs_client import SqsError
from router.core.errors import ProvisionError
from tests.support.aio import run, until
from tests.support.servers import free_port
from tests.support.system import System

CELL = "cell-0000"
ROLE = "arn:aws:iam::000000000000:role/firehose"


@dataclass(frozen=True)
class Aws:
    """AWS clients, and the names of a cell's resources."""

    sqs: Any
    s3: Any
    firehose: Any
    names: ResourceNames

    def resources(self) -> AwsCellResources:
        """Return resources that use these clients."""
        return AwsCellResources(self.names, self.sqs, self.s3, self.firehose, region="us-east-1", firehose_role=ROLE)

    def denying(self, *calls: str, code: str = "AccessDenied") -> AwsCellResources:
        """Return resources for which AWS denies the calls that begin with these words."""
        sqs, s3, firehose = (Denying(client, code, *calls) for client in (self.sqs, self.s3, self.firehose))
        return replace(self, sqs=sqs, s3=s3, firehose=firehose).resources()

    async def delete_queue(self) -> None:
        """Delete the cell's hold queue without telling anybody."""
        url = (await self.sqs.get_queue_url(QueueName=self.names.hold_queue(CELL)))["QueueUrl"]
        await self.sqs.delete_queue(QueueUrl=url)


class Denying:
    """An AWS client without permission for some calls."""

    def __init__(self, client: Any, code: str, *denied: str) -> None:
        self._client = client
        self._code = code
        self._denied = denied  # how the names of the denied calls begin

    def __getattr__(self, name: str) -> Any:
        return self._deny if name.startswith(self._denied) else getattr(self._client, name)

    async def _deny(self, **parameters: Any) -> None:
        raise ClientError({"Error": {"Code": self._code, "Message": "no"}}, "call")


@asynccontextmanager
async def aws(endpoint: str) -> AsyncIterator[Aws]:
    """Open clients, for an environment of the test's own."""
    async with AsyncExitStack() as stack:
        config = AwsConfig("us-east-1", endpoint)
        sqs, s3, firehose = [await open_client(stack, config, service) for service in ("sqs", "s3", "firehose")]
        yield Aws(sqs, s3, firehose, ResourceNames("cellrouter", f"r-{uuid.uuid4().hex[:8]}", "events", "dead"))


def test_missing_resources_are_created_and_named(aws_endpoint: str) -> None:
    """Only what is missing is created; when everything is there, nothing is."""

    async def story() -> None:
        async with aws(aws_endpoint) as has:
            resources, name = has.resources(), has.names.cell(CELL)
            assert await resources.ensure(CELL) == ["hold queue", "bucket", "stream"]
            assert await resources.ensure(CELL) == []
            await has.delete_queue()
            assert await resources.ensure(CELL) == ["hold queue"]
            await has.s3.delete_bucket(Bucket=name)
            assert await resources.ensure(CELL) == ["bucket"]
            await has.firehose.delete_delivery_stream(DeliveryStreamName=name)
            assert await resources.ensure(CELL) == ["stream"]
            assert await resources.ensure(CELL) == []

    run(story())


def test_read_permission_is_enough_when_everything_exists(aws_endpoint: str) -> None:
    """CloudFormation may own the resources, so that the controller may only read them."""

    async def story() -> None:
        async with aws(aws_endpoint) as has:
            read_only = has.denying("create_")
            with pytest.raises(ProvisionError, match="AccessDenied"):
                await read_only.ensure(CELL)
            await has.resources().ensure(CELL)
            assert await read_only.ensure(CELL) == []

    run(story())


@pytest.mark.parametrize("code", ["AccessDenied", "ThrottlingException", "InternalError"])
def test_a_look_up_that_aws_refuses_makes_nothing(aws_endpoint: str, code: str) -> None:
    """It doesn't say that the resource is missing. The reason has what AWS said."""

    async def story() -> None:
        async with aws(aws_endpoint) as has:
            with pytest.raises(ProvisionError, match=f"can't look up .*{code}"):
                await has.denying("get_", "head_", "describe_", code=code).ensure(CELL)
            assert await has.resources().ensure(CELL) == ["hold queue", "bucket", "stream"]

    run(story())


def test_a_hold_queue_that_was_deleted_within_a_minute_is_made_later(aws_endpoint: str) -> None:
    """AWS refuses its name for 60 s. The reason says so, and the next round makes it."""

    async def story() -> None:
        async with aws(aws_endpoint) as has:
            recently = "AWS.SimpleQueueService.QueueDeletedRecently"
            with pytest.raises(ProvisionError, match=f"can't make what is missing: .*{recently}"):
                await has.denying("create_queue", code=recently).ensure(CELL)
            assert await has.resources().ensure(CELL) == ["hold queue", "bucket", "stream"]

    run(story())


def test_cells_are_found_by_their_hold_queues(aws_endpoint: str) -> None:
    """Of this environment alone, and by nothing but the name of a cell's hold queue."""

    async def story() -> None:
        async with aws(aws_endpoint) as has:
            assert await has.resources().with_hold_queues() == set()
            names = replace(has.names, environment=f"{has.names.environment}-2")
            others = (names.hold_queue("cell-0000"), has.names.cell("cell-0001"), has.names.hold_queue("mine"))
            for name in (has.names.hold_queue("cell-0007"), has.names.hold_queue("cell-0999"), *others):
                await has.sqs.create_queue(QueueName=name)
            assert await has.resources().with_hold_queues() == {"cell-0007", "cell-0999"}
            with pytest.raises(ProvisionError, match=r"can't look for hold queues .*AccessDenied"):
                await has.denying("list_").with_hold_queues()

    run(story())


def test_unreachable_aws_is_an_error() -> None:
    """When AWS does not answer, `ensure` raises ProvisionError."""

    async def story() -> None:
        async with aws(f"http://127.0.0.1:{free_port()}") as has:
            with pytest.raises(ProvisionError, match="can't look up"):
                await has.resources().ensure(CELL)

    run(story())


def test_a_hold_queue_that_vanishes_is_made_anew_under_load(on_system: Callable[..., System]) -> None:
    """The router logs once that the queue is missing and once that it is back; the audit says that it was made anew."""

    async def story(system: System) -> None:
        router, gone, enough = await system.router(), system.hold(CELL), asyncio.Event()

        async def load() -> None:
            while not enough.is_set():  # no cancellation: it could interrupt a send whose events already count as sent
                await system.send([{"key": f"k{i}"} for i in range(20)])
                await asyncio.sleep(1)  # noqa: TID251 - the load's pace

        drops = 0

        async def noticed() -> bool:
            nonlocal drops
            with suppress(SqsError):  # the queue is gone already
                await system.drop(gone)  # once more, if the leader was quicker than the router
                drops += 1
            return bool(router.said("queue is missing"))

        async def well_again() -> bool:
            return bool(router.said("queue is there again"))

        async with asyncio.TaskGroup() as group:
            group.create_task(load())
            await until(noticed, "the router says that the queue is missing")
            await until(well_again, "the router says that the queue is there again", 60)
            enough.set()
        told = [*router.said("queue is missing"), *router.said("queue is there again")]
        assert [line["queue"] for line in told] == [gone, gone]
        assert router.metric("cellrouter_queue_faulty", queue=gone) == 0
        made = [entry for entry in await system.leader.audit() if entry["action"] == "reprovisioned"]
        assert [(entry["cell_id"], entry["why"]) for entry in made] == [(CELL, "made anew: hold queue")] * drops
        await system.done(set(system.sent))

    on_system(story)
