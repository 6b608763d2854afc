"""Makes each cell's durable components in AWS, and names what an environment has there.

A resource is made where it is missing and never changed where it exists: in production CloudFormation owns them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cell_worker.contract.protocol import hold_queue_name, resource_name, table_name
from router.adapters.aws.stack_states import as_list
from router.adapters.aws_errors import AWS_ERRORS, error_code
from router.core.environments import why_foreign
from router.core.errors import ProvisionError
from router.core.intake.emitted import UNDELIVERED, emitted_path
from router.core.intake.plan import OWNER, queue_attributes
from router.core.models import Reason, cell_ids
from router.core.policy import MAX_CELLS
from router.core.queue_names import aside_queue, queue_name

_EXISTS: Final = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists", "ResourceInUseException", "QueueAlreadyExists"}
_Call = Callable[[], Awaitable[Any]]
MISSING: Final = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "404",  # from HeadBucket, whose answer has no body
    "ResourceNotFoundException",
}
_FIREHOSE_BUFFER: Final = {"SizeInMBs": 1, "IntervalInSeconds": 60}


@dataclass(frozen=True, slots=True)
class ResourceNames:
    """The names of all the AWS resources of one environment."""

    prefix: str
    environment: str
    source_queue: str
    dead_letter_queue: str
    quarantine_queue: str = ""
    archive_days: int = 0  # after which the archive's bucket forgets what is in it; 0: no such bucket is wanted
    table: str = ""  # the workload's own table in each cell; empty: none
    emitted_path: str = ""  # the folders of what cells emit; empty: Firehose's own, by time

    @property
    def aside_queue(self) -> str:
        """Return the name of the queue for what stands still in a FIFO source; empty for a standard one."""
        return aside_queue(self.source_queue)

    @property
    def source_bucket(self) -> str:
        """Return the name of the bucket that source objects arrive in."""
        return f"{self.prefix}-{self.environment}-source"

    @property
    def archive_bucket(self) -> str:
        """Return the name of the bucket that the archive lies in, unless a setting names another."""
        return f"{self.prefix}-{self.environment}-archive"

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags of all that is made here: by these alone it is known that it may be deleted again."""
        return {OWNER: self.cell("").removesuffix("-")}

    def hold_queue(self, cell_id: str) -> str:
        """Return the name of a cell's hold queue."""
        return hold_queue_name(self.prefix, self.environment, cell_id)

    def cell(self, cell_id: str) -> str:
        """Return the name that a cell's Firehose stream, its bucket and its table share."""
        return resource_name(self.prefix, self.environment, cell_id)


class AwsCellResources:
    """CellResources on SQS, S3 and Firehose, and on DynamoDB where cells' stores or workloads have tables there."""

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
        own_tables: Any = None,
    ) -> None:
        self._names = names
        self._sqs = sqs
        self._s3 = s3
        self._firehose = firehose
        self._dynamodb = dynamodb
        self._own_tables = own_tables
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
            parts["table"] = (
                lambda: dynamodb.describe_table(TableName=name),
                lambda: create_table(dynamodb, name, self._names.tags),
            )
        if (tables := self._own_tables) is not None and self._names.table:
            own = table_name(name, self._names.table)
            parts["own table"] = (
                lambda: tables.describe_table(TableName=own),
                lambda: create_own_table(tables, own, self._names.tags),
            )
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
            Tags=as_list(self._names.tags, "Key", "Value"),
            ExtendedS3DestinationConfiguration={
                "RoleARN": self._role,
                "BucketARN": f"arn:{_partition(self._role)}:s3:::{name}",
                **_folders(self._names.emitted_path),
            },
        )


async def create_queue(
    sqs: Any, name: str, tags: Mapping[str, str] | None = None, attributes: Mapping[str, str] | None = None
) -> None:
    """Make a queue, with the attributes that all have if none are given."""
    wanted = queue_attributes(name) if attributes is None else dict(attributes)
    await sqs.create_queue(QueueName=name, Attributes=wanted, tags=dict(tags or {}))


async def create_bucket(s3: Any, name: str, region: str, tags: Mapping[str, str] | None = None) -> None:
    """Make a bucket in a region; S3 wants us-east-1 not to be named.

    A bucket that has tags by then was made by somebody else in between, which us-east-1 doesn't say: they stay.
    """
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    await s3.create_bucket(Bucket=name, **where)
    if tags and not await _has_tags(s3, name):
        found = as_list(tags, "Key", "Value")
        await s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": found})


async def why_of_another(sqs: Any, queue: str, ours: str) -> Reason | None:
    """Say why nothing may be sent to a queue from here: another environment has made it, or that can't be seen."""
    found = queue_name(queue)
    if not found.is_plain:
        return None  # a setting names it, else it could not be opened
    try:
        url = (await sqs.get_queue_url(QueueName=queue))["QueueUrl"]
        tags = (await sqs.list_queue_tags(QueueUrl=url)).get("Tags", {})
    except (*AWS_ERRORS, UnicodeError) as error:
        return f"it can't be seen whether another environment has made it (sqs:ListQueueTags): {error}"
    return why_foreign(str(tags.get(OWNER, "")), ours)


def _partition(arn: str) -> str:
    """Return which partition of AWS an ARN is of, such as aws-us-gov."""
    return arn.split(":")[1] if arn.startswith("arn:") else "aws"


async def _has_tags(s3: Any, bucket: str) -> bool:
    try:
        return bool((await s3.get_bucket_tagging(Bucket=bucket)).get("TagSet"))
    except AWS_ERRORS as error:
        if error_code(error) != "NoSuchTagSet":
            raise
        return False


async def create_table(dynamodb: Any, name: str, tags: Mapping[str, str] | None = None) -> None:
    """Make a table for a cell's store, which forgets what has expired, and wait until it can be used."""
    await dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        Tags=as_list(tags or {}, "Key", "Value"),
    )
    await dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    expires = {"Enabled": True, "AttributeName": "expires"}
    await dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=expires)


async def create_own_table(dynamodb: Any, name: str, tags: Mapping[str, str] | None = None) -> None:
    """Make a table of a workload's own, with its stream and its sparse index, and wait until it can be used."""
    await dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each in ("PK", "SK", "itemType")],
        KeySchema=_keys("PK", "SK"),
        GlobalSecondaryIndexes=[
            {
                "IndexName": "itemType-index",
                "KeySchema": _keys("itemType", "PK"),
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        Tags=as_list(tags or {}, "Key", "Value"),
    )
    await dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def _keys(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def _folders(path: str) -> dict[str, Any]:
    """Return how Firehose collects what is emitted, and in which folders it puts it."""
    if (folders := emitted_path(path)) is None:
        return {"BufferingHints": _FIREHOSE_BUFFER}
    extracting = [
        {"ParameterName": "MetadataExtractionQuery", "ParameterValue": folders.query},
        {"ParameterName": "JsonParsingEngine", "ParameterValue": "JQ-1.6"},
    ]
    return {
        "BufferingHints": _FIREHOSE_BUFFER | {"SizeInMBs": 64},  # the least that Firehose takes with folders
        "Prefix": folders.prefix,
        "ErrorOutputPrefix": UNDELIVERED,
        "FileExtension": ".jsonl",
        "DynamicPartitioningConfiguration": {"Enabled": True},
        "ProcessingConfiguration": {
            "Enabled": True,
            "Processors": [{"Type": "MetadataExtraction", "Parameters": extracting}],
        },
    }


async def _was_missing(look: _Call, make: _Call) -> bool:
    """Make a resource that AWS says is missing; returns whether it was. Any other answer says nothing of that."""
    try:
        await look()
    except AWS_ERRORS as error:
        if error_code(error) not in MISSING:
            raise ProvisionError(f"can't look up what is there, so nothing is made: {error}") from error
        await made(make())
        return True
    return False


async def made(call: Awaitable[Any]) -> None:
    """Wait until something is made that was missing. Raises ProvisionError, but not where it is there by now."""
    try:
        await call
    except AWS_ERRORS as error:
        if error_code(error) not in _EXISTS:
            raise ProvisionError(f"can't make what is missing: {error}") from error
