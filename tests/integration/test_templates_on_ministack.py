"""Both templates make their stacks on MiniStack, which have what `cellrouter init` and a controller make."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from docs.cloudformation import read
from router.adapters.aws.intake import Intake
from router.adapters.aws.resources import AwsCellResources, ResourceNames
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.templates import template
from router.adapters.clock import SystemClock
from router.core.intake.plan import IntakePlan
from tests.support.aio import run, until
from tests.support.servers import ministack

CELL: Final = "cell-0003"
SERVICES: Final = (
    "sqs",
    "s3",
    "sts",
    "firehose",
    "dynamodb",
    "cloudformation",
    "ec2",
    "ecs",
    "elasticache",
    "secretsmanager",
)
COMPARED: Final = ("MessageRetentionPeriod", "VisibilityTimeout", "DelaySeconds", "MaximumMessageSize", "RedrivePolicy")
FIFO: Final = ("FifoQueue", "DeduplicationScope", "FifoThroughputLimit")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Run a MiniStack of these tests' own that reaches no Docker engine, so that its services start no containers."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
            url = stack.enter_context(ministack())
        yield url


@dataclass(frozen=True)
class Account:
    """An AWS account, and an installation in it with a prefix of the test's own."""

    endpoint: str
    prefix: str
    aws: Mapping[str, Any]

    def names(self, environment: str, *, fifo: bool = False) -> ResourceNames:
        """Return the names of an environment as the platform's template forms them."""
        begin = f"{self.prefix}-{environment}"
        source = f"{begin}-events.fifo" if fifo else f"{begin}-events"
        return ResourceNames(self.prefix, environment, source, f"{begin}-dead-letters", f"{begin}-quarantine")

    async def make_stack(self, name: str, parameters: Mapping[str, str], **body: str) -> Mapping[str, str]:
        """Make a stack, wait for it and return its outputs."""
        aws = self.aws["cloudformation"]
        listed = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        await aws.create_stack(
            StackName=name, Parameters=listed, Capabilities=["CAPABILITY_NAMED_IAM"], DisableRollback=True, **body
        )
        found: dict[str, Any] = {}

        async def ended() -> bool:
            found.update((await aws.describe_stacks(StackName=name))["Stacks"][0])
            return not found["StackStatus"].endswith("IN_PROGRESS")

        await until(ended, f"the stack {name} is made", 120)
        assert found["StackStatus"] == "CREATE_COMPLETE", found.get("StackStatusReason")
        return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}

    async def platform(self, environment: str, **parameters: str) -> Mapping[str, str]:
        """Make the platform's stack in a network of its own."""
        ec2, s3 = self.aws["ec2"], self.aws["s3"]
        vpc = (await ec2.create_vpc(CidrBlock="10.0.0.0/16"))["Vpc"]["VpcId"]
        blocks = ("10.0.0.0/24", "10.0.1.0/24")
        made = [await ec2.create_subnet(VpcId=vpc, CidrBlock=block) for block in blocks]
        given = {
            "Prefix": self.prefix,
            "Environment": environment,
            "Image": "cellrouter:of-nowhere",
            "CellImage": "cellrouter:of-nowhere",
            "VpcId": vpc,
            "VpcCidr": "10.0.0.0/16",
            "Subnets": ",".join(subnet["Subnet"]["SubnetId"] for subnet in made),
            "Autoscaling": "false",  # MiniStack has none, and refuses the whole template for it
        }
        bucket = f"{self.prefix}-templates"
        await s3.create_bucket(Bucket=bucket)
        await s3.put_object(Bucket=bucket, Key="platform.yaml", Body=template("platform").encode())
        url = f"{self.endpoint}/{bucket}/platform.yaml"
        return await self.make_stack(f"{self.prefix}-{environment}-platform", given | parameters, TemplateURL=url)

    async def cell(self, environment: str) -> Mapping[str, str]:
        """Make a cell's stack as a controller does."""
        given = {
            "Prefix": self.prefix,
            "Environment": environment,
            "CellId": CELL,
            "Image": "cellrouter:of-nowhere",
            "CellSecret": f"{environment}/{CELL}/{64 * 'a'}",
            "KmsKeyArn": "arn:aws:kms:us-east-1:000000000000:key/1",
            "ExecutionRoleArn": "arn:aws:iam::000000000000:role/execution",
            "BoundaryArn": "arn:aws:iam::000000000000:policy/boundary",
            "RedisUrl": "rediss://cell@redis:6379",
        }
        return await self.make_stack(f"{self.prefix}-{environment}-{CELL}", given, TemplateBody=template("cell"))

    def intake(self, names: ResourceNames) -> Intake:
        """Return what `cellrouter init` plans and does with."""
        clients = [self.aws[service] for service in ("sqs", "s3", "sts")]
        return Intake(names, *clients, region="us-east-1", clock=SystemClock())

    async def make_by_hand(self, environment: str, *, fifo: bool = False) -> None:
        """Make what `cellrouter init` makes, and what a controller makes for a cell."""
        sqs, s3, firehose = (self.aws[service] for service in ("sqs", "s3", "firehose"))
        names = self.names(environment, fifo=fifo)
        intake = self.intake(names)
        await intake.carry_out(await intake.plan())
        role = "arn:aws:iam::000000000000:role/firehose"
        await AwsCellResources(names, sqs, s3, firehose, region="us-east-1", firehose_role=role).ensure(CELL)

    async def queue(self, name: str) -> dict[str, Any]:
        """Return what a queue does with messages."""
        sqs = self.aws["sqs"]
        url = (await sqs.get_queue_url(QueueName=name))["QueueUrl"]
        found = (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))["Attributes"]
        kept: dict[str, Any] = {key: value for key, value in found.items() if key in (*COMPARED, *FIFO)}
        if "RedrivePolicy" in kept:
            policy = json.loads(kept["RedrivePolicy"])
            kept["RedrivePolicy"] = (
                policy["deadLetterTargetArn"].rpartition("-live")[2],
                int(policy["maxReceiveCount"]),
            )
        return kept

    async def notified(self, bucket: str) -> list[tuple[list[str], str]]:
        """Return which events of a bucket go to which queue."""
        found = await self.aws["s3"].get_bucket_notification_configuration(Bucket=bucket)
        return [
            (each["Events"], each["QueueArn"].rpartition("-live")[2]) for each in found.get("QueueConfigurations", ())
        ]

    async def stream(self, name: str) -> dict[str, Any]:
        """Return where a stream leads, and how long it collects."""
        answer = await self.aws["firehose"].describe_delivery_stream(DeliveryStreamName=name)
        found = answer["DeliveryStreamDescription"]
        destination = found["Destinations"][0]["ExtendedS3DestinationDescription"]
        return {"kind": found["DeliveryStreamType"], "buffer": destination["BufferingHints"]}


@asynccontextmanager
async def account(endpoint: str) -> AsyncIterator[Account]:
    """Open clients, for a prefix of the test's own."""
    async with AsyncExitStack() as stack:
        config = AwsConfig("us-east-1", endpoint)
        clients = {service: await open_client(stack, config, service) for service in SERVICES}
        yield Account(endpoint, f"t{uuid.uuid4().hex[:8]}", clients)


@pytest.mark.parametrize("fifo", [False, True])
def test_both_ways_make_the_same(endpoint: str, *, fifo: bool) -> None:
    """Each queue keeps and dead-letters alike, each bucket notifies alike, each stream collects alike.

    `cellrouter init` finds nothing to change in what a stack has made.
    """

    async def story() -> None:
        async with account(endpoint) as stacks, account(endpoint) as hand:
            await stacks.platform("live", Fifo=str(fifo).lower())
            outputs = await stacks.cell("live")
            await hand.make_by_hand("live", fifo=fifo)
            ours, theirs = stacks.names("live", fifo=fifo), hand.names("live", fifo=fifo)
            for name in ("source_queue", "dead_letter_queue", "quarantine_queue", *["aside_queue"] * fifo):
                assert await stacks.queue(getattr(ours, name)) == await hand.queue(getattr(theirs, name)), name
            assert await stacks.queue(ours.hold_queue(CELL)) == await hand.queue(theirs.hold_queue(CELL))
            assert await stacks.stream(ours.cell(CELL)) == await hand.stream(theirs.cell(CELL))
            assert outputs["BucketName"] == outputs["StreamName"] == ours.cell(CELL)
            assert await stacks.intake(ours).plan() == IntakePlan(())
            if not fifo:
                found = await stacks.notified(ours.source_bucket)
                assert found == await hand.notified(theirs.source_bucket) == [(["s3:ObjectCreated:*"], "-events")]

    run(story(), 300)


def test_a_cells_stack_gives_what_the_controller_needs(endpoint: str) -> None:
    """Its task definition runs the image it was given, its secret is the one that it was given."""

    async def story() -> None:
        async with account(endpoint) as stacks:
            outputs = await stacks.cell("live")
            assert outputs.keys() == read("cell")["Outputs"].keys()
            task = await stacks.aws["ecs"].describe_task_definition(taskDefinition=outputs["TaskDefinitionArn"])
            (container,) = task["taskDefinition"]["containerDefinitions"]
            assert (container["name"], container["image"]) == ("cell", "cellrouter:of-nowhere")
            told = {each["name"]: each["value"] for each in container["environment"]}
            assert told["CELL_STORE_TABLE"] == outputs["TableName"]
            secret = await stacks.aws["secretsmanager"].get_secret_value(SecretId=f"{stacks.prefix}-live-{CELL}")
            assert secret["SecretString"] == f"live/{CELL}/{64 * 'a'}"
            dynamodb, table = stacks.aws["dynamodb"], outputs["TableName"]
            (key,) = (await dynamodb.describe_table(TableName=table))["Table"]["KeySchema"]
            assert key == {"AttributeName": "id", "KeyType": "HASH"}

    run(story(), 300)


def test_an_object_in_the_source_bucket_becomes_a_message(endpoint: str) -> None:
    """The platform's bucket notifies the platform's queue; the environment's secret is 64 hex digits."""

    async def story() -> None:
        async with account(endpoint) as stacks:
            outputs = await stacks.platform("live", MakeEndpoints="true", RouteTables="rtb-1")
            await stacks.aws["s3"].put_object(Bucket=outputs["SourceBucketName"], Key="a/b.json", Body=b"{}")
            seen: list[str] = []

            async def arrived() -> bool:
                url = outputs["SourceQueueUrl"]
                answer = await stacks.aws["sqs"].receive_message(QueueUrl=url, WaitTimeSeconds=1)
                seen.extend(message["Body"] for message in answer.get("Messages", ()))
                return any("a/b.json" in body for body in seen)

            await until(arrived, "the object's message arrives", 60)
            secret = await stacks.aws["secretsmanager"].get_secret_value(SecretId=outputs["SecretArn"])
            assert len(secret["SecretString"]) == 64
            assert set(secret["SecretString"]) <= set("0123456789abcdef")

    run(story(), 300)


def test_a_cells_stack_goes_with_all_that_it_has(endpoint: str) -> None:
    """Nothing that is named after the cell is left."""

    async def story() -> None:
        async with account(endpoint) as stacks:
            await stacks.cell("live")
            aws, name = stacks.aws, f"{stacks.prefix}-live-{CELL}"
            await aws["cloudformation"].delete_stack(StackName=name)

            async def gone() -> bool:
                found = await aws["cloudformation"].list_stacks(StackStatusFilter=["DELETE_COMPLETE"])
                return name in [each["StackName"] for each in found["StackSummaries"]]

            await until(gone, "the stack is gone", 60)
            assert not (await aws["sqs"].list_queues(QueueNamePrefix=stacks.prefix)).get("QueueUrls")
            buckets = (await aws["s3"].list_buckets())["Buckets"]
            assert [each for each in buckets if each["Name"].startswith(stacks.prefix)] == []
            assert name not in (await aws["dynamodb"].list_tables())["TableNames"]
            assert name not in (await aws["firehose"].list_delivery_streams())["DeliveryStreamNames"]

    run(story(), 300)
