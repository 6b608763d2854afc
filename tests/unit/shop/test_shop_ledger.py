"""The shop's ledger finds whatever differs, and nothing where all is equal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.shop.core.items import Product, SoldLine, VendorOrder
from router.shop.core.ledger import Books, Ordered, differences, ledger, why_not_countable
from router.shop.core.orders import OrderEvent, OrderLine, ProductEvent
from router.shop.core.sales import SaleRow, by_minute, of_all_minutes, once

LEVEL, BATCH, BEGIN = 3, 10, 8
GOODS = [(shop, product) for shop in ("a-shop", "b-shop") for product in ("cup", "tea")]


@dataclass
class Shop:
    """A shop as it should be: takes what there is, and has the vendor send more at once or never."""

    sent: Ordered = field(default_factory=Ordered)
    stock: dict[tuple[str, str], int] = field(default_factory=dict)
    waits: dict[tuple[str, str], str] = field(default_factory=dict)
    lines: list[SoldLine] = field(default_factory=list)
    vendor: list[VendorOrder] = field(default_factory=list)

    def __post_init__(self) -> None:
        for shop, product in GOODS:
            self.sent.catalogue[shop, product] = ProductEvent(shop, product, product, 100, BEGIN, LEVEL, BATCH)
            self.stock[shop, product] = BEGIN

    def order(self, goods: tuple[str, str], quantity: int, at_ms: int) -> None:
        shop, product = goods
        number = f"CUSTOMER-ORDER-{len(self.lines):013d}-0000"
        self.sent.orders[shop, number] = OrderEvent(shop, number, "Ada", (OrderLine(product, quantity),), at_ms)
        taken, before = min(quantity, self.stock[goods]), self.stock[goods]
        self.stock[goods] -= taken
        self.lines.append(SoldLine(number, "0001", shop, product, product, quantity, 100, taken, quantity - taken))
        if before > LEVEL >= self.stock[goods]:
            self.waits[goods] = f"v{len(self.vendor)}"
            self.vendor.append(VendorOrder(f"{shop}#VENDOR#{self.waits[goods]}", product, BATCH))

    def arrive(self, goods: tuple[str, str]) -> None:
        if (number := self.waits.pop(goods, None)) is not None:
            self.sent.arrivals[goods[0], number] = goods, BATCH
            self.stock[goods] += BATCH

    def rows(self) -> list[SaleRow]:
        return [
            SaleRow(each.shop, each.product, each.PK, 1, each.quantity, each.taken, each.back_ordered, 100, place)
            for place, each in enumerate(self.lines)
        ]

    def books(self) -> Books:
        sold = of_all_minutes(by_minute(once([*self.rows(), *self.rows()])))
        products = [
            Product(f"{shop}#{product}", product, 100, self.stock[shop, product], LEVEL, BATCH)
            for shop, product in GOODS
        ]
        metrics = {
            (shop, name): value
            for shop in ("a-shop", "b-shop")
            for name, value in {
                "orders": sum(line.shop == shop for line in self.lines),
                "ordered": sum(line.quantity for line in self.lines if line.shop == shop),
                "taken": sum(line.taken for line in self.lines if line.shop == shop),
                "back_ordered": sum(line.back_ordered for line in self.lines if line.shop == shop),
                "vendor_orders": sum(order.shop == shop for order in self.vendor),
            }.items()
        }
        return Books(products, list(self.lines), list(self.vendor), sold, dict(sold), metrics)


deeds = st.lists(st.tuples(st.sampled_from(GOODS), st.integers(0, 12)), max_size=40)


def played(done: list[tuple[tuple[str, str], int]]) -> Shop:
    """Play orders; a quantity of 0 stands for the vendor, who comes."""
    shop = Shop()
    for place, (goods, quantity) in enumerate(done):
        shop.order(goods, quantity, place) if quantity else shop.arrive(goods)
    return shop


@given(deeds)
def test_books_that_are_kept_well_are_equal(done: list[tuple[tuple[str, str], int]]) -> None:
    """Whatever was ordered, and whenever the vendor came: crossings are counted right from outside too."""
    shop = played(done)
    found = ledger(shop.sent, shop.books())
    assert found.differences == []
    assert found.vendor_orders == found.crossings
    assert found.ordered == found.taken + found.back_ordered == found.minutes == found.sql == found.metric


def test_what_visitors_order_while_it_runs_is_in_all_books_and_is_nobodys_fault() -> None:
    """Without them it is an order that nobody has placed; in a shop that nobody has opened it stays one."""
    shop = played([(("a-shop", "cup"), 6), (("b-shop", "tea"), 9), (("a-shop", "cup"), 1)])
    everything = dict(shop.sent.orders)
    visitor = next(iter(shop.sent.orders))
    del shop.sent.orders[visitor]
    books = shop.books()
    assert any("nobody has placed" in line for line in differences(shop.sent, books))
    everybody = shop.sent.with_visitors(books.lines)
    assert differences(everybody, books) == []
    assert everybody.orders.keys() == everything.keys()
    strange = [*books.lines, msgspec.structs.replace(books.lines[0], shop="c-shop")]
    assert any(
        "c-shop" in line for line in differences(shop.sent.with_visitors(strange), replace(books, lines=strange))
    )


WRONG: dict[str, Any] = {
    "a lost order": lambda books: replace(books, lines=books.lines[1:]),
    "an order twice": lambda books: replace(books, lines=[*books.lines, books.lines[0]]),
    "an order of nobody": lambda books: replace(
        books, lines=[*books.lines, msgspec.structs.replace(books.lines[0], PK="CUSTOMER-ORDER-9")]
    ),
    "a piece taken twice": lambda books: replace(books, products=_less_of(books, 1)),
    "a negative stock": lambda books: replace(books, products=_less_of(books, 100)),
    "a lost product": lambda books: replace(
        books, products=[each for each in books.products if each.PK != "a-shop#cup"]
    ),
    "a vendor order too many": lambda books: replace(
        books, vendor_orders=[*books.vendor_orders, VendorOrder("a-shop#VENDOR#x", "cup", BATCH)]
    ),
    "a vendor order too few": lambda books: replace(books, vendor_orders=books.vendor_orders[1:]),
    "a lost minute": lambda books: replace(books, minutes={}),
    "SQL that counts twice": lambda books: replace(books, sql={goods: 2 * n for goods, n in books.sql.items()}),
    "a metric orders that is behind": lambda books: replace(
        books, metrics=books.metrics | {("a-shop", "orders"): books.metrics["a-shop", "orders"] - 1}
    ),
    "a metric ordered that is behind": lambda books: replace(
        books, metrics=books.metrics | {("a-shop", "ordered"): books.metrics["a-shop", "ordered"] - 1}
    ),
    "a metric taken that is behind": lambda books: replace(
        books, metrics=books.metrics | {("a-shop", "taken"): books.metrics["a-shop", "taken"] - 1}
    ),
    "a metric back_ordered that is behind": lambda books: replace(
        books, metrics=books.metrics | {("a-shop", "back_ordered"): books.metrics["a-shop", "back_ordered"] - 1}
    ),
    "a metric vendor_orders that is behind": lambda books: replace(
        books, metrics=books.metrics | {("a-shop", "vendor_orders"): books.metrics["a-shop", "vendor_orders"] - 1}
    ),
    "a line that nobody has settled": lambda books: replace(
        books, lines=[msgspec.structs.replace(books.lines[0], taken=0), *books.lines[1:]]
    ),
}


def _less_of(books: Books, pieces: int) -> list[Product]:
    return [
        msgspec.structs.replace(each, stock=each.stock - pieces) if each.PK == "a-shop#cup" else each
        for each in books.products
    ]


@pytest.mark.parametrize("what", WRONG)
@given(done=deeds)
def test_whatever_is_wrong_is_said_of_its_product_and_shop(what: str, done: list[tuple[tuple[str, str], int]]) -> None:
    """One fault in any of the books, whatever else has happened."""
    shop = played([(("a-shop", "cup"), 6), *done])
    told = differences(shop.sent, WRONG[what](shop.books()))
    assert told
    assert all("a-shop" in line or "CUSTOMER-ORDER" in line or len(told) > 1 for line in told)
    assert any("cup of a-shop: " in line or "a-shop: its metric" in line for line in told)


def test_a_catalogue_whose_crossings_nobody_could_count_is_refused() -> None:
    """What begins at its reorder level, or of which too little is ordered, would cross it unseen."""
    good = ProductEvent("a", "cup", "", 1, 5, 3, 4)
    assert why_not_countable(good) is None
    assert why_not_countable(msgspec.structs.replace(good, stock=3)) is not None
    assert why_not_countable(msgspec.structs.replace(good, reorder_quantity=3)) is not None
