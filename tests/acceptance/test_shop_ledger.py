"""The shop's ledger under all faults at once: a killed cell, a slow one, a stopped consumer, and calls that fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from random import Random  # noqa: TID251 - seeded
from typing import Any, Final

import pytest

from cell_worker.contract.protocol import Fault, FaultKind
from router.adapters.clock import SystemClock
from router.adapters.http_session import http_session
from router.bootstrap.queues import queues_of
from router.bootstrap.registry import open_registry
from router.core.errors import CellRouterError
from router.demo.drills.hits import SLOW
from router.demo.shop.books import BookKeeper
from router.demo.shop.load import catalogue, wishes
from router.demo.shop.run import FOLDERS, HANDLER, SEED, TABLE
from router.demo.shop.street import Customers, Vendors, open_shops, read_all
from router.demo.system_client import SystemClient, open_system
from router.settings import load
from router.shop import desk
from router.shop.core.ledger import Ordered, ShopLedger, ledger
from router.shop.core.names import table_of
from router.shop.serving import cells_of, sales_of, served, tables_of
from tests.support.aio import run, until
from tests.support.faulty_aws import FaultyAws, Stage
from tests.support.servers import free_port
from tests.support.system import System

pytestmark = [
    pytest.mark.alone,
    pytest.mark.one_kind,
    pytest.mark.skipif(find_spec("duckdb") is None, reason="the extra `shop` is not installed"),
]

CELLS: Final = 4
RATES: Final = {Stage.ORDER: 0.05, Stage.STREAM: 0.1, Stage.SALES: 0.1}
POLL_S: Final = 2.0
CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True)
class Size:
    """How much is ordered, over how long, and how long one consumer stands still."""

    orders: int
    shops: int
    seconds: float
    stopped_s: float
    rest_s: float  # how long the books may take to become equal afterwards
    limit_s: float  # for all of it


SHORT: Final = Size(orders=300, shops=12, seconds=12, stopped_s=6, rest_s=90, limit_s=270)
WHOLE: Final = Size(orders=10_000, shops=200, seconds=400, stopped_s=60, rest_s=900, limit_s=2700)


@dataclass(slots=True)
class Street:
    """The shops with all that stands around them."""

    size: Size
    system: System
    faulty: FaultyAws
    keeper: BookKeeper
    customers: Customers
    vendors: Vendors
    client: SystemClient
    sent: Ordered
    open: Callable[[], Any]
    told: list[str] = field(default_factory=list)
    hit: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def opened(self) -> bool:
        """Whether the cells have all products."""
        found = await read_all(self.keeper.cells, self.keeper.tables)
        return sum(len(part.products) for part in found) == len(self.sent.catalogue)

    async def live(self) -> None:
        """Order, and have the faults happen: each of the three is another cell's."""
        begin, pause = CLOCK.monotonic(), self.size.seconds / self.size.orders
        async with asyncio.TaskGroup() as group:
            for number, wish in enumerate(wishes(self.size.orders, self.size.shops, SEED)):
                await CLOCK.sleep(max(0.0, begin + number * pause - CLOCK.monotonic()))
                if number == self.size.orders // 3:
                    group.create_task(self._faults())
                group.create_task(self.customers.order(wish))

    async def _faults(self) -> None:
        idlest, *_, slow, busiest = sorted(await self.lanes(), key=lambda lane: lane["answered"])
        self.faulty.stopped = table_of("cellrouter", self.system.name, idlest["cell_id"])
        await self.client.inject(busiest, Fault(FaultKind.CRASH))
        await self.client.inject(slow, SLOW)
        self.hit = {"killed": busiest, "slow": slow}
        await CLOCK.sleep(self.size.stopped_s)
        self.faulty.stopped = ""

    async def lanes(self) -> list[dict[str, Any]]:
        """Return the router's lanes, each time that it answers."""
        while len(found := await self.client.lanes()) < CELLS:
            await CLOCK.sleep(0.2)
        return found

    async def replaced(self) -> list[str]:
        """Say which of the cells that were hit have another instance by now."""
        now = {lane["cell_id"]: lane["generation"] for lane in await self.lanes()}
        return [how for how, lane in self.hit.items() if now[lane["cell_id"]] > lane["generation"]]

    async def at_rest(self) -> ShopLedger:
        """Wait until all books are equal; what differs when the time is over is in the ledger."""
        deadline, found = CLOCK.monotonic() + self.size.rest_s, None
        while CLOCK.monotonic() < deadline:
            try:
                found = ledger(self.sent, await self.keeper.books())
            except CellRouterError as error:
                self.told.append(str(error))
            if found is not None and not found.differences:
                break
            await CLOCK.sleep(POLL_S)
        assert found is not None, self.told
        return found


async def told(size: Size, redis_url: str, endpoint: str, directory: Path) -> dict[str, Any]:
    """Let the shops live and return what is to be known of it."""
    async with AsyncExitStack() as stack:
        faulty = await stack.enter_async_context(FaultyAws(endpoint, RATES, Random(SEED)))
        system = System(redis_url, faulty.url, directory, cells=CELLS, fifo=False)
        del system.environ["CELLROUTER_SOURCE_EVENT_ID"]
        system.environ |= {
            "CELLROUTER_CELLS_HANDLER": HANDLER,
            "CELLROUTER_CELLS_TABLE": TABLE,
            "CELLROUTER_CELLS_EMITTED_PATH": FOLDERS,
            "CELLROUTER_CELLS_WARM_UP_S": "5",
        }
        await stack.enter_async_context(system.running())
        system.environ["CELLROUTER_AWS_ENDPOINT_URL"] = endpoint  # all but the cells have an AWS without faults
        street = await opened(stack, size, system, faulty)
        began = CLOCK.monotonic()
        await street.open()
        await until(street.opened, "the shops have opened", 60)
        delivering = asyncio.create_task(street.vendors.run())
        try:
            await street.live()
            placed = CLOCK.monotonic()
            found = await street.at_rest()
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)
        return {
            **asdict(found),
            "twice": street.customers.twice,
            "refused": street.customers.refused,
            "dead": [letter.reason for letter in await system.dead_letters()],
            "failed_calls": dict(sorted(faulty.failed.items())),
            "replaced": await street.replaced(),
            "placed_in_s": round(placed - began),
            "equal_after_s": round(CLOCK.monotonic() - placed),
        }


async def opened(stack: AsyncExitStack, size: Size, system: System, faulty: FaultyAws) -> Street:
    """Open the order API before the system, and let customers and vendors come."""
    router, port = await system.router(), free_port()
    settings = load(system.environ)
    await stack.enter_async_context(served(settings, "127.0.0.1", port))
    client = await open_system(stack, settings, router.url, system.leader.url, CLOCK)
    cells = cells_of(await stack.enter_async_context(open_registry(settings)))
    keeper = BookKeeper(cells, await tables_of(stack, settings), await sales_of(stack, settings))
    source, _ = await queues_of(stack, settings)
    session, sent = await stack.enter_async_context(http_session()), Ordered()
    customers = Customers(session, f"http://127.0.0.1:{port}", sent, CLOCK)
    vendors = Vendors(source.send, cells, keeper.tables, sent, CLOCK)
    goods = list(catalogue(size.shops, SEED))
    opening = lambda: open_shops(source.send, goods, sent)  # noqa: E731 - one call, with all that it needs
    return Street(size, system, faulty, keeper, customers, vendors, client, sent, opening)


@pytest.mark.parametrize("size", [SHORT, pytest.param(WHOLE, marks=pytest.mark.long)], ids=["short", "whole"])
def test_every_book_is_equal_whatever_has_failed(
    size: Size,
    redis_url: str,
    dynamodb_endpoint: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lines = taken + back-orders = minutes = SQL = counts, of every product; vendor orders = crossings; none lost."""
    monkeypatch.setattr(desk, "CATALOGUE_S", 30.0)  # MiniStack looks at each product of a cell to list a shop's
    found = run(told(size, redis_url, dynamodb_endpoint, tmp_path), size.limit_s)
    record_property("ledger", json.dumps(found))
    print(json.dumps(found, indent=1))  # noqa: T201 - the figures of docs/how-to/run-the-shop.md
    assert (found["differences"], found["lost_orders"], found["refused"], found["dead"]) == ([], [], [], [])
    assert (found["orders"], found["shops"], found["products"]) == (size.orders, size.shops, 8 * size.shops)
    assert found["ordered"] == found["taken"] + found["back_ordered"] == found["minutes"] == found["sql"]
    assert found["ordered"] == found["metric"]
    assert found["vendor_orders"] == found["crossings"] > 0
    assert 0.02 < found["twice"] / size.orders < 0.09
    assert {how.partition(",")[0] for how in found["failed_calls"]} == {"stopped", *Stage}, found["failed_calls"]
    assert "killed" in found["replaced"]  # a busy machine may call nobody slow, and leave the slow cell as it is
