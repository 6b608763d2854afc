"""What a cell's store on DynamoDB reads, as functions of the bytes that came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.model import OperationModel
from botocore.parsers import create_parser
from botocore.session import get_session

from cell_worker.store import table_calls, table_items
from cell_worker.store.dynamodb import DynamoStore
from cell_worker.store.store import StoreError
from tests.support.stores import named

ATTRIBUTES: Final = ("generation", "nonce", "tail", "added", "head", "kept", "expires", "gone")


def _operations(service: str) -> dict[str, OperationModel]:
    model = get_session().get_service_model(service)
    return {xform_name(name): model.operation_model(name) for name in model.operation_names}


OPERATIONS: Final = {"json": _operations("dynamodb"), "rest-xml": _operations("s3")}
"""The operations of DynamoDB and of S3, by the protocol that each speaks."""


class Body:
    """The body of an object in S3, which is read in parts."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def read(self, size: int) -> bytes:
        part, self._raw = self._raw[:size], self._raw[size:]
        return part


class BotoClient:
    """A client of AWS to whose every call comes one answer, made out by botocore itself."""

    def __init__(self, protocol: str, raw: bytes, status: int) -> None:
        self._protocol, self._raw, self._status = protocol, raw, status

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(**_: Any) -> Any:
            if name == "get_object":
                return {"Body": Body(self._raw)}
            answer = {"status_code": self._status, "headers": {}, "body": self._raw}
            parsed = create_parser(self._protocol).parse(answer, OPERATIONS[self._protocol][name].output_shape)
            if self._status > 200:
                raise ClientError(parsed, name)
            return parsed

        return call


def table_item(raw: bytes) -> object:
    """Read an item whose every attribute is what came, and use whatever was read."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = {"S": raw.decode("utf-8", "replace"), "N": raw.decode("latin-1"), "B": raw}
    told: list[object] = []
    readers: Sequence[Callable[[Any], object]] = (
        table_items.FenceItem.read,
        table_items.OutboxItem.read,
        lambda item: table_items.gone_of(table_items.as_item(item)),
        lambda item: table_items.done_of(table_items.as_item(item), 1),
        lambda item: table_items.by_id_until(item, 1),
    )
    for item in (found, dict.fromkeys(ATTRIBUTES, found)):
        for read in readers:
            with suppress(StoreError):
                told.append(read(item))
    return told


def lines_of_a_chunk(raw: bytes) -> object:
    """Read lines as they lie in the bucket or in an item."""
    with suppress(StoreError):
        return table_items.read_body("the object x", raw)
    return None


def answers_of_aws(raw: bytes) -> None:
    """Use a store whose services answer everything with these bytes, once each."""
    with pytest.MonkeyPatch().context() as patch:
        patch.setattr(table_calls, "TRY_FOR_S", 0)
        for status in (200, 400):
            asyncio.run(_used(raw, status))


async def _used(raw: bytes, status: int) -> None:
    store = DynamoStore("a-table", "a-bucket")
    store._table._client._client = BotoClient("json", raw, status)
    store._bodies._client._client = BotoClient("rest-xml", raw, status)
    calls: Sequence[Callable[[], Awaitable[object]]] = (
        lambda: store.open(1),
        store.take,
        store.highest_generation,
        lambda: store.seen(named("a")),
        lambda: store.commit(named("a"), [b"1"]),
        lambda: store.commit(named("b"), [b"1" * 50_000]),
        lambda: store._bodies.get("outbox/a"),
        lambda: store.outbox(10),
        lambda: store.delete(1 << 20),
        store.close,
    )
    for call in calls:
        with suppress(StoreError):
            await call()
    assert await store.outbox_size() >= 0


OF_STORES: Final[Mapping[str, Callable[[bytes], object]]] = {
    "table item": table_item,
    "answer of DynamoDB": answers_of_aws,
    "lines of a chunk": lines_of_a_chunk,
}
