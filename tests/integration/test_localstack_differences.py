"""Where LocalStack differs from AWS in ways that matter to cellrouter, and what MiniStack does: see docs/localstack.md.

Each test shows today's behaviour: a version that behaves otherwise fails here, and the page can be corrected. What AWS
does is taken from its documentation.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from router.adapters.aws.resources import create_queue
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws_errors import error_code
from router.core.messages.parser import Extraction, Parser
from router.core.models import Message
from tests.support.aio import run
from tests.support.containers import endpoint_of, localstack_container, restart
from tests.support.shared_servers import Servers

ROLE = "arn:aws:iam::000000000000:role/firehose"
MISSING_QUEUE = "AWS.SimpleQueueService.NonExistentQueue"


@dataclass(frozen=True)
class Aws:
    """AWS clients, a name of the test's own for resources, and which stand-in answers."""

    sqs: Any
    s3: Any
    firehose: Any
    ec2: Any
    name: str
    is_localstack: bool

    async def queue(self, suffix: str = "", **attributes: str) -> str:
        """Create a queue and return its URL."""
        made = await self.sqs.create_queue(QueueName=f"{self.name}{suffix}", Attributes=attributes)
        return str(made["QueueUrl"])

    async def send(self, queue: str, *bodies: str, group: str = "") -> None:
        """Send messages one after the other; a FIFO queue needs a group."""
        for body in bodies:
            fifo = {"MessageGroupId": group, "MessageDeduplicationId": body} if group else {}
            await self.sqs.send_message(QueueUrl=queue, MessageBody=body, **fifo)

    async def receive(self, queue: str, *, wait_s: int = 0, visibility_s: int = 30) -> list[Mapping[str, Any]]:
        """Receive up to 10 messages."""
        answer = await self.sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s, VisibilityTimeout=visibility_s
        )
        return list(answer.get("Messages", ()))

    async def stream(self, bucket: str) -> str:
        """Create a Firehose stream into the bucket with cellrouter's buffering hints, and return its name."""
        await self.firehose.create_delivery_stream(
            DeliveryStreamName=self.name,
            DeliveryStreamType="DirectPut",
            ExtendedS3DestinationConfiguration={
                "RoleARN": ROLE,
                "BucketARN": f"arn:aws:s3:::{bucket}",
                "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 60},
            },
        )
        return self.name

    async def bucket(self) -> str:
        """Create a bucket and return its name."""
        await self.s3.create_bucket(Bucket=self.name)
        return self.name


@asynccontextmanager
async def opened(endpoint: str, *, is_localstack: bool) -> AsyncIterator[Aws]:
    """Open the clients, and close them at the end."""
    async with AsyncExitStack() as stack:
        config = AwsConfig("us-east-1", endpoint)
        services = ("sqs", "s3", "firehose", "ec2")
        sqs, s3, firehose, ec2 = [await open_client(stack, config, service) for service in services]
        yield Aws(sqs, s3, firehose, ec2, f"d-{uuid.uuid4().hex[:10]}", is_localstack)


Story = Callable[[Aws], Awaitable[None]]


@pytest.fixture
def on_aws(aws_endpoint: str, servers: Servers) -> Callable[[Story], None]:
    """Return a function that runs a story on the servers."""

    def on(story: Story) -> None:
        async def main() -> None:
            async with opened(aws_endpoint, is_localstack=servers.aws_name == "LocalStack") as aws:
                await story(aws)

        run(main())

    return on


async def pause(seconds: float) -> None:
    """Wait in real time, because the server's own clock decides."""
    await asyncio.sleep(seconds)  # noqa: TID251 - the server's own clock decides


async def refusal(call: Awaitable[Any]) -> str:
    """Return the error code of a call; empty when the call succeeds."""
    try:
        await call
    except ClientError as error:
        return error_code(error)
    return ""


def test_an_old_receipt_deletes(on_aws: Callable[[Story], None]) -> None:
    """On AWS the call may succeed while the message stays. LocalStack deletes it; MiniStack refuses and keeps it.

    The inbox always keeps the newest receipt. After a refused receipt it expects the message to come again.
    """

    async def story(aws: Aws) -> None:
        queue = await aws.queue()
        await aws.send(queue, "a")
        [first] = await aws.receive(queue, wait_s=2, visibility_s=0)
        [second] = await aws.receive(queue, wait_s=2)
        assert first["ReceiptHandle"] != second["ReceiptHandle"]
        entry = {"Id": "0", "ReceiptHandle": first["ReceiptHandle"]}
        answer = await aws.sqs.delete_message_batch(QueueUrl=queue, Entries=[entry])
        attributes = await aws.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])
        left = int(attributes["Attributes"]["ApproximateNumberOfMessagesNotVisible"])
        failed = [entry["Code"] for entry in answer.get("Failed", ())]
        assert (failed, left) == (([], 0) if aws.is_localstack else (["ReceiptHandleIsInvalid"], 1))

    on_aws(story)


def test_what_becomes_visible_again_comes_up_to_a_second_late(on_aws: Callable[[Story], None]) -> None:
    """AWS promises no moment, and its empty answer doesn't prove an empty queue. LocalStack looks once a second.

    Nothing in cellrouter takes one empty answer for the end: hold queues are polled on, and `dlq` asks again.
    """

    async def story(aws: Aws) -> None:
        late = False
        for number in range(10 if aws.is_localstack else 3):  # several tries: LocalStack's look may come just in time
            queue = await aws.queue(str(number))
            await aws.send(queue, "a")
            assert await aws.receive(queue, wait_s=2, visibility_s=1)
            await pause(1.05)
            if not await aws.receive(queue):
                late = True
                assert await aws.receive(queue, wait_s=5)
                break
        assert late == aws.is_localstack

    on_aws(story)


def test_a_group_goes_on_without_its_first_message(on_aws: Callable[[Story], None]) -> None:
    """AWS delivers nothing of a group while one of its messages is hidden. LocalStack delivers those that are visible.

    Cellrouter gives all messages of a group the same time, so that they come again in order everywhere.
    """

    async def story(aws: Aws) -> None:
        queue = await aws.queue(".fifo", FifoQueue="true")
        await aws.send(queue, "a0", "a1", group="a")
        first, second = await aws.receive(queue, wait_s=2)
        for message, seconds in ((first, 30), (second, 0)):
            await aws.sqs.change_message_visibility(
                QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds
            )
        again = await aws.receive(queue, wait_s=2)
        assert [message["Body"] for message in again] == (["a1"] if aws.is_localstack else [])

    on_aws(story)


def test_a_deleted_queue_is_made_anew_at_once(on_aws: Callable[[Story], None]) -> None:
    """AWS refuses it for 60 s with QueueDeletedRecently. There the upkeep of cells fails, says so, and tries again."""

    async def story(aws: Aws) -> None:
        await aws.sqs.delete_queue(QueueUrl=await aws.queue())
        assert await refusal(create_queue(aws.sqs, aws.name)) == ""

    on_aws(story)


def test_a_bucket_may_notify_a_queue_without_a_policy(on_aws: Callable[[Story], None]) -> None:
    """AWS checks the queue's policy, and refuses the configuration without one. Neither stand-in checks it.

    `cellrouter init` sets the policy; only AWS shows whether the policy is right.
    """

    async def story(aws: Aws) -> None:
        await notified(aws)

    on_aws(story)


def test_the_same_object_again_is_the_same_event(on_aws: Callable[[Story], None]) -> None:
    """On AWS each put has a new sequencer. LocalStack's sequencer is a constant; MiniStack's grows.

    An event id is made of bucket, key, sequencer and ETag. On LocalStack an equal object that is put again is therefore
    a duplicate to its cell, and is not processed again.
    """

    async def story(aws: Aws) -> None:
        queue = await notified(aws)
        for _ in range(2):
            await aws.s3.put_object(Bucket=aws.name, Key="AWSLogs/1/a.json", Body=b"{}")
        bodies: list[str] = []
        while len(bodies) < 2:
            received = await aws.receive(queue, wait_s=5)
            assert received, bodies
            bodies += [message["Body"] for message in received if "s3:TestEvent" not in message["Body"]]
        parser = Parser(Extraction())
        ids = {event.event_id for body in bodies for event in parser.parse(message_of(body))}
        assert len(ids) == (1 if aws.is_localstack else 2), ids

    on_aws(story)


def test_firehose_delivers_at_once(on_aws: Callable[[Story], None]) -> None:
    """AWS buffers 60 s or 1 MiB. LocalStack writes one object for each call, MiniStack one for each record.

    On AWS, findings arrive a minute later, in fewer and larger objects. So nobody may count objects.
    """

    async def story(aws: Aws) -> None:
        stream = await aws.stream(await aws.bucket())
        await aws.firehose.put_record_batch(DeliveryStreamName=stream, Records=[{"Data": b"x\n"}, {"Data": b"y\n"}])
        found = (await aws.s3.list_objects_v2(Bucket=aws.name)).get("Contents", ())
        sizes = sorted(entry["Size"] for entry in found)
        assert sizes == ([4] if aws.is_localstack else [2, 2])

    on_aws(story)


def test_firehose_takes_more_than_500_records(on_aws: Callable[[Story], None]) -> None:
    """AWS and MiniStack take at most 500 in a call. LocalStack takes more, so it would not show too large a batch.

    The sink sends at most 500; its own tests check that.
    """

    async def story(aws: Aws) -> None:
        stream = await aws.stream(await aws.bucket())
        call = aws.firehose.put_record_batch(DeliveryStreamName=stream, Records=[{"Data": b"x\n"}] * 501)
        assert await refusal(call) == ("" if aws.is_localstack else "InvalidArgumentException")

    on_aws(story)


def test_a_stream_whose_bucket_has_gone_refuses_records(on_aws: Callable[[Story], None]) -> None:
    """AWS takes records, tries for 24 h to deliver them, then loses them. MiniStack takes and loses them.

    On LocalStack the sink keeps what is refused. On AWS the upkeep of cells has a day to create the bucket again.
    """

    async def story(aws: Aws) -> None:
        stream = await aws.stream(f"{aws.name}-none")
        call = aws.firehose.put_record_batch(DeliveryStreamName=stream, Records=[{"Data": b"x\n"}])
        assert await refusal(call) == ("InternalError" if aws.is_localstack else "")

    on_aws(story)


def test_a_new_bucket_blocks_public_access(on_aws: Callable[[Story], None]) -> None:
    """On AWS and LocalStack each new bucket blocks it. MiniStack's new buckets don't.

    The remedy looks first, so it changes nothing where all public access is blocked already.
    """

    async def story(aws: Aws) -> None:
        refused = await refusal(aws.s3.get_public_access_block(Bucket=await aws.bucket()))
        assert refused == ("" if aws.is_localstack else "NoSuchPublicAccessBlockConfiguration")

    on_aws(story)


def test_a_malformed_group_id_is_only_unknown(on_aws: Callable[[Story], None]) -> None:
    """AWS and MiniStack refuse the id as malformed. LocalStack answers that there is no such group.

    A remedy takes a missing group for closed. On LocalStack it does so even for an id that can't exist.
    """

    async def story(aws: Aws) -> None:
        call = aws.ec2.describe_security_groups(GroupIds=["sg-1"])
        assert await refusal(call) == ("InvalidGroup.NotFound" if aws.is_localstack else "InvalidGroupId.Malformed")

    on_aws(story)


def test_one_of_two_ranges_is_revoked(on_aws: Callable[[Story], None]) -> None:
    """AWS and LocalStack revoke one range, even if both were given together. MiniStack reports success and keeps both.

    So the remedy looks again after a revocation.
    """

    async def story(aws: Aws) -> None:
        world, office = {"CidrIp": "0.0.0.0/0"}, {"CidrIp": "10.0.0.0/8"}
        ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
        group = (await aws.ec2.create_security_group(GroupName=aws.name, Description="test"))["GroupId"]
        given = [{**ssh, "IpRanges": [world, office]}]
        await aws.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=given)
        await aws.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[{**ssh, "IpRanges": [world]}])
        [described] = (await aws.ec2.describe_security_groups(GroupIds=[group]))["SecurityGroups"]
        left = {part["CidrIp"] for permission in described["IpPermissions"] for part in permission["IpRanges"]}
        assert left == ({"10.0.0.0/8"} if aws.is_localstack else {"0.0.0.0/0", "10.0.0.0/8"})

    on_aws(story)


def test_a_restart_forgets_everything() -> None:
    """AWS keeps its data. The leader makes cells' resources again after a restart, and `cellrouter init` the intake."""
    with localstack_container() as container:

        async def before() -> None:
            async with opened(endpoint_of(container), is_localstack=True) as aws:
                await create_queue(aws.sqs, "forgotten")
                await aws.s3.create_bucket(Bucket="forgotten")
                assert await refusal(aws.sqs.get_queue_url(QueueName="forgotten")) == ""

        async def after() -> None:
            async with opened(endpoint_of(container), is_localstack=True) as aws:
                assert await refusal(aws.sqs.get_queue_url(QueueName="forgotten")) == MISSING_QUEUE
                assert (await aws.s3.list_buckets())["Buckets"] == []

        run(before())
        restart(container)
        run(after())


async def notified(aws: Aws) -> str:
    """Make a bucket that notifies a queue without a policy, and return the queue's URL."""
    bucket, queue = await aws.bucket(), await aws.queue()
    attributes = await aws.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    rule = {"QueueArn": attributes["Attributes"]["QueueArn"], "Events": ["s3:ObjectCreated:*"]}
    await aws.s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [rule]}
    )
    [told] = await aws.receive(queue, wait_s=5)
    assert json.loads(told["Body"])["Event"] == "s3:TestEvent"
    return queue


def message_of(body: str) -> Message:
    """Make a received message with this body."""
    return Message("m", "r", body, 0, 1)
