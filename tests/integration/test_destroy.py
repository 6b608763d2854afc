"""`cellrouter destroy` and `deploy platform` on an AWS: what is deleted, what stays, and what a change set would do."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from router.adapters.aws.intake import Intake
from router.adapters.aws.platform import PlatformStack
from router.adapters.aws.resources import AwsCellResources, ResourceNames, create_table
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.stack_removal import StackRemoval
from router.adapters.aws.stack_states import as_list, tags_of
from router.adapters.aws.teardown import Teardown
from router.adapters.clock import SystemClock
from router.bootstrap.registry import keyring_of, registry_of
from router.bootstrap.rollout import open_environment
from router.cli.destroy import _removed
from router.core.errors import ProvisionError
from router.core.models import CellRecord
from router.core.registry import Change
from router.settings import load
from tests.support.aio import run
from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY

CELL = "cell-0000"
CELL_TEMPLATE = (REPOSITORY / "tests/support/cell_standin.yaml").read_text()
ROLE = "arn:aws:iam::000000000000:role/firehose"
TEMPLATE = {
    "Parameters": {"Image": {"Type": "String"}, "Other": {"Type": "String", "Default": "kept"}},
    "Resources": {
        "Cluster": {"Type": "AWS::ECS::Cluster"},
        "Task": {
            "Type": "AWS::ECS::TaskDefinition",
            "Properties": {
                "Family": {"Ref": "AWS::StackName"},
                "ContainerDefinitions": [{"Name": "router", "Image": {"Ref": "Image"}, "Memory": 64}],
            },
        },
        "Queue": {"Type": "AWS::SQS::Queue"},
    },
}


@dataclass(frozen=True)
class Account:
    """An AWS account, and the names of an environment in it."""

    names: ResourceNames
    sqs: Any
    s3: Any
    sts: Any
    firehose: Any
    cloudformation: Any
    ecs: Any

    def teardown(self) -> Teardown:
        """What takes the environment down."""
        return Teardown(self.names, self.sqs, self.s3, self.firehose)

    async def init(self) -> None:
        """Make all that `cellrouter init` and a controller of one cell make."""
        intake = Intake(self.names, self.sqs, self.s3, self.sts, region="us-east-1", clock=SystemClock())
        await intake.carry_out(await intake.plan())
        await AwsCellResources(
            self.names, self.sqs, self.s3, self.firehose, region="us-east-1", firehose_role=ROLE
        ).ensure(CELL)

    def environ(self, endpoint: str) -> dict[str, str]:
        """Return the variables by which a command works on the environment."""
        return {
            "CELLROUTER_SECRET": SECRET,
            "CELLROUTER_AWS_PREFIX": self.names.prefix,
            "CELLROUTER_ENVIRONMENT": self.names.environment,
            "CELLROUTER_AWS_ENDPOINT_URL": endpoint,
            "CELLROUTER_SOURCE_QUEUE": self.names.source_queue,
            "CELLROUTER_SOURCE_DEAD_LETTER_QUEUE": self.names.dead_letter_queue,
            "CELLROUTER_SOURCE_QUARANTINE_QUEUE": self.names.quarantine_queue,
        }

    def request(self, cell_id: str, image: str, tags: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return what makes or updates the stack of a cell, with tags that a leader gives it, unless others are."""
        told = {"Prefix": self.names.prefix, "Environment": self.names.environment, "CellId": cell_id, "Image": image}
        parameters = told | {"TaskCpu": "256", "TaskMemory": "512", "CellSecret": "its secret"}
        given = tags_of(self.names.prefix, self.names.environment, cell_id) | dict(tags or {})
        return {
            "StackName": self.names.cell(cell_id),
            "TemplateBody": CELL_TEMPLATE,
            "Parameters": as_list(parameters, "ParameterKey", "ParameterValue"),
            "Tags": as_list(given, "Key", "Value"),
        }

    async def stack_of(self, cell_id: str, image: str, tags: Mapping[str, str] | None = None) -> str:
        """Make the stack of a cell, and return its name."""
        await self.cloudformation.create_stack(**self.request(cell_id, image, tags))
        await self.complete("create", self.names.cell(cell_id))
        return self.names.cell(cell_id)

    async def complete(self, what: str, name: str) -> None:
        """Wait until a stack is created or updated."""
        waiter = self.cloudformation.get_waiter(f"stack_{what}_complete")
        await waiter.wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})

    async def read_test_event(self) -> None:
        """Take what S3 sends when it is told to notify a queue, as a router does; not every AWS sends it."""
        url = (await self.sqs.get_queue_url(QueueName=self.names.source_queue))["QueueUrl"]
        for message in (await self.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)).get("Messages", ()):
            assert "s3:TestEvent" in message["Body"]
            await self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


@asynccontextmanager
async def account(endpoint: str) -> AsyncIterator[Account]:
    """Open an account with an environment of its own."""
    name = f"d{uuid.uuid4().hex[:8]}"
    names = ResourceNames(name, f"e{name}", f"{name}-events", f"{name}-dead", f"{name}-quarantine")
    async with AsyncExitStack() as stack:
        services = ("sqs", "s3", "sts", "firehose", "cloudformation", "ecs")
        config = AwsConfig("us-east-1", endpoint)
        yield Account(names, *[await open_client(stack, config, service) for service in services])


@pytest.fixture
def play(aws_endpoint: str) -> Callable[[Callable[[Account], Awaitable[None]]], None]:
    """Plays a story in an account."""

    def played(story: Callable[[Account], Awaitable[None]]) -> None:
        async def main() -> None:
            async with account(aws_endpoint) as found:
                await story(found)

        run(main(), 120)

    return played


Play = Callable[[Callable[[Account], Awaitable[None]]], None]


def test_all_that_init_made_is_deleted_again(play: Play) -> None:
    """A second init makes all of it anew."""

    async def story(found: Account) -> None:
        for _ in range(2):
            await found.init()
            await found.read_test_event()
            down = found.teardown()
            assert await down.cells() == [CELL]
            assert set((await down.queues()).values()) == {0}
            assert len(await down.queues()) == 4
            assert await down.remove_cell(CELL) == []
            assert await down.remove_intake() == []
            assert (await down.cells(), await down.queues()) == ([], {})

    play(story)


def test_what_somebody_else_made_stays_and_so_does_a_bucket_with_objects(play: Play) -> None:
    """Each is named with the reason. Messages are counted, hidden ones too."""

    async def story(found: Account) -> None:
        foreign = found.names.source_queue
        await found.sqs.create_queue(QueueName=foreign)  # before `init`, by whoever sends the events
        await found.init()
        await found.s3.put_object(Bucket=found.names.cell(CELL), Key="finding", Body=b"1")
        url = (await found.sqs.get_queue_url(QueueName=found.names.hold_queue(CELL)))["QueueUrl"]
        for body in ("one", "two"):
            await found.sqs.send_message(QueueUrl=url, MessageBody=body)
        await found.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1, VisibilityTimeout=60)
        down = found.teardown()
        assert (await down.queues())[found.names.hold_queue(CELL)] == 2
        [kept] = await down.remove_cell(CELL)
        assert f"bucket {found.names.cell(CELL)} has objects" in kept
        [kept] = await down.remove_intake()
        assert f"queue {foreign} has no tag of this environment" in kept
        assert list(await down.queues()) == [foreign]

    play(story)


@pytest.mark.one_kind
def test_tables_go_but_what_a_workload_keeps_in_one_stays(aws_endpoint: str) -> None:
    """A store's table goes with what it remembers. A table alone is enough for its cell to be looked at again."""

    async def story() -> None:
        async with AsyncExitStack() as stack, account(aws_endpoint) as found:
            dynamodb = await open_client(stack, AwsConfig("us-east-1", aws_endpoint), "dynamodb")
            names = replace(found.names, table="shop")
            aws = names, found.sqs, found.s3, found.firehose
            parts = AwsCellResources(*aws, dynamodb, region="us-east-1", firehose_role=ROLE, own_tables=dynamodb)
            await parts.ensure(CELL)
            store, own = names.cell(CELL), f"{names.cell(CELL)}-shop"
            await dynamodb.put_item(TableName=store, Item={"id": {"S": "an event that is done"}})
            await dynamodb.put_item(TableName=own, Item={"PK": {"S": "an item"}, "SK": {"S": "of the shop"}})
            await create_table(dynamodb, names.cell("cell-0001"))  # without this environment's tag
            down = Teardown(*aws, dynamodb)
            assert await down.cells() == [CELL, "cell-0001"]
            assert await down.remove_cell(CELL) == [
                f"table {own} has items of the workload: it stays until you have deleted it"
            ]
            [kept] = await down.remove_cell("cell-0001")
            assert "has no tag of this environment" in kept
            left = {name for name in (await dynamodb.list_tables())["TableNames"] if name.startswith(names.prefix)}
            assert left == {own, names.cell("cell-0001")}
            assert await down.cells() == [CELL, "cell-0001"]
            await dynamodb.delete_item(TableName=own, Key={"PK": {"S": "an item"}, "SK": {"S": "of the shop"}})
            assert await down.remove_cell(CELL) == []
            assert await down.cells() == ["cell-0001"]

    run(story(), 120)


@pytest.mark.one_kind
def test_what_stays_is_left_as_it_was_before_init(aws_endpoint: str) -> None:
    """A rule that leads to a queue which is gone would be in the way of whoever changes that bucket's rules next."""

    async def story() -> None:
        async with account(aws_endpoint) as found:
            names = found.names
            url = (await found.sqs.create_queue(QueueName=names.source_queue))["QueueUrl"]
            await found.s3.create_bucket(Bucket=names.source_bucket)
            await found.init()
            async with open_environment(load(found.environ(aws_endpoint)), names.cell("platform")) as environment:
                kept = await _removed(environment)
            assert [line.split()[1] for line in kept] == [names.source_bucket, names.source_queue]
            told = await found.s3.get_bucket_notification_configuration(Bucket=names.source_bucket)
            assert "QueueConfigurations" not in told
            attributes = await found.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
            assert "Policy" not in attributes["Attributes"]

    run(story(), 120)


@pytest.mark.one_kind
def test_another_image_of_the_platform_is_planned_and_then_carried_out(play: Play) -> None:
    """The plan names what changes and is not carried out by itself; no other parameter changes."""

    async def story(found: Account) -> None:
        name = found.names.cell("platform")
        stack = PlatformStack(name, found.cloudformation, SystemClock())
        with pytest.raises(ProvisionError, match=f"stack {name}: .*does not exist"):
            await stack.plan("app:2")
        given = {"Image": "app:1", "Other": "mine"}
        await found.cloudformation.create_stack(
            StackName=name,
            TemplateBody=json.dumps(TEMPLATE),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        )
        await found.complete("create", name)
        plan = await stack.plan("app:2")
        assert plan.before == "app:1"
        assert [change.name for change in plan.changes] == ["Task"]
        assert plan.why_unsafe() is None
        await stack.discard(plan)
        plan = await stack.plan("app:2")
        await stack.execute(plan)
        said: list[str] = []
        await stack.follow(said.append)
        assert said[-1] == f"{name}: UPDATE_COMPLETE"
        [after] = (await found.cloudformation.describe_stacks(StackName=name))["Stacks"]
        assert {p["ParameterKey"]: p["ParameterValue"] for p in after["Parameters"]} == given | {"Image": "app:2"}
        assert (await stack.plan("app:2")).changes == ()
        removal = StackRemoval(name, found.names, found.cloudformation, found.ecs, found.sqs, SystemClock())
        assert await removal.stacks() == [name]
        assert await removal.remove(said.append) == []
        assert await removal.stacks() == []

    play(story)


@pytest.mark.one_kind
def test_a_removed_cell_whose_stack_is_still_there_goes_with_the_environment(aws_endpoint: str, redis_url: str) -> None:
    """No instance of it lives that could be asked: its outbox is read where it lies. Nobody else's stack goes."""
    removed = CellRecord("cell-0003", generation=2, launched=2, retired=True)

    async def story() -> None:
        async with AsyncExitStack() as stack, account(aws_endpoint) as found:
            settings = load(found.environ(aws_endpoint) | {"CELLROUTER_REDIS_URL": redis_url})
            registry = registry_of(stack, settings, keyring_of(settings))
            epoch = await registry.lead("a controller", 1.0, 0)
            assert epoch is not None
            await registry.write(epoch, Change(cells=[removed]))
            assert await registry.resign("a controller")
            dynamodb = await open_client(stack, AwsConfig("us-east-1", aws_endpoint), "dynamodb")
            name = await found.stack_of("cell-0003", "repository:1")
            await found.stack_of("cell-0004", "repository:1", {"cellrouter:environment": "other"})
            await found.cloudformation.update_stack(**found.request("cell-0003", "repository:2"))
            await found.complete("update", name)

            async with open_environment(settings, found.names.cell("platform")) as environment:
                assert list(await environment.stacks.stacks()) == [name]
                assert (await environment.look()).outboxes == {}
                for item in ({"id": {"S": "fence"}, "tail": {"N": "1"}}, {"id": {"S": "lines/1"}}):
                    await dynamodb.put_item(TableName=name, Item=item)
                assert "lines wait in its outbox" in (await environment.look()).outboxes["cell-0003"]
                await dynamodb.delete_item(TableName=name, Key={"id": {"S": "lines/1"}})
                assert (await environment.look()).outboxes == {}
                await found.s3.put_object(Bucket=name, Key="finding", Body=b"1")
                kept = await _removed(environment)
                assert list(await environment.stacks.stacks()) == []
                assert [line for line in kept if name in line and "objects" not in line] == []
            families = await found.ecs.list_task_definitions(familyPrefix=name, status="ACTIVE")
            assert families["taskDefinitionArns"] == []
            other = found.names.cell("cell-0004")
            [left] = (await found.cloudformation.describe_stacks(StackName=other))["Stacks"]
            assert left["StackStatus"] == "CREATE_COMPLETE"

    run(story(), 120)


@pytest.mark.one_kind
def test_what_the_stack_has_counts_whatever_the_settings_call_it(aws_endpoint: str) -> None:
    """Settings that name another source than the platform's stack has made don't let its events be deleted unseen."""

    async def story() -> None:
        async with account(aws_endpoint) as found:
            name, source = found.names.cell("platform"), found.names.cell("events")
            queues = [f"{source}{end}" for end in (".fifo", "-aside.fifo")]
            template = {
                "Resources": {
                    f"Queue{number}": {
                        "Type": "AWS::SQS::Queue",
                        "DeletionPolicy": "Retain",
                        "Properties": {"QueueName": queue, "FifoQueue": True},
                    }
                    for number, queue in enumerate(queues)
                },
                "Outputs": {"SourceQueueUrl": {"Value": {"Ref": "Queue0"}}},
            }
            await found.cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
            await found.complete("create", name)
            url = (await found.sqs.get_queue_url(QueueName=queues[1]))["QueueUrl"]
            await found.sqs.send_message(QueueUrl=url, MessageBody="{}", MessageGroupId="a", MessageDeduplicationId="1")
            async with open_environment(load(found.environ(aws_endpoint)), name) as environment:
                left = await environment.look()
                assert left.queues == {queues[0]: 0, queues[1]: 1}
                await _removed(environment)
            prefix = found.names.cell("")
            assert (await found.sqs.list_queues(QueueNamePrefix=prefix)).get("QueueUrls", []) == []

    run(story(), 120)
