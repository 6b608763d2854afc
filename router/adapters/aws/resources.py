"""Makes what has to exist in AWS: the intake (bucket, queues, notification) and each cell's durable components.

A resource is made where it is missing and never changed where it exists: in production CloudFormation owns them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cell_worker.contract.protocol import hold_queue_name, resource_name
from router.adapters.aws_errors import AWS_ERRORS, error_code
from router.core.errors import ProvisionError
from router.core.models import Reason, cell_ids
from router.core.policy import MAX_CELLS

_EXISTS: Final = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists", "ResourceInUseException", "QueueAlreadyExists"}
_Call = Callable[[], Awaitable[Any]]
_MISSING: Final = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "404",  # from HeadBucket, whose answer has no body
    "ResourceNotFoundException",
}
_RETENTION_S: Final = 14 * 24 * 3600  # the longest that SQS offers: what waits must not vanish
FIFO: Final = ".fifo"
_FIFO_ATTRIBUTES: Final = {  # high throughput: limits and duplicates are counted per group
    "FifoQueue": "true",
    "DeduplicationScope": "messageGroup",
    "FifoThroughputLimit": "perMessageGroupId",
}
_MAX_RECEIVES: Final = 1000
"""SQS counts no further. Routers dead-letter by themselves, with the reason; SQS does what no router can settle."""
_FIREHOSE_BUFFER: Final = {"SizeInMBs": 1, "IntervalInSeconds": 60}


@dataclass(frozen=True, slots=True)
class ResourceNames:
    """The names of all the AWS resources of one environment."""

    prefix: str
    environment: str
    source_queue: str
    dead_letter_queue: str
    quarantine_queue: str = ""

    @property
    def source_bucket(self) -> str:
        """Return the name of the bucket that source objects arrive in."""
        return f"{self.prefix}-{self.environment}-source"

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags of all that is made here: by these alone it is known that it may be deleted again."""
        return {"cellrouter": self.cell("").removesuffix("-")}

    def hold_queue(self, cell_id: str) -> str:
        """Return the name of a cell's hold queue."""
        return hold_queue_name(self.prefix, self.environment, cell_id)

    def cell(self, cell_id: str) -> str:
        """Return the name that a cell's Firehose stream, its bucket and its table share."""
        return resource_name(self.prefix, self.environment, cell_id)


class AwsCellResources:
    """CellResources on SQS, S3 and Firehose, and on DynamoDB where the cells' stores are there."""

    def __init__(
        self,
        names: ResourceNames,
        sqs: Any,
        s3: Any,
        firehose: Any,
        dynamodb: Any = None,
        *,
        region: str,
        firehose_role: str,
    ) -> None:
        self._names = names
        self._sqs = sqs
        self._s3 = s3
        self._firehose = firehose
        self._dynamodb = dynamodb
        self._region = region
        self._role = firehose_role

    async def ensure(self, cell_id: str) -> Sequence[str]:
        """Make hold queue, bucket, stream and table where they are missing; where all exist, rights to read do."""
        name, hold = self._names.cell(cell_id), self._names.hold_queue(cell_id)
        sqs, s3, firehose = self._sqs, self._s3, self._firehose
        parts: dict[str, tuple[_Call, _Call]] = {  # the stream comes last, since it needs the bucket
            "hold queue": (
                lambda: sqs.get_queue_url(QueueName=hold),
                lambda: create_queue(sqs, hold, self._names.tags),
            ),
            "bucket": (
                lambda: s3.head_bucket(Bucket=name),
                lambda: create_bucket(s3, name, self._region, self._names.tags),
            ),
            "stream": (
                lambda: firehose.describe_delivery_stream(DeliveryStreamName=name),
                lambda: self._create_stream(name),
            ),
        }
        if (dynamodb := self._dynamodb) is not None:
            parts["table"] = (lambda: dynamodb.describe_table(TableName=name), lambda: create_table(dynamodb, name))
        return [part for part, (look, make) in parts.items() if await _was_missing(look, make)]

    async def with_hold_queues(self) -> Collection[str]:
        """List the queues that begin as the cells' do, 1000 at most, and return the cells whose hold queue is there."""
        cells = {self._names.hold_queue(cell_id): cell_id for cell_id in cell_ids(MAX_CELLS)}
        try:
            answer = await self._sqs.list_queues(QueueNamePrefix=self._names.cell(""))
        except AWS_ERRORS as error:
            raise ProvisionError(f"can't look for hold queues of cells that nobody remembers: {error}") from error
        names = {url.rpartition("/")[2] for url in answer.get("QueueUrls", ())}
        return {cells[name] for name in names & cells.keys()}

    async def remove(self, cell_id: str) -> Reason | None:
        """Remove nothing: what belongs to no stack may hold what somebody needs, and stays until people delete it."""

    async def _create_stream(self, name: str) -> None:
        await self._firehose.create_delivery_stream(
            DeliveryStreamName=name,
            DeliveryStreamType="DirectPut",
            Tags=[{"Key": key, "Value": value} for key, value in self._names.tags.items()],
            ExtendedS3DestinationConfiguration={
                "RoleARN": self._role,
                "BucketARN": f"arn:aws:s3:::{name}",
                "BufferingHints": _FIREHOSE_BUFFER,
            },
        )


async def ensure_intake(names: ResourceNames, sqs: Any, s3: Any, region: str) -> None:
    """Make the queues that events pass through, the source bucket, and its notification to the source queue.

    Raises ProvisionError when a resource can't be made.
    """
    for name in filter(None, (names.dead_letter_queue, names.quarantine_queue)):
        # Looked up first: what is there already is somebody's, and gets no tag that says it is ours.
        await _was_missing(partial(sqs.get_queue_url, QueueName=name), partial(create_queue, sqs, name, names.tags))
    source = names.source_queue
    await _was_missing(partial(sqs.get_queue_url, QueueName=source), partial(_create_source, names, sqs))
    if names.source_queue.endswith(FIFO):
        return  # S3 can't notify a FIFO queue
    bucket = names.source_bucket
    await _was_missing(partial(s3.head_bucket, Bucket=bucket), partial(create_bucket, s3, bucket, region, names.tags))
    queue_url = (await sqs.get_queue_url(QueueName=names.source_queue))["QueueUrl"]
    attributes = (await sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"]))["Attributes"]
    await sqs.set_queue_attributes(
        QueueUrl=queue_url, Attributes={"Policy": _bucket_may_send(attributes["QueueArn"], names.source_bucket)}
    )
    await s3.put_bucket_notification_configuration(
        Bucket=names.source_bucket,
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": attributes["QueueArn"], "Events": ["s3:ObjectCreated:*"]}]
        },
    )


async def create_queue(
    sqs: Any, name: str, tags: Mapping[str, str] | None = None, attributes: Mapping[str, str] | None = None
) -> None:
    """Make a queue that keeps messages for 14 days; FIFO when its name ends with .fifo."""
    fifo = _FIFO_ATTRIBUTES if name.endswith(FIFO) else {}
    wanted = {"MessageRetentionPeriod": str(_RETENTION_S), **fifo, **(attributes or {})}
    await sqs.create_queue(QueueName=name, Attributes=wanted, tags=dict(tags or {}))


async def _create_source(names: ResourceNames, sqs: Any) -> None:
    """Make the source queue. The dead letters of a FIFO queue could only go to another one, which ours is not."""
    if names.source_queue.endswith(FIFO):
        return await create_queue(sqs, names.source_queue, names.tags)
    url = (await sqs.get_queue_url(QueueName=names.dead_letter_queue))["QueueUrl"]
    found = (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"]))["Attributes"]
    policy = {"deadLetterTargetArn": found["QueueArn"], "maxReceiveCount": _MAX_RECEIVES}
    return await create_queue(sqs, names.source_queue, names.tags, {"RedrivePolicy": json.dumps(policy)})


async def create_bucket(s3: Any, name: str, region: str, tags: Mapping[str, str] | None = None) -> None:
    """Make a bucket in a region; S3 wants us-east-1 not to be named."""
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    await s3.create_bucket(Bucket=name, **where)
    if tags:
        found = [{"Key": key, "Value": value} for key, value in tags.items()]
        await s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": found})


async def create_table(dynamodb: Any, name: str) -> None:
    """Make a table for a cell's store, which forgets what has expired, and wait until it can be used."""
    await dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    await dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    expires = {"Enabled": True, "AttributeName": "expires"}
    await dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=expires)


def _bucket_may_send(queue_arn: str, bucket: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{bucket}"}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


async def _was_missing(look: _Call, make: _Call) -> bool:
    """Make a resource that AWS says is missing; returns whether it was. Any other answer says nothing of that."""
    try:
        await look()
    except AWS_ERRORS as error:
        if error_code(error) not in _MISSING:
            raise ProvisionError(f"can't look up what is there, so nothing is made: {error}") from error
        await _made(make())
        return True
    return False


async def _made(call: Awaitable[Any]) -> None:
    try:
        await call
    except AWS_ERRORS as error:
        if error_code(error) not in _EXISTS:
            raise ProvisionError(f"can't make what is missing: {error}") from error
