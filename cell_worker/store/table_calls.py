"""Calls of DynamoDB and S3 for a cell's store. What may pass is tried again for a while; all else is said in words."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from cell_worker import clock
from cell_worker.aws import AWS_ERRORS, AwsClient
from cell_worker.store.store import StoreError
from cell_worker.store.table_items import KEY, Item, key_of

TRY_FOR_S: Final = 8.0
"""How long a call is tried again. Then the events get the outcome `retry`, and the router knows how to wait."""
CALL_TIMEOUT_S: Final = 5.0
"""How long one try may take; a transaction takes some 20 ms."""
FIRST_WAIT_S: Final = 0.025
LONGEST_WAIT_S: Final = 1.0
MAX_GET: Final = 100
"""DynamoDB reads no more items in one call."""
MAX_DELETE: Final = 25
"""DynamoDB deletes no more items in one call."""
MAX_WHY_CHARS: Final = 500

_UNREADABLE: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What botocore, or we, raise over an answer that is none of the service's: nobody knows what it did."""
_FAULTS: Final = (*AWS_ERRORS, *_UNREADABLE)
_PASSING: Final = {
    "InternalServerError",
    "InternalError",
    "LimitExceededException",
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "ThrottlingError",
    "ThrottlingException",
    "TransactionConflict",
    "TransactionConflictException",
    "TransactionInProgressException",
}
"""Error codes, and reasons why a transaction was cancelled, after which the same call may succeed."""
_CONDITION: Final = {"ConditionalCheckFailed", "ConditionalCheckFailedException"}
_ADVICE: Final = {
    "ResourceNotFoundException": "there is no such table in this account and region: the cell's stack makes it, or "
    "the controller with cells.store = dynamodb; CELL_STORE_TABLE names another",
    "NoSuchBucket": "there is no such bucket: the cell's stack makes it, or the controller",
    "AccessDenied": "the cell's role may not do this: docs/reference/cell-table.md lists what it needs",
    "AccessDeniedException": "the cell's role may not do this: docs/reference/cell-table.md lists what it needs",
    "ValidationException": f"is it a cell's table? That has the partition key `{KEY}`, a string, and no sort key: "
    "docs/reference/cell-table.md",
}


class ConditionFailedError(Exception):
    """The condition of a single write was not met, so nothing was written."""


async def _tries() -> AsyncIterator[None]:
    """Yield for one try after the other, with jittered waits that double, until TRY_FOR_S have passed."""
    end, wait = clock.monotonic() + TRY_FOR_S, FIRST_WAIT_S
    yield
    while clock.monotonic() + wait < end:
        await clock.sleep(wait * (0.5 + clock.jitter() / 2))
        yield
        wait = min(LONGEST_WAIT_S, 2 * wait)


class StoreCaller:
    """Calls one AWS service. `what` says in errors what it is called about."""

    def __init__(self, service: str, what: str, advice: Mapping[str, str] = _ADVICE) -> None:
        self._client = AwsClient(service)
        self.what = what
        self._advice = advice
        self._closed = False

    async def call(self, operation: str, **parameters: Any) -> Any:
        """Call until it is done. Raises ConditionFailedError, and StoreError with what to do."""
        last: Exception | None = None
        async for _ in _tries():
            try:
                return await self._once(operation, parameters)
            except _FAULTS as error:
                if code_of(error) in _CONDITION:
                    raise ConditionFailedError from error
                if not _may_pass(error):
                    raise self.refused(error) from error
                last = error
        raise self.refused(last) from last

    async def _once(self, operation: str, parameters: Mapping[str, Any]) -> Any:
        if self._closed:
            raise StoreError(f"{self.what}: it is closed, since the worker ends")
        client = await self._client.get()  # on a small instance opening it takes seconds
        async with asyncio.timeout(CALL_TIMEOUT_S):
            answer = await getattr(client, operation)(**parameters)
        if not isinstance(answer, dict):
            raise TypeError("the answer is no record")
        return answer

    def refused(self, error: BaseException | None) -> StoreError:
        """Make the error that says what the service said and, where it is known, what to do."""
        said = f"{type(error).__name__}: {error}" if error is not None else "no answer"
        advice = self._advice.get(code_of(error))
        return StoreError(f"{self.what}: {said[:MAX_WHY_CHARS]}{f': {advice}' if advice else ''}")

    async def reopen(self) -> None:
        """Close the connections; the next call opens new ones."""
        await self._client.close()

    async def close(self) -> None:
        """Close the connections. Every later call raises StoreError."""
        self._closed = True
        await self._client.close()


class Table(StoreCaller):
    """Calls that read and write the items of one table in DynamoDB."""

    def __init__(self, name: str, what: str = "the cell's store", advice: Mapping[str, str] = _ADVICE) -> None:
        super().__init__("dynamodb", f"{what}, table {name}", advice)
        self.name = name

    async def get(self, *ids: str) -> dict[str, Item]:
        """Read the items with these ids, at most MAX_GET, as all writes before have left them."""
        found: dict[str, Item] = {}

        async def read(keys: list[Item]) -> list[Item]:
            request = {self.name: {"Keys": keys, "ConsistentRead": True}}
            items, left = _read(await self.call("batch_get_item", RequestItems=request), self.name)
            found.update(items)
            return left

        await self._all_of([key_of(item_id) for item_id in ids], read)
        return found

    async def update(self, item_id: str, update: str, values: Item, condition: str | None = None) -> None:
        """Change one item, so that doing it again changes no more. Raises ConditionFailedError and StoreError."""
        conditions = {"ConditionExpression": condition} if condition else {}
        await self.call(
            "update_item",
            TableName=self.name,
            Key=key_of(item_id),
            UpdateExpression=update,
            ExpressionAttributeValues=values,
            **conditions,
        )

    async def delete(self, ids: Sequence[str]) -> None:
        """Delete the items with these ids."""
        parts = (ids[first : first + MAX_DELETE] for first in range(0, len(ids), MAX_DELETE))
        await asyncio.gather(*(self._delete(part) for part in parts))

    async def _delete(self, ids: Sequence[str]) -> None:
        async def delete(requests: list[Item]) -> list[Item]:
            answer = await self.call("batch_write_item", RequestItems={self.name: requests})
            return _of_table(answer.get("UnprocessedItems"), self.name)

        await self._all_of([{"DeleteRequest": {"Key": key_of(item_id)}} for item_id in ids], delete)

    async def _all_of(self, work: list[Item], do: Callable[[list[Item]], Awaitable[list[Item]]]) -> None:
        """Do all of it, though DynamoDB may leave some undone: it waits when nothing at all was done."""
        async for _ in _tries():
            before = len(work) + 1
            while work and len(work) < before:
                before, work = len(work), await do(work)
            if not work:
                return
        raise StoreError(f"{self.what}: DynamoDB is too busy to read or delete {len(work)} items")

    async def transact(self, items: Sequence[Item]) -> dict[int, Any] | None:
        """Write all the items or none. None when they are written, by this try or by one whose answer was lost.

        Else the items whose conditions are not met, by their indexes, as they are where the item asks for that. Raises
        StoreError: then nobody knows.
        """
        token, last = _token(), None
        async for _ in _tries():
            try:
                await self._once("transact_write_items", {"TransactItems": items, "ClientRequestToken": token})
            except _FAULTS as error:
                last = error
                if (codes := _cancellation(error)) is None:
                    if not _may_pass(error):
                        raise self.refused(error) from error
                    continue  # with the same token: it may be written already
                if failed := {index: item for index, (code, item) in enumerate(codes) if code in _CONDITION}:
                    return failed
                if not {code for code, _ in codes} <= {"None", *_PASSING}:
                    raise self.refused(error) from error
                token = _token()  # this one's answer is known
            else:
                return None
        raise self.refused(last) from last


def _token() -> str:
    return uuid.uuid4().hex


def code_of(error: BaseException | None) -> str:
    """Return the code of an error that the service has answered; empty when it was none of these."""
    match getattr(error, "response", None):
        case {"Error": {"Code": str(code)}}:
            return code
    return ""


def _may_pass(error: Exception) -> bool:
    """Whether the same call may succeed soon. Without an error of the service itself, it was never answered."""
    if not isinstance(error, ClientError):
        return True
    match error.response:
        case {"ResponseMetadata": {"HTTPStatusCode": int(status)}} if status >= 500:  # noqa: PLR2004 - by its name
            return True
    return code_of(error) in _PASSING


def _cancellation(error: Exception) -> list[tuple[str, Any]] | None:
    """For each item of a cancelled transaction the reason's code, and the item if it is told. Else None."""
    match getattr(error, "response", None):
        case {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": [*reasons]}:
            return [
                (str(each.get("Code")), each.get("Item")) if isinstance(each, dict) else ("", None) for each in reasons
            ]
    return None


def _read(answer: Any, table: str) -> tuple[dict[str, Item], list[Item]]:
    """The items of an answer by their ids, and the keys that were not read. Raises StoreError."""
    match answer:
        case {"Responses": {**responses}, "UnprocessedKeys": {**left}}:
            found = responses.get(table, [])
            keys = left.get(table, {"Keys": []})
            if isinstance(found, list) and isinstance(keys, dict) and isinstance(keys.get("Keys"), list):
                return {_id_of(item): item for item in found}, keys["Keys"]
    raise StoreError(f"table {table}: the answer to a read is none of DynamoDB's")


def _id_of(item: Any) -> str:
    match item:
        case {"id": {"S": str(item_id)}}:
            return item_id
    raise StoreError("the cell's store: an item without an id was read, which is none of DynamoDB's")


def _of_table(left: Any, table: str) -> list[Any]:
    if left is None:
        return []
    if isinstance(left, dict) and isinstance(found := left.get(table, []), list):
        return found
    raise StoreError(f"table {table}: the answer to a deletion is none of DynamoDB's")
