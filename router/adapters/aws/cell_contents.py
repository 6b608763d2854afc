"""Says whether anything is left in a cell's durable components, so that nobody deletes what is still needed."""

from __future__ import annotations

from collections.abc import Mapping
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

    async def _in_outbox(self, cell_id: str) -> Reason | None:
        try:
            fence, outbox = [await self._item(cell_id, item_id) for item_id in (_FENCE, _OUTBOX)]
        except AWS_ERRORS as error:
            if error_code(error) == _NO_TABLE:
                return None
            raise
        delivered = _number(outbox, "head", 1) > _number(fence, "tail", 0) and not outbox.get("kept")
        return None if delivered else "lines wait in its outbox: an instance of the cell has to deliver them"

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


def _number(item: Mapping[str, Any], name: str, default: int) -> int:
    """Read a whole number. Raises ProvisionError for what is none: then nobody knows what is left."""
    found = item.get(name)
    if found is None:
        return default
    text = str(found.get("N")) if isinstance(found, dict) else ""
    if not text.isdecimal():
        raise ProvisionError(f"the cell's table has no number in {name}, so what is left in its outbox is not known")
    return int(text)
