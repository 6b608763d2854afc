"""The shop on a street of its own: its queue, its tables and its slot map in memory, without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from botocore.exceptions import ClientError

from cell_worker.contract.http_guard import GuardedApp
from cell_worker.contract.http_server import HttpServer, listen_on
from router.core.models import Draft
from router.core.slot_map.slots import SLOTS, SlotMap
from router.ports import Clock
from router.shop.cells import ShopCells
from router.shop.core.names import key_of_product, table_of
from router.shop.desk import OrderDesk
from router.shop.front import POLICIES, create_shop
from router.shop.tables import ShopTables
from tests.support.fake_clock import FakeClock, play
from tests.support.memory_registry import MemoryRegistry

CELLS: Final = ("cell-0000", "cell-0001")
SHOP: Final = "corner"


class TablesInMemory:
    """The calls of DynamoDB that the shop makes, a page of two items at a time; `down` tables can't be read."""

    def __init__(self) -> None:
        self.items: dict[str, list[dict[str, Any]]] = {table_of("cellrouter", "live", cell): [] for cell in CELLS}
        self.down: set[str] = set()
        self.calls = 0

    async def query(self, **asked: Any) -> dict[str, Any]:
        self.calls += 1
        name, values = asked["TableName"], asked["ExpressionAttributeValues"]
        if name in self.down or name not in self.items:
            code = "ResourceNotFoundException" if name not in self.items else "InternalServerError"
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "Query")
        wanted = [item for item in self.items[name] if self._matches(item, values)]
        start = asked.get("ExclusiveStartKey", {"at": 0})["at"]
        more = {"LastEvaluatedKey": {"at": start + 2}} if len(wanted) > start + 2 else {}
        return {"Items": wanted[start : start + 2], **more}

    def _matches(self, item: dict[str, Any], values: dict[str, Any]) -> bool:
        if ":id" in values:
            return bool(item["PK"] == values[":id"])
        begins = values.get(":begins", {"S": ""})["S"]
        return bool(item.get("itemType") == values[":kind"] and item["PK"]["S"].startswith(begins))


class ShopStreet:
    """The shop with its queue, its tables and its slot map, asked without a server."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.fake = FakeClock()
        self.clock = clock or self.fake
        self.registry = MemoryRegistry(self.clock)
        self.registry.contents.slot_map = SlotMap(1, CELLS * (SLOTS // 2), {SHOP: CELLS[1], "elsewhere": CELLS[1]})
        self.tables = TablesInMemory()
        self.queue: list[Draft] = []
        self.refuses = False
        for product, stock in (("cup", 9), ("tea", 0), ("pot", 2)):
            self.put(CELLS[1], key_of_product(SHOP, product), "product", stock=stock, price_cents=250)
        cells = ShopCells(self.registry.snapshot, self.clock)
        tables = ShopTables("cellrouter", "live", self.tables)
        self.sold: dict[tuple[str, str], int] = {}
        desk = OrderDesk(self.send, cells, tables, self.sold_today, self.clock)
        self.app = GuardedApp(cast("Any", create_shop(desk)), [], "api.allowed_hosts", POLICIES)

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        if self.refuses:
            return list(range(len(drafts)))
        self.queue += drafts
        return []

    async def sold_today(self, _: Any) -> dict[tuple[str, str], int]:
        return self.sold

    def put(self, cell: str, key: str, kind: str, sort: str = "", **values: int | str | bool) -> None:
        typed = {
            name: {"BOOL": value} if isinstance(value, bool) else {"N" if isinstance(value, int) else "S": str(value)}
            for name, value in {"title": "A title", "reorder_level": 3, "reorder_quantity": 10, **values}.items()
        }
        item = {"PK": {"S": key}, "SK": {"S": sort or key}, **({"itemType": {"S": kind}} if kind else {}), **typed}
        self.tables.items[table_of("cellrouter", "live", cell)].append(item)

    def cell_of(self, shop: str) -> str:
        slot_map = self.registry.contents.slot_map
        assert slot_map is not None
        return slot_map.cell_of(shop)

    def order_id(self, off_ms: int = 0) -> str:
        return f"CUSTOMER-ORDER-{self.clock.time_ms() + off_ms}-00ab12cd"

    def basket(self, **changed: Any) -> dict[str, Any]:
        lines = [{"product": "cup", "quantity": 2}, {"product": "tea", "quantity": 1}]
        return {"order_id": self.order_id(), "customer": "Ada", "lines": lines} | changed

    def ask(self, path: str, body: Any = None, kind: str = "application/json", host: str = "localhost") -> Any:
        """Make one request; returns its status, its headers and what it answers."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        where, _, query = path.partition("?")
        scope: dict[str, Any] = {"type": "http", "method": "GET" if body is None else "POST", "path": where}
        scope["query_string"] = query.encode()
        scope["headers"] = [(b"host", host.encode()), (b"content-type", kind.encode())]
        play(self.fake, cast("Any", self.app(scope, receive, send)))
        content = b"".join(message.get("body", b"") for message in sent)
        headers = dict(sent[0]["headers"])
        told = json.loads(content) if headers.get(b"content-type") == b"application/json" else content
        return sent[0]["status"], headers, told


@asynccontextmanager
async def served(street: ShopStreet) -> AsyncIterator[str]:
    """Serve the shop as `cellrouter shop serve` does, and return where."""
    with listen_on("127.0.0.1", 0) as listener:
        app: Any = street.app
        server = HttpServer(app, places=50, goodbye_s=1)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)
