"""What a cell has in AWS is made, and made anew where it has gone."""

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
    """The clients, and the names of what a cell has there."""

    sqs: Any
    s3: Any
    firehose: Any
    names: ResourceNames

    def resources(self) -> AwsCellResources:
        """On these clients."""
        return AwsCellResources(self.names, self.sqs, self.s3, self.firehose, region="us-east-1", firehose_role=ROLE)

    def denying(self, *calls: str) -> AwsCellResources:
        """Where these calls are denied."""
        sqs, s3, firehose = (Denying(client, *calls) for client in (self.sqs, self.s3, self.firehose))
        return replace(self, sqs=sqs, s3=s3, firehose=firehose).resources()

    async def delete_queue(self) -> None:
        """Behind the back of all."""
        url = (await self.sqs.get_queue_url(QueueName=self.names.hold_queue(CELL)))["QueueUrl"]
        await self.sqs.delete_queue(QueueUrl=url)


class Denying:
    """A client of somebody who may not do some of it."""

    def __init__(self, client: Any, *denied: str) -> None:
        self._client = client
        self._denied = denied  # how these calls begin

    def __getattr__(self, name: str) -> Any:
        return self._deny if name.startswith(self._denied) else getattr(self._client, name)

    async def _deny(self, **parameters: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "call")


@asynccontextmanager
async def aws(endpoint: str) -> AsyncIterator[Aws]:
    """With an environment of the test's own."""
    async with AsyncExitStack() as stack:
        config = AwsConfig("us-east-1", endpoint)
        sqs, s3, firehose = [await open_client(stack, config, service) for service in ("sqs", "s3", "firehose")]
        yield Aws(sqs, s3, firehose, ResourceNames("cellrouter", f"r-{uuid.uuid4().hex[:8]}", "events", "dead"))


def test_what_is_missing_is_made_and_named(aws_endpoint: str) -> None:
    """Each for itself, and nothing when all is there."""

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


def test_who_may_only_read_can_tell_that_all_is_there(aws_endpoint: str) -> None:
    """As where CloudFormation owns it."""

    async def story() -> None:
        async with aws(aws_endpoint) as has:
            read_only = has.denying("create_")
            with pytest.raises(ProvisionError, match="AccessDenied"):
                await read_only.ensure(CELL)
            await has.resources().ensure(CELL)
            assert await read_only.ensure(CELL) == []

    run(story())


def test_who_may_not_read_makes_it_and_says_nothing_of_it(aws_endpoint: str) -> None:
    """It is not known to have been missing."""

    async def story() -> None:
        async with aws(aws_endpoint) as has:
            assert await has.denying("get_", "head_", "describe_").ensure(CELL) == []
            assert await has.resources().ensure(CELL) == []

    run(story())


def test_without_an_answer_nothing_is_said_to_have_been_missing() -> None:
    """It is an error."""

    async def story() -> None:
        async with aws(f"http://127.0.0.1:{free_port()}") as has:
            with pytest.raises(ProvisionError, match="can't make"):
                await has.resources().ensure(CELL)

    run(story())


def test_a_hold_queue_that_vanishes_is_made_anew_under_load(on_system: Callable[..., System]) -> None:
    """The router says once that it is missing and once that it is there; the leader says that it made it anew."""

    async def story(system: System) -> None:
        router, gone, enough = await system.router(), system.hold(CELL), asyncio.Event()

        async def load() -> None:
            while not enough.is_set():  # not cancelled, or what is said to be sent is not
                await system.send([{"key": f"k{i}"} for i in range(20)])
                await asyncio.sleep(1)  # noqa: TID251 - the load's pace

        drops = 0

        async def noticed() -> bool:
            nonlocal drops
            with suppress(SqsError):  # it has gone
                await system.drop(gone)  # again, if the leader was quicker than the router
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
