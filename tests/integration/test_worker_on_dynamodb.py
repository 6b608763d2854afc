"""Whole workers whose store is a table in DynamoDB: nothing of a cell's memory lies on the instance's disk."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any, Final

import pytest

from cell_worker.contract import protocol
from cell_worker.store.dynamodb import DynamoStore
from cell_worker.store.store import StoreError
from router.adapters.aws.resources import AwsCellResources, ResourceNames
from router.adapters.aws.session import AwsConfig, open_client
from tests.support.aio import run, until
from tests.support.cell_in_aws import arrived
from tests.support.paths import REPOSITORY
from tests.support.stores import named, on_table
from tests.support.strict_dynamodb import strict_dynamo
from tests.support.worker_process import WorkerProcess, body, outcomes, post

pytestmark = pytest.mark.one_kind  # it is about the cell's store

EVENTS: Final = protocol.EVENTS_PATH
ROLE: Final = "arn:aws:iam::000000000000:role/r"
COMMITTER: Final = """
import asyncio, sys
from cell_worker.contract.protocol import EventName
from cell_worker.store.dynamodb import DynamoStore
from cell_worker.store.store import StoreError

async def main():
    store = DynamoStore(sys.argv[1], sys.argv[1])
    await store.open(1)
    await store.take()

    async def events(lane):
        for number in range(100_000):
            event = f"e{lane}-{number}"
            assert await store.commit(EventName("k", event), [event.encode()])
            print(event, flush=True)

    await asyncio.gather(*(events(lane) for lane in range(8)))

asyncio.run(main())
"""


class Cell:
    """The resources of cell-0000 of an environment of its own."""

    def __init__(self, clients: dict[str, Any]) -> None:
        self.clients = clients
        self.names = ResourceNames("cellrouter", f"t-{uuid.uuid4().hex[:8]}", "q", "d")
        self.name = self.names.cell("cell-0000")

    async def ensure(self) -> list[str]:
        services = [self.clients[service] for service in ("sqs", "s3", "firehose", "dynamodb")]
        return list(
            await AwsCellResources(self.names, *services, region="us-east-1", firehose_role=ROLE).ensure("cell-0000")
        )

    async def done(self) -> set[str]:
        """The ids of the events that are done."""
        pages = self.clients["dynamodb"].get_paginator("scan").paginate(TableName=self.name, ConsistentRead=True)
        found = [item["id"]["S"] async for page in pages for item in page["Items"]]
        return {name.partition("/")[2].partition("/")[2] for name in found if name.startswith("done/")}


async def a_cell(stack: AsyncExitStack, endpoint: str) -> Cell:
    """Make a cell's resources, with its table."""
    aws = AwsConfig("us-east-1", endpoint)
    services = ("sqs", "s3", "firehose", "dynamodb")
    cell = Cell({service: await open_client(stack, aws, service) for service in services})
    assert await cell.ensure() == ["hold queue", "bucket", "stream", "table"]
    assert await cell.ensure() == []
    return cell


def test_a_killed_instance_leaves_its_memory_to_the_next_on_another_disk(
    redis_url: str, dynamodb_endpoint: str, tmp_path: Path
) -> None:
    """It is killed amid its events, which all come again: each is answered ok, and its one line arrives once."""
    ids = [f"e{number}" for number in range(40)]
    (tmp_path / "next").mkdir()

    async def story() -> None:
        async with AsyncExitStack() as stack:
            cell = await a_cell(stack, dynamodb_endpoint)
            firehose = cell.clients["firehose"]
            await firehose.delete_delivery_stream(DeliveryStreamName=cell.name)  # what the first one emits has to wait
            settings: dict[str, object] = {
                "environment": cell.names.environment,
                "store": "dynamodb",
                "sink": "firehose",
            }
            settings |= {"handler": "tests.support.trivial:slow", "concurrency": 4}
            older = stack.enter_context(WorkerProcess(redis_url, tmp_path, generation=1, **settings))
            url = await asyncio.to_thread(older.url)
            asking = asyncio.create_task(asyncio.to_thread(post, f"{url}{EVENTS}", body(*ids)))

            async def some_are_done() -> bool:
                return len(await cell.done()) >= 8

            await until(some_are_done, "some events are done")
            older.process.kill()
            answered, done = outcomes((await asking)[1]), await cell.done()
            assert {ids[index] for index in answered} <= done < set(ids)
            assert await cell.ensure() == ["stream"]
            newer = stack.enter_context(WorkerProcess(redis_url, tmp_path / "next", generation=2, **settings))
            url = await asyncio.to_thread(newer.url)
            told = (await asyncio.to_thread(post, f"{url}{EVENTS}", body(*ids, generation=2)))[1]
            results = {ids[line["index"]]: line for line in map(json.loads, told.splitlines())}
            assert {result["outcome"] for result in results.values()} == {"ok"}
            assert {event for event, result in results.items() if result.get("duplicate")} == done
            assert newer.components(url)["store"] == (True, "DynamoDB takes writes")
            assert not (tmp_path / "next" / "volume").exists()

            async def delivered() -> bool:
                return len(await arrived(cell.clients["s3"], cell.name)) >= len(ids)

            await until(delivered, "the lines have arrived")
            lines = await arrived(cell.clients["s3"], cell.name)
            assert Counter(line["event_id"] for line in lines) == Counter(ids)
            assert {line["event_id"] for line in lines if line["generation"] == 1} == done

    with pytest.MonkeyPatch().context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", dynamodb_endpoint)
        run(story(), 150)


def test_a_worker_without_its_table_says_which_is_missing(
    redis_url: str, dynamodb_endpoint: str, tmp_path: Path
) -> None:
    """It never makes one, and its last words are a sentence."""
    with pytest.MonkeyPatch().context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", dynamodb_endpoint)
        settings = {"store": "dynamodb", "store_table": "no-such-table"}
        with WorkerProcess(redis_url, tmp_path, generation=1, **settings) as worker:
            assert worker.process.wait(60) == 1
    last = worker.said().splitlines()[-1]
    assert last.startswith("cell-worker: the cell's store, table no-such-table: ")
    assert "CELL_STORE_TABLE" in last


@pytest.fixture(params=["MiniStack", "strict"])
def tables(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Make stores on a table of one kind of server."""
    ministack = request.param == "MiniStack"
    server = nullcontext((None, request.getfixturevalue("dynamodb_endpoint"))) if ministack else strict_dynamo()
    with server as (strict, endpoint), on_table(endpoint, made=not ministack) as make:
        if strict is not None:
            strict.told.in_flight_s = 0.01
        yield make


def test_a_process_that_is_killed_amid_commits_leaves_each_whole_or_not_at_all(tables: Any) -> None:
    """Whatever it was told is done; of every event that is done there is one line, and of no other."""

    async def story(store: DynamoStore, told: set[str]) -> None:
        await store.open(2)
        await store.take()
        lines = {line.decode() for _, line in await store.outbox(100_000, 100_000_000)}
        assert len(lines) == await store.outbox_size()
        assert told <= lines
        assert len(lines - told) <= 8  # one in each lane
        next_ones = {f"e{lane}-{number}" for lane in range(8) for number in range(len(lines))}
        found = await asyncio.gather(*(store.seen(named(event)) for event in next_ones))
        assert {event for event, seen in zip(next_ones, found, strict=True) if seen} == lines
        await store.close()

    store = tables()
    with subprocess.Popen(
        [sys.executable, "-c", COMMITTER, store._table.name],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        told = {process.stdout.readline().strip() for _ in range(60)}
        process.kill()
        told |= {line.strip() for line in process.stdout if line.endswith("\n")}
    run(story(store, told))


def test_a_table_with_another_key_is_named_with_the_right_one(dynamodb_endpoint: str) -> None:
    """As when somebody made it by hand; the real server says it in its own words too."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            dynamodb = await open_client(stack, AwsConfig("us-east-1", dynamodb_endpoint), "dynamodb")
            name = f"s-{uuid.uuid4().hex[:12]}"
            await dynamodb.create_table(
                TableName=name,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            )
            store = DynamoStore(name, name)
            with pytest.raises(StoreError, match=f"table {name}: .*schema.*partition key `id`, a string"):
                await store.open(1)
            await store.close()

    with pytest.MonkeyPatch().context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", dynamodb_endpoint)
        run(story())
