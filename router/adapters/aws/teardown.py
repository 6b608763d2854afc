"""Deletes what `cellrouter init` and the controllers have made in AWS: the inverse of `resources`.

Only what carries this environment's tag is deleted: a queue or bucket that was there before cellrouter, or that
somebody else made under the same name, stays. So does a bucket with anything in it, and a workload's own table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from typing import Any, Final

from cell_worker.contract.protocol import table_name
from router.adapters.aws.resources import ResourceNames
from router.adapters.aws_errors import AWS_ERRORS, error_code
from router.core.errors import ProvisionError
from router.core.intake.plan import FIFO
from router.core.models import Reason, cell_ids
from router.core.policy import MAX_CELLS
from router.core.queue_names import queue_name

_GONE: Final = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "404",
    "NoSuchBucket",
    "NoSuchTagSet",
    "ResourceNotFoundException",
}
_COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
_HOLD: Final = "-hold"


class Teardown:
    """What is left of an environment in AWS, and its end. Every call may raise ProvisionError.

    It looks for tables only with a client of DynamoDB.
    """

    def __init__(self, names: ResourceNames, sqs: Any, s3: Any, firehose: Any, dynamodb: Any = None) -> None:
        self._names = names
        self._sqs = sqs
        self._s3 = s3
        self._firehose = firehose
        self._dynamodb = dynamodb

    async def queues(self) -> dict[str, int]:
        """Count the messages of each queue of the environment that there is, the cells' hold queues among them."""
        found = {}
        for name in [*self._intake(), *[self._names.hold_queue(cell_id) for cell_id in await self.cells()]]:
            url = await self._url(name)
            if url is not None:
                found[name] = await self.messages(url)
        return found

    async def messages(self, url: str) -> int:
        """Count the messages of a queue, also those that are hidden or delayed; 0 where there is no queue."""
        answer = await _asked(self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_COUNTS)))
        return sum(int(answer["Attributes"].get(count, 0)) for count in _COUNTS) if answer else 0

    async def cells(self) -> list[str]:
        """List the cells that have a hold queue, a bucket or a table."""
        prefix = self._names.cell("")
        names: set[str] = set()
        answer = await _asked(self._sqs.list_queues(QueueNamePrefix=prefix, MaxResults=1000)) or {}
        names.update(url.rpartition("/")[2].removesuffix(_HOLD) for url in answer.get("QueueUrls", ()))
        answer = await _asked(self._s3.list_buckets()) or {}
        names.update(bucket["Name"] for bucket in answer.get("Buckets", ()))
        names.update(await self._tables())
        return [cell_id for cell_id in cell_ids(MAX_CELLS) if self._names.cell(cell_id) in names]

    async def remove_cell(self, cell_id: str) -> list[Reason]:
        """Delete a cell's stream, hold queue, bucket and tables; returns what stays, and why."""
        name = self._names.cell(cell_id)
        steps = [self._stream(name), self._queue(self._names.hold_queue(cell_id)), self._bucket(name)]
        if self._dynamodb is not None:
            steps.append(self._table(name, kept=False))
            if self._names.table:
                steps.append(self._table(table_name(name, self._names.table), kept=True))
        return [kept for step in steps if (kept := await step) is not None]

    async def remove_intake(self) -> list[Reason]:
        """Delete the archive's and the source bucket, and then the queues that events arrive in; returns what stays."""
        kept = [await self._bucket(self._names.archive_bucket)]
        kept += [] if self._names.source_queue.endswith(FIFO) else [await self._bucket(self._names.source_bucket)]
        kept += [await self._queue(name) for name in self._intake()]
        return [why for why in kept if why is not None]

    def _intake(self) -> Iterator[str]:
        """The queues that can be ours: what is named by URL or ARN was there before us."""
        names = self._names
        given = (names.source_queue, names.aside_queue, names.quarantine_queue, names.dead_letter_queue)
        return (name for name in given if name and queue_name(name).is_plain)

    async def _url(self, name: str) -> str | None:
        answer = await _asked(self._sqs.get_queue_url(QueueName=name))
        return str(answer["QueueUrl"]) if answer else None

    async def _queue(self, name: str) -> Reason | None:
        url = await self._url(name)
        if url is None:
            return None
        tags = (await _asked(self._sqs.list_queue_tags(QueueUrl=url)) or {}).get("Tags", {})
        if not self._ours(tags):
            return _foreign("queue", name)
        await _asked(self._sqs.delete_queue(QueueUrl=url))
        return None

    async def _stream(self, name: str) -> Reason | None:
        firehose = self._firehose
        if await _asked(firehose.describe_delivery_stream(DeliveryStreamName=name)) is None:
            return None
        answer = await _asked(firehose.list_tags_for_delivery_stream(DeliveryStreamName=name)) or {}
        if not self._ours(_as_mapping(answer.get("Tags", ()))):
            return _foreign("stream", name)
        await _asked(firehose.delete_delivery_stream(DeliveryStreamName=name))
        return None

    async def _bucket(self, name: str) -> Reason | None:
        if await _asked(self._s3.head_bucket(Bucket=name)) is None:
            return None
        answer = await _asked(self._s3.get_bucket_tagging(Bucket=name)) or {}
        if not self._ours(_as_mapping(answer.get("TagSet", ()))):
            return _foreign("bucket", name)
        if (await _asked(self._s3.list_objects_v2(Bucket=name, MaxKeys=1)) or {}).get("KeyCount"):
            return f"bucket {name} has objects: it stays until you have emptied and deleted it"
        await _asked(self._s3.delete_bucket(Bucket=name))
        return None

    async def _tables(self) -> set[str]:
        """List the cells, by their resources' names, that may have a table."""
        names: set[str] = set()
        more: dict[str, str] = {}
        while self._dynamodb is not None:
            answer = await _asked(self._dynamodb.list_tables(**more)) or {}
            names.update(answer.get("TableNames", ()))
            if not (last := answer.get("LastEvaluatedTableName")):
                break
            more = {"ExclusiveStartTableName": last}
        own = table_name("", self._names.table)
        return {name.removesuffix(own) for name in names} if self._names.table else names

    async def _table(self, name: str, *, kept: bool) -> Reason | None:
        """Delete a table; one that is to be kept stays while it has items."""
        dynamodb = self._dynamodb
        if (found := await _asked(dynamodb.describe_table(TableName=name))) is None:
            return None
        answer = await _asked(dynamodb.list_tags_of_resource(ResourceArn=found["Table"]["TableArn"])) or {}
        if not self._ours(_as_mapping(answer.get("Tags", ()))):
            return _foreign("table", name)
        if kept and (await _asked(dynamodb.scan(TableName=name, Limit=1)) or {}).get("Count"):
            return f"table {name} has items of the workload: it stays until you have deleted it"
        await _asked(dynamodb.delete_table(TableName=name))
        gone = dynamodb.get_waiter("table_not_exists")
        await _asked(gone.wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}))
        return None

    def _ours(self, tags: Mapping[str, str]) -> bool:
        return self._names.tags.items() <= tags.items()


def _foreign(kind: str, name: str) -> Reason:
    return f"{kind} {name} has no tag of this environment: cellrouter did not make it, so it stays"


def _as_mapping(tags: Any) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in tags}


async def _asked(call: Awaitable[Any]) -> Any:
    """Return the answer; None where what was asked about is not there."""
    try:
        return await call
    except AWS_ERRORS as error:
        if error_code(error) in _GONE:
            return None
        raise ProvisionError(f"what is left in AWS can't be looked at or deleted: {error}") from error
