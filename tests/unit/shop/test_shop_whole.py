"""Both halves of the shop at once: orders as the API makes them, through the cell's own code, to equal books.

The cell is in memory, and its instances crash between any two writes.
"""

from __future__ import annotations

import random  # noqa: TID251 - seeded
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec
import pytest

from router.core.models import Draft
from router.demo.shop.load import catalogue, wishes
from router.shop.core.items import Metric, Product, SoldLine, VendorOrder, read_item
from router.shop.core.ledger import Books, Ordered, ledger
from router.shop.core.names import order_id
from router.shop.core.orders import ArrivalEvent, Basket, OrderEvent, draft_of, read_order
from router.shop.core.sales import by_minute, of_all_minutes, once, read_lines

api: Any = pytest.importorskip("cell_worker.api")
inside: Any = pytest.importorskip("tests.support.shop_world", reason="the cell's half of the shop is not here")

SEED: Final = 11
SHOPS: Final = 5
ORDERS: Final = 300
T = TypeVar("T")


class WholeShop:
    """A cell with its shops, and what was sent to it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.sent = Ordered()
        self.world = inside.ShopWorld()
        self.now_ms = 1_700_000_000_000
        self.messages = 0
        for goods in catalogue(SHOPS, SEED):
            self.sent.catalogue[goods.shop, goods.product] = goods
            self.world.give(self.event(draft_of(goods)))

    def event(self, draft: Draft) -> Any:
        """Make what a router makes of a message."""
        self.messages += 1
        event_id = draft.attributes.get("event_id", f"message-{self.messages}")
        key = draft.attributes["partition_key"]
        return api.Event(event_id, key, 1, draft.body.encode(), sent_at_ms=self.now_ms)

    def order_all(self) -> None:
        """Customers order, some twice; instances crash; the stream and the vendors come when they come."""
        for wish in wishes(ORDERS, SHOPS, SEED):
            self.now_ms += 700
            raw = msgspec.json.encode(Basket(order_id(self.now_ms, self.rng.random()), wish.customer, wish.lines))
            order = read_order(raw, wish.shop, self.now_ms)
            assert isinstance(order, OrderEvent)
            self.sent.orders[order.shop, order.order_id] = order
            if self.rng.random() < 0.1:
                self.world.table.crash_in = self.rng.randrange(12)
            self.world.give(*[self.event(draft_of(order))] * (2 if wish.twice else 1))
            if self.rng.random() < 0.5:
                self.world.turn()
            if self.rng.random() < 0.3:
                self.deliver()

    def deliver(self) -> bool:
        """Vendors deliver what is new; tells whether anything was."""
        new = [each for each in self.read(VendorOrder, "vendor_order") if (each.shop, each.number) not in self.known]
        for each in new:
            self.sent.arrivals[each.shop, each.number] = (each.shop, each.product), each.quantity
            arrival = ArrivalEvent(each.shop, each.number, each.product, each.quantity, self.now_ms)
            self.world.give(self.event(draft_of(arrival)))
        return bool(new)

    @property
    def known(self) -> set[tuple[str, str]]:
        return set(self.sent.arrivals)

    def rest(self) -> None:
        """Let all trouble end."""
        self.world.settle()
        while self.deliver():
            self.world.settle()

    def items(self) -> Iterator[dict[str, Any]]:
        """Every item of the table, as DynamoDB answers."""
        for item in self.world.table.items.values():
            yield {name: {"N" if isinstance(value, int) else "S": str(value)} for name, value in item.items()}

    def read(self, record: type[T], kind: str) -> list[T]:
        """What the sparse index finds, each of which can be read."""
        found = [read_item(item, record) for item in self.items() if item.get("itemType") == {"S": kind}]
        assert all(isinstance(each, record) for each in found), found
        return [each for each in found if isinstance(each, record)]

    def books(self) -> Books:
        """Read all books, each from where it lies."""
        plain = [read_item(item, SoldLine) for item in self.items() if "itemType" not in item and "quantity" in item]
        raw = b"\n".join(msgspec.json.encode(sale) for sales in self.world.committed.values() for sale in sales)
        rows = read_lines(raw)
        assert isinstance(rows, list)
        sold = of_all_minutes(by_minute(once(rows)))
        return Books(
            products=self.read(Product, "product"),
            lines=[line for line in plain if isinstance(line, SoldLine)],
            vendor_orders=self.read(VendorOrder, "vendor_order"),
            minutes=sold,
            sql=sold,
            metrics={(each.shop, each.name): each.value for each in self.read(Metric, "metric")},
        )


@pytest.mark.parametrize("seed", [1, 2])
def test_every_book_of_every_product_is_equal_whatever_crashed(seed: int) -> None:
    """Nothing lost, nothing twice, no stock below zero, a vendor order for each crossing."""
    shop = WholeShop(seed)
    shop.order_all()
    shop.rest()
    found = ledger(shop.sent, shop.books())
    assert found.differences == []
    assert (found.orders, found.lost_orders) == (ORDERS, [])
    assert found.back_ordered > 0
    assert found.vendor_orders == found.crossings > SHOPS
