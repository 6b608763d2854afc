"""A shop in a whole worker, on real servers: what was ordered adds up, though an instance is killed amid its work."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from cell_worker.api import Event, TableItem
from cell_worker.contract import protocol
from cell_worker.tables.dynamodb import DynamoTable
from router.adapters.aws.resources import AwsCellResources, ResourceNames
from router.adapters.aws.session import AwsConfig, open_client
from tests.support.aio import run, until
from tests.support.cell_in_aws import arrived
from tests.support.shop_world import order, product
from tests.support.worker_process import WorkerProcess, outcomes, post

pytestmark = pytest.mark.one_kind  # it is about tables

FOLDERS: Final = "sales/shop={shop}/day={day}/hour={hour}/"
ORDERS: Final = 60
MAX_BATCH: Final = 50  # as cells take it
CELL: Final = "cell-0000"


class ShopCell:
    """The resources of a shop's cell, in an environment of its own."""

    def __init__(self, s3: Any, names: ResourceNames) -> None:
        self.s3 = s3
        self.names = names
        self.table = DynamoTable(protocol.table_name(names.cell(CELL), "shop"))

    async def items(self) -> list[TableItem]:
        return [item async for page in self.table.scan() for item in page]

    async def settled(self) -> list[TableItem]:
        """The lines from which stock was taken, as far as there was any."""
        return [item for item in await self.items() if "taken" in item]

    async def sales(self) -> list[dict[str, Any]]:
        return [each for each in await arrived(self.s3, self.names.cell(CELL)) if "order_id" in each]


async def a_shop(stack: AsyncExitStack, endpoint: str) -> ShopCell:
    """Make what a controller makes for a cell of a shop."""
    aws = AwsConfig("us-east-1", endpoint)
    names = ResourceNames(*("cellrouter", f"t-{uuid.uuid4().hex[:8]}", "q", "d"), table="shop", emitted_path=FOLDERS)
    sqs, s3, firehose, dynamodb = [
        await open_client(stack, aws, service) for service in ("sqs", "s3", "firehose", "dynamodb")
    ]
    role = "arn:aws:iam::000000000000:role/r"
    made = AwsCellResources(names, sqs, s3, firehose, region="us-east-1", firehose_role=role, own_tables=dynamodb)
    assert await made.ensure(CELL) == ["hold queue", "bucket", "stream", "own table"]
    assert await made.ensure(CELL) == []
    cell = ShopCell(s3, names)
    stack.push_async_callback(cell.table.close)
    return cell


def batch(events: Sequence[Event], generation: int) -> bytes:
    """A router's batch of these events."""
    sent = [
        {"event_id": each.event_id, "partition_key": each.partition_key, "attempt": 1, "body": json.loads(each.body)}
        for each in events
    ]
    whose = {"cell_id": CELL, "generation": generation, "epoch": 1, "deadline_s": 30}
    return json.dumps({**whose, "events": sent}).encode()


async def given(url: str, events: Sequence[Event], generation: int) -> Counter[str]:
    """Send events in batches, and count how they ended."""
    found: Counter[str] = Counter()
    for begin in range(0, len(events), MAX_BATCH):
        sent = batch(events[begin : begin + MAX_BATCH], generation)
        told = await asyncio.to_thread(post, f"{url}{protocol.EVENTS_PATH}", sent)
        found.update(outcomes(told[1]).values())
    return found


def test_a_shop_adds_up_though_its_instance_is_killed(redis_url: str, dynamodb_endpoint: str, tmp_path: Path) -> None:
    """Lines = taken + back-orders = sales in their folders = totals; one vendor order for the one crossing."""
    orders = [order("acme", f"ann-ORDER-{number}", ("mug", 2), ("mug", 1)) for number in range(ORDERS)]

    async def story() -> None:
        async with AsyncExitStack() as stack:
            cell = await a_shop(stack, dynamodb_endpoint)
            settings: dict[str, object] = {"environment": cell.names.environment, "sink": "firehose"}
            settings |= {"handler": "cell_worker.handlers.shop:Shop", "chaos": True}
            older = stack.enter_context(WorkerProcess(redis_url, tmp_path, generation=1, **settings))
            url = await asyncio.to_thread(older.url)
            assert await given(url, [product("acme", "mug", 100, 20, 500)], 1) == {"ok": 1}
            assert await given(url, orders[: ORDERS // 2], 1) == {"ok": ORDERS // 2}

            async def some_are_settled() -> bool:
                return len(await cell.settled()) >= 8

            await until(some_are_settled, "some lines are settled")
            older.process.kill()
            newer = stack.enter_context(WorkerProcess(redis_url, tmp_path, generation=2, **settings))
            url = await asyncio.to_thread(newer.url)
            assert await given(url, orders, 2) == {"ok": ORDERS}  # half of them come again

            async def all_is_told() -> bool:
                return len({(each["order_id"], each["line"]) for each in await cell.sales()}) >= 2 * ORDERS

            await until(all_is_told, "every line is among the sales")
            _check(await cell.items(), await cell.sales())
            components = await asyncio.to_thread(newer.components, url)
            assert components["stream"][0], components
            assert components["table"] == (True, f"{cell.table.name} can be read")

    with pytest.MonkeyPatch().context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", dynamodb_endpoint)
        run(story(), 150)


def _check(items: Sequence[TableItem], sales: Sequence[dict[str, Any]]) -> None:
    lines = [item for item in items if "taken" in item]
    found = {str(item["PK"]): item for item in items if "itemType" in item}
    totals = {name: found[f"acme#METRIC#{name}"]["value"] for name in ("orders", "ordered", "taken", "back_ordered")}
    assert totals == {"orders": ORDERS, "ordered": 3 * ORDERS, "taken": 100, "back_ordered": 3 * ORDERS - 100}
    assert len(lines) == 2 * ORDERS
    assert found["acme#mug"]["stock"] == 0
    assert [name for name in found if "#VENDOR#" in name] == ["acme#VENDOR#mug-000001"]
    told = {(each["order_id"], each["line"]): (each["taken"], each["back_ordered"]) for each in sales}
    assert told == {(item["PK"], int(item["SK"])): (item["taken"], item["back_ordered"]) for item in lines}
