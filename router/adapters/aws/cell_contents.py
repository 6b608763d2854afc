"""Says whether anything is left in a cell's durable components, so that nobody deletes what is still needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any, Final

from router.adapters.aws.resources import ResourceNames
from router.adapters.aws_errors import AWS_ERRORS, error_code
from router.core.errors import ProvisionError
from router.core.models import Reason

_COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
_NO_QUEUE: Final = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_NO_TABLE: Final = "ResourceNotFoundException"
_NO_BUCKET: Final = "NoSuchBucket"
_FENCE: Final = "fence"  # the items of a cell's table that say how far its outbox is written and delivered
_OUTBOX: Final = "outbox"
_WAITING: Final = "lines wait in its outbox: an instance of the cell has to deliver them"
MOST_CHUNKS: Final = 100
"""So many chunks are looked for one by one: more than that are never left but by an instance that still delivers."""
_MAX_DIGITS: Final = 20


class CellContents:
    """Looks into a cell's hold queue, its store's outbox and its bucket."""

    def __init__(self, names: ResourceNames, sqs: Any, s3: Any, dynamodb: Any) -> None:
        self._names = names
        self._sqs = sqs
        self._s3 = s3
        self._dynamodb = dynamodb

    async def why_not_empty(self, cell_id: str) -> Reason | None:
        """Say what is left in the cell; None when nothing is, as far as AWS counts. Raises ProvisionError."""
        try:
            return (
                await self._in_hold_queue(cell_id) or await self._in_outbox(cell_id) or await self._in_bucket(cell_id)
            )
        except AWS_ERRORS as error:
            raise ProvisionError(f"can't look whether anything is left in {cell_id}: {error}") from error

    async def _in_hold_queue(self, cell_id: str) -> Reason | None:
        try:
            url = (await self._sqs.get_queue_url(QueueName=self._names.hold_queue(cell_id)))["QueueUrl"]
            answer = await self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_COUNTS))
        except AWS_ERRORS as error:
            if error_code(error) in _NO_QUEUE:
                return None
            raise
        counts = answer.get("Attributes", {})
        empty = all(counts.get(name) == "0" for name in _COUNTS)
        return None if empty else "events wait in its hold queue: routers are still sending them to other cells"

    async def why_outbox_waits(self, cell_id: str) -> Reason | None:
        """Say what waits in the outbox in the cell's table, which no instance has to live for; None without a table.

        Raises ProvisionError.
        """
        try:
            return await self._in_outbox(cell_id)
        except AWS_ERRORS as error:
            raise ProvisionError(f"can't look into the outbox of {cell_id}: {error}") from error

    async def _in_outbox(self, cell_id: str) -> Reason | None:
        try:
            # In this order: both numbers only grow, so what was delivered by then is past what is written later.
            outbox = await self._item(cell_id, _OUTBOX)
            fence = await self._item(cell_id, _FENCE)
            noted = list(islice(chunks_noted(fence, outbox), MOST_CHUNKS + 1))
            if len(noted) > MOST_CHUNKS:
                return _WAITING
            # An instance that ended, or lost the store, may have delivered a chunk and not have noted it.
            for chunk in noted:
                if await self._item(cell_id, f"lines/{chunk}"):
                    return _WAITING
        except AWS_ERRORS as error:
            if error_code(error) != _NO_TABLE:
                raise
        return None

    async def _item(self, cell_id: str, item_id: str) -> Mapping[str, Any]:
        answer = await self._dynamodb.get_item(
            TableName=self._names.cell(cell_id), Key={"id": {"S": item_id}}, ConsistentRead=True
        )
        return answer.get("Item") or {}

    async def _in_bucket(self, cell_id: str) -> Reason | None:
        try:
            answer = await self._s3.list_objects_v2(Bucket=self._names.cell(cell_id), MaxKeys=1)
        except AWS_ERRORS as error:
            if error_code(error) == _NO_BUCKET:
                return None
            raise
        return (
            "objects are left in its bucket, which S3 deletes only when it is empty" if answer.get("Contents") else None
        )


def chunks_noted(fence: Mapping[str, Any], outbox: Mapping[str, Any]) -> Iterator[int]:
    """List the chunks of lines that may wait by the two items, the oldest first. Raises ProvisionError."""
    return chain(_numbers(outbox, "kept"), range(_number(outbox, "head", 1), _number(fence, "tail", 0) + 1))


def _numbers(item: Mapping[str, Any], name: str) -> list[int]:
    found = item.get(name)
    texts = found.get("NS") if isinstance(found, dict) else [] if found is None else None
    return sorted(_whole(text, name) for text in (texts if isinstance(texts, list) else [None]))


def _number(item: Mapping[str, Any], name: str, default: int) -> int:
    found = item.get(name)
    return default if found is None else _whole(found.get("N") if isinstance(found, dict) else None, name)


def _whole(text: object, name: str) -> int:
    """Read a whole number. Raises ProvisionError for what is none: then nobody knows what is left."""
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS:
        return int(text)
    raise ProvisionError(f"the cell's table has no number in {name}, so what is left in its outbox is not known")
