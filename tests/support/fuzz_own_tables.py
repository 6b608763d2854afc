"""What a cell reads of its own tables, and what a shop reads of its events, as functions of the bytes that came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import pytest

from cell_worker.api import Event, ItemKey, Put, RejectEvent, RetryEvent
from cell_worker.handlers.shop.bodies import ShopEvent
from cell_worker.store import table_calls
from cell_worker.tables.dynamodb import DynamoTable
from cell_worker.tables.shards import PLACES, Places, Shard, StreamShards, readable, why_gap
from cell_worker.tables.stream import TrimmedError
from cell_worker.tables.wire import change_of, item_of

KEY: Final = ItemKey("a", "b")


class AnyClient:
    """A client of AWS that answers every call with the same value."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def __getattr__(self, _: str) -> Callable[..., Awaitable[Any]]:
        async def call(**_: Any) -> Any:
            return self._answer

        return call


def places(raw: bytes) -> object:
    """Read how far a stream was read, and find out where to go on."""
    found = PLACES.read(raw)
    if isinstance(found, Places):
        listed = StreamShards("a", [Shard("1", None), Shard("2", "1")])
        return readable(listed, found), why_gap(listed, found, 0), found.without_those_gone(listed)
    return found


def shops_event(raw: bytes) -> object:
    """Read the body of a shop's event."""
    with suppress(RejectEvent):
        return Event("id", "key", 1, raw).read(ShopEvent)
    return None


def items(raw: bytes) -> object:
    """Read items and records of a stream, of which any part is what came."""
    found = _json(raw)
    images = {"SequenceNumber": "1", "NewImage": found, "OldImage": found}
    told: list[object] = [item_of(found), item_of({"PK": found, "SK": found}), change_of(found)]
    return [*told, change_of({"dynamodb": found}), change_of({"dynamodb": images})]


def answers(raw: bytes) -> None:
    """Use a table whose services answer everything with what came, once each."""
    with pytest.MonkeyPatch().context() as patch:
        patch.setattr(table_calls, "TRY_FOR_S", 0)
        found = _json(raw)
        nested = {"Table": found, "Responses": found, "Items": found, "Records": found, "StreamDescription": found}
        for answer in (found, nested):
            asyncio.run(_used(answer))


async def _used(answer: object) -> None:
    table = DynamoTable("a-table")
    table._table._client._client = table._streams._client._client = AnyClient(answer)
    calls: Sequence[Callable[[], Awaitable[object]]] = (
        lambda: table.get(KEY),
        lambda: table.write(Put(KEY.of())),
        lambda: _scanned(table),
        table.shards,
        lambda: table.read("shard", ""),
        lambda: table.read("shard", "7"),
    )
    for call in calls:
        with suppress(RetryEvent, TrimmedError):
            await call()


async def _scanned(table: DynamoTable) -> None:
    async for _ in table.scan():
        return


def _json(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return {"S": raw.decode("utf-8", "replace"), "N": raw.decode("latin-1")}


OF_OWN_TABLES: Final[Mapping[str, Callable[[bytes], object]]] = {
    "places in a stream": places,
    "shop's event": shops_event,
    "item of an own table": items,
    "answer to an own table": answers,
}
