"""A cell's own table in DynamoDB, with its stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import structlog

from cell_worker.api import RetryEvent
from cell_worker.api.tables import Change, ItemKey, Put, TableItem, key_in
from cell_worker.contract.strict_reader import Unreadable
from cell_worker.store.store import StoreError
from cell_worker.store.table_calls import StoreCaller, Table, code_of
from cell_worker.tables.shards import Records, Shard, StreamShards
from cell_worker.tables.stream import TrimmedError, check_count
from cell_worker.tables.wire import change_of, item_of, wire_key, wire_put

MAX_SHARDS: Final = 1000
"""No table of a cell comes near: a partition has about ten shards in the day that they are kept."""
_TRIMMED: Final = {"TrimmedDataAccessException", "ResourceNotFoundException"}
_EXPIRED: Final = {"ExpiredIteratorException", "ValidationException"}
_ADVICE: Final[Mapping[str, str]] = {
    "ResourceNotFoundException": "there is no such table in this account and region: name it in `cells.table`, and "
    "the controller or the cell's stack makes it",
    "AccessDeniedException": "the cell's role may not do this: docs/reference/cell-table.md lists what it needs",
    "ValidationException": "is it a cell's own table? That has the keys `PK` and `SK`, both strings: "
    "docs/how-to/write-a-handler.md",
}


class TableError(RetryEvent):
    """A table can't do it now, or has answered what no table does. Whether it was written, a read tells."""


class DynamoTable:
    """A cell's own table in DynamoDB, with its stream. Clients open with the first call."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._log = structlog.get_logger("table").bind(table=name)
        self._table = Table(name, "the cell's own", _ADVICE)
        self._streams = StoreCaller("dynamodbstreams", f"the stream of table {name}", _ADVICE)
        self._stream = ""
        self._iterators: dict[str, tuple[str, str]] = {}  # by shard: after which number it reads, and the iterator

    async def get(self, *keys: ItemKey) -> dict[ItemKey, TableItem]:
        """Read the items with these keys, as all writes before have left them. Raises TableError."""
        check_count(keys)
        found: dict[ItemKey, TableItem] = {}
        left: list[Any] = [wire_key(key) for key in keys]
        for _ in range(len(keys)):  # DynamoDB reads one at least
            if not left:
                break
            request = {self.name: {"Keys": left, "ConsistentRead": True}}
            answer = await self._call(self._table, "batch_get_item", RequestItems=request)
            items, left = self._read(answer)
            found |= {key_in(item): item for item in items}
        if left:
            raise TableError(f"table {self.name}: DynamoDB is too busy to read {len(left)} items")
        return found

    async def write(self, *puts: Put) -> bool:
        """Write all the items or none. False when one is not as it was. Raises TableError: then nobody knows."""
        check_count([key_in(put.item) for put in puts])
        try:
            return await self._table.transact([wire_put(self.name, put.item, put.was) for put in puts]) is None
        except StoreError as error:
            raise TableError(str(error)) from error

    async def scan(self) -> AsyncIterator[Sequence[TableItem]]:
        """Read the whole table, page by page. Raises TableError."""
        more: dict[str, Any] = {}
        while True:
            answer = await self._call(self._table, "scan", TableName=self.name, ConsistentRead=True, **more)
            yield self._items(answer.get("Items"), skip=True)
            if not (last := answer.get("LastEvaluatedKey")):
                return
            more = {"ExclusiveStartKey": last}

    async def shards(self) -> StreamShards:
        """List all shards that the table's stream still has. Raises TableError."""
        table = (await self._call(self._table, "describe_table", TableName=self.name)).get("Table")
        stream = table.get("LatestStreamArn") if isinstance(table, dict) else None
        if not isinstance(stream, str):
            raise TableError(
                f"table {self.name} has no stream, so nothing can follow it: docs/how-to/write-a-handler.md"
            )
        if stream != self._stream:
            self._stream, self._iterators = stream, {}
        shards: list[Shard] = []
        more: dict[str, str] = {}
        while len(shards) < MAX_SHARDS:
            answer = await self._call(self._streams, "describe_stream", StreamArn=stream, **more)
            page, last = _shards_in(answer, self.name)
            shards += page
            if not last:
                break
            more = {"ExclusiveStartShardId": last}
        return StreamShards(stream, shards)

    async def read(self, shard_id: str, after: str) -> Records:
        """Read the next records of a shard. Raises TrimmedError and TableError."""
        at, iterator = self._iterators.pop(shard_id, (after, ""))
        kept = bool(iterator) and at == after
        try:
            if not kept:
                iterator = await self._iterator(shard_id, after)
            answer = await self._streams.call("get_records", ShardIterator=iterator)
        except StoreError as error:
            code = code_of(error.__cause__)
            if code in _TRIMMED:
                raise TrimmedError(shard_id) from error
            if code in _EXPIRED and kept:
                return Records((), after, ended=False)  # with a new iterator next time
            raise TableError(str(error)) from error
        records = _records_in(answer, after, self.name)
        if isinstance(following := answer.get("NextShardIterator"), str):
            self._iterators[shard_id] = (records.last, following)
        return records

    async def restart(self) -> None:
        """Replace the clients; the next calls open new ones."""
        self._iterators = {}
        await self._table.reopen()
        await self._streams.reopen()

    async def close(self) -> None:
        """Close the clients with their connections. Every later call raises TableError."""
        await self._table.close()
        await self._streams.close()

    async def _iterator(self, shard_id: str, after: str) -> str:
        where = (
            {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
            if after
            else {"ShardIteratorType": "TRIM_HORIZON"}
        )
        answer = await self._streams.call("get_shard_iterator", StreamArn=self._stream, ShardId=shard_id, **where)
        if not isinstance(iterator := answer.get("ShardIterator"), str):
            raise TableError(f"the stream of table {self.name}: the answer has no iterator")
        return iterator

    async def _call(self, caller: StoreCaller, operation: str, **parameters: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await caller.call(operation, **parameters)
        except StoreError as error:
            raise TableError(str(error)) from error
        return answer

    def _read(self, answer: dict[str, Any]) -> tuple[list[TableItem], list[Any]]:
        match answer:
            case {"Responses": {**responses}}:
                unread = answer.get("UnprocessedKeys") or {}
                left = unread.get(self.name, {}) if isinstance(unread, dict) else None
                if isinstance(left, dict) and isinstance(keys := left.get("Keys", []), list):
                    return self._items(responses.get(self.name, [])), keys
        raise TableError(f"table {self.name}: the answer to a read is none of DynamoDB's")

    def _items(self, wire: object, *, skip: bool = False) -> list[TableItem]:
        if not isinstance(wire, list):
            raise TableError(f"table {self.name}: the answer to a read is none of DynamoDB's")
        items: list[TableItem] = []
        for each in wire:
            if not isinstance(item := item_of(each), Unreadable):
                items.append(item)
            elif skip:
                self._log.error("left out an item that no cell has written", why=item.why)
            else:
                raise TableError(f"table {self.name}: {item.why}: who has written it?")
        return items


def _shards_in(answer: dict[str, Any], table: str) -> tuple[list[Shard], str]:
    match answer:
        case {"StreamDescription": {"Shards": [*found], **more}}:
            shards = [
                Shard(name, up if isinstance(up := each.get("ParentShardId"), str) else None)
                for each in found
                if isinstance(each, dict) and isinstance(name := each.get("ShardId"), str)
            ]
            last = more.get("LastEvaluatedShardId")
            return shards, last if isinstance(last, str) else ""
    raise TableError(f"the stream of table {table}: the answer lists no shards")


def _records_in(answer: dict[str, Any], after: str, table: str) -> Records:
    if not isinstance(found := answer.get("Records"), list):
        raise TableError(f"the stream of table {table}: the answer has no records")
    changes: list[Change] = []
    unreadable: list[str] = []
    last = after
    for record in found:
        read = change_of(record)
        if isinstance(read, Unreadable):
            raise TableError(f"the stream of table {table}: {read.why}")
        last, change = read
        if isinstance(change, Unreadable):
            unreadable.append(change.why)
        else:
            changes.append(change)
    return Records(changes, last, answer.get("NextShardIterator") is None, unreadable)
