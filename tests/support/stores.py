"""The stores that the contract suites run on: the fake in memory, SQLite, and DynamoDB."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import pytest
from aiobotocore.session import get_session

from cell_worker import aws
from cell_worker.contract.protocol import EventName
from cell_worker.store.dynamodb import DynamoStore
from cell_worker.store.sqlite import SqliteStore
from cell_worker.store.store import Store
from router.adapters.aws.resources import create_bucket, create_table
from router.adapters.aws.session import AwsConfig, open_client
from tests.support.aio import run
from tests.support.memory_store import MemoryStore, Volume

S = TypeVar("S", bound=Store)
REGION: Final = "us-east-1"
SESSION: Final = get_session()  # one for all: each reads the models of AWS's services anew, for half a second
Make = Callable[[], Store]
"""Makes the store of one more instance on the same volume."""


def maker(kind: str, directory: Path) -> Make:
    """Make a function that makes stores of this kind, `memory` or `sqlite`, all on one volume."""
    volume = Volume()
    return lambda: MemoryStore(volume) if kind == "memory" else SqliteStore(directory / "cell" / "store.db")


@contextmanager
def on_table(endpoint: str, *, made: bool = False) -> Iterator[Callable[[], DynamoStore]]:
    """Make a function that makes stores on one table and one bucket there, unless they are `made`; they are its own."""
    name = f"s-{uuid.uuid4().hex[:12]}"
    with pytest.MonkeyPatch().context() as patch:
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):  # a bench has none
            patch.setenv(variable, "test")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setattr(aws, "aws_session", lambda: SESSION)
        if not made:
            asyncio.run(make_table(endpoint, name))
        yield lambda: DynamoStore(name, name)


async def make_table(endpoint: str, name: str) -> None:
    """Make the table and the bucket of a store."""
    async with AsyncExitStack() as stack:
        where = AwsConfig(REGION, endpoint)
        dynamodb, s3 = [await open_client(stack, where, service) for service in ("dynamodb", "s3")]
        await create_table(dynamodb, name)
        await create_bucket(s3, name, REGION)


def on(make: Callable[[], S], story: Callable[[S], Awaitable[None]]) -> None:
    """Run a story on a store that generation 1 has taken, and close the store."""

    async def main() -> None:
        store = make()
        await store.open(1)
        await store.take()
        try:
            await story(store)
        finally:
            await store.close()

    run(main())


def named(event_id: str, key: str = "k") -> EventName:
    """Name an event: most stories have a single key."""
    return EventName(key, event_id)


async def lines_of(store: Store) -> list[bytes]:
    """Read the whole outbox."""
    return [line for _, line in await store.outbox(10_000, 100_000_000)]
