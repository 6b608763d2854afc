"""The shop's ledger: whether every book says the same of every product of every shop, or a sentence where not. Pure.

It trusts no counter of the software under test. What was ordered is known to who has ordered it. The tables' order
lines, their stock, the vendor orders, the sales by minute, the answer of SQL and the shops' own metric are read apart
from one another, and each of them has to come to the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from router.shop.core.items import Product, SoldLine, VendorOrder
from router.shop.core.orders import OrderEvent, OrderLine, ProductEvent
from router.shop.core.sales import Goods

METRICS: Final = ("orders", "ordered", "taken", "back_ordered", "vendor_orders")
"""What each shop counts of itself."""


@dataclass(slots=True)
class Ordered:
    """What has been sent, and counts once however often it was sent."""

    catalogue: dict[Goods, ProductEvent] = field(default_factory=dict)
    orders: dict[tuple[str, str], OrderEvent] = field(default_factory=dict)  # by shop and order id
    arrivals: dict[tuple[str, str], tuple[Goods, int]] = field(default_factory=dict)  # by shop and vendor order

    def quantities(self) -> Counter[Goods]:
        """Add up what was ordered of each product of each shop."""
        found: Counter[Goods] = Counter()
        for order in self.orders.values():
            for line in order.lines:
                found[order.shop, line.product] += line.quantity
        return found

    def with_visitors(self, lines: Iterable[SoldLine]) -> Ordered:
        """Return what was sent, and beside it what others have ordered meanwhile in the same shops.

        Nobody but the table knows of these orders. But what they have ordered is in all other books too.
        """
        shops = {shop for shop, _ in self.catalogue}
        found: dict[tuple[str, str], Counter[str]] = {}
        for line in lines:
            if line.shop in shops and (line.shop, line.PK) not in self.orders:
                found.setdefault((line.shop, line.PK), Counter())[line.product] += line.quantity
        visitors = {
            (shop, order): OrderEvent(shop, order, "", tuple(OrderLine(*each) for each in pieces.items()), 0)
            for (shop, order), pieces in found.items()
        }
        return Ordered(self.catalogue, self.orders | visitors, self.arrivals)

    def arrived(self) -> Counter[Goods]:
        """Add up what the vendor has delivered of each product of each shop."""
        found: Counter[Goods] = Counter()
        for goods, quantity in self.arrivals.values():
            found[goods] += quantity
        return found


@dataclass(frozen=True, slots=True)
class Books:
    """What is read from the cells' tables and from the objects, once all has come to rest."""

    products: Sequence[Product]
    lines: Sequence[SoldLine]
    vendor_orders: Sequence[VendorOrder]
    minutes: Mapping[Goods, int]  # the sum of all minutes' sales
    sql: Mapping[Goods, int]  # what SUM(quantity) … GROUP BY shop, product answers
    metrics: Mapping[tuple[str, str], int]  # the shops' own counts, by shop and name


@dataclass(frozen=True, slots=True)
class ShopLedger:
    """The totals of all shops, and where books differ: the keys of `cellrouter demo shop --json`."""

    shops: int
    products: int
    orders: int
    lost_orders: Sequence[str]
    ordered: int  # pieces
    taken: int
    back_ordered: int
    minutes: int
    sql: int
    metric: int  # pieces ordered, as the shops count them
    vendor_orders: int
    crossings: int
    differences: Sequence[str]


def ledger(sent: Ordered, books: Books) -> ShopLedger:
    """Add up all books, and say where they differ."""
    crossed = crossings(sent, books.products)
    return ShopLedger(
        shops=len({shop for shop, _ in sent.catalogue}),
        products=len(sent.catalogue),
        orders=len(sent.orders),
        lost_orders=_lost(sent, books.lines),
        ordered=sent.quantities().total(),
        taken=sum(line.taken for line in books.lines),
        back_ordered=sum(line.back_ordered for line in books.lines),
        minutes=sum(books.minutes.values()),
        sql=sum(books.sql.values()),
        metric=sum(value for (_, name), value in books.metrics.items() if name == "ordered"),
        vendor_orders=len(books.vendor_orders),
        crossings=crossed.total(),
        differences=differences(sent, books),
    )


def differences(sent: Ordered, books: Books) -> list[str]:
    """Say of each product of each shop where its books differ, in order of their names; nothing when all is equal."""
    told = [f"order {order} is lost: no table has a line of it" for order in _lost(sent, books.lines)]
    told += _of_lines(sent, books.lines)
    ordered, arrived, crossed = sent.quantities(), sent.arrived(), crossings(sent, books.products)
    taken, back = _summed(books.lines, "taken"), _summed(books.lines, "back_ordered")
    lines, vendors = _summed(books.lines, "quantity"), _vendors(books.vendor_orders)
    now = {(product.shop, product.product): product for product in books.products}
    everything = sent.catalogue.keys() | now.keys() | ordered.keys() | lines.keys() | vendors.keys()
    for goods in sorted(everything | books.minutes.keys() | books.sql.keys()):
        told += _stock(goods, sent, now.get(goods), taken[goods], arrived[goods])
        told += _compared(
            goods,
            ("the order lines", lines[goods], ordered[goods], "ordered"),
            ("taken and back-ordered together", taken[goods] + back[goods], ordered[goods], "ordered"),
            ("the minutes' sales", books.minutes.get(goods, 0), ordered[goods], "ordered"),
            ("SQL", books.sql.get(goods, 0), ordered[goods], "ordered"),
            ("the vendor", vendors[goods], crossed[goods], "crossings of the reorder level"),
        )
    return told + _metrics(sent, books)


def crossings(sent: Ordered, products: Iterable[Product]) -> Counter[Goods]:
    """Count how often each stock has come down to its reorder level, from what is known of it outside.

    It begins above its level, and what arrives brings it above again: so `why_not_countable` has to be None. Then a
    crossing and an arrival take turns, and the last crossing still waits where the stock is not above its level now.
    """
    times = Counter(goods for goods, _ in sent.arrivals.values())
    return Counter(
        {
            goods: times[goods] + (each.stock <= each.reorder_level)
            for each in products
            if (goods := (each.shop, each.product)) in sent.catalogue
        }
    )


def why_not_countable(product: ProductEvent) -> str | None:
    """Say why crossings of a product can't be counted from outside; None when they can."""
    if product.stock > product.reorder_level < product.reorder_quantity:
        return None
    return f"{product.shop} {product.product}: stock and reorder_quantity must be above reorder_level"


def _lost(sent: Ordered, lines: Iterable[SoldLine]) -> list[str]:
    there = {(line.shop, line.PK) for line in lines}
    return sorted(order for shop, order in sent.orders if (shop, order) not in there)


def _of_lines(sent: Ordered, lines: Iterable[SoldLine]) -> list[str]:
    """Say which orders nobody has placed, and which are there in part only."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for line in lines:
        found.setdefault((line.shop, line.PK), Counter())[line.product] += line.quantity
    told = []
    for (shop, order), there in sorted(found.items()):
        if (shop, order) not in sent.orders:
            told.append(f"{shop}: the table has order {order}, which nobody has placed")
        elif there != (wanted := {each.product: each.quantity for each in sent.orders[shop, order].lines}):
            told.append(f"{shop}: order {order} has {dict(sorted(there.items()))}, and {wanted} was ordered")
    return told


def _stock(goods: Goods, sent: Ordered, now: Product | None, taken: int, arrived: int) -> list[str]:
    if now is None:
        return [f"{_named(goods)}: it is in no table"] if goods in sent.catalogue else []
    if goods not in sent.catalogue:
        return [f"{_named(goods)}: the table has it, and nobody has put it into the catalogue"]
    begun = sent.catalogue[goods].stock
    told = [f"{_named(goods)}: its stock is {now.stock}, below zero"] if now.stock < 0 else []
    if now.stock != begun - taken + arrived:
        told.append(
            f"{_named(goods)}: its stock is {now.stock}, and {begun} at first, less {taken} taken, and {arrived} "
            f"arrived make {begun - taken + arrived}"
        )
    return told


def _compared(goods: Goods, *pairs: tuple[str, int, int, str]) -> list[str]:
    return [f"{_named(goods)}: {book} say {said}, {known} {what}" for book, said, known, what in pairs if said != known]


def _metrics(sent: Ordered, books: Books) -> list[str]:
    """Say which of a shop's own counts is not what its books add up to."""
    known: Counter[tuple[str, str]] = Counter((shop, "orders") for shop, _ in sent.orders)
    for (shop, _), quantity in sent.quantities().items():
        known[shop, "ordered"] += quantity
    for line in books.lines:
        known[line.shop, "taken"] += line.taken
        known[line.shop, "back_ordered"] += line.back_ordered
    for order in books.vendor_orders:
        known[order.shop, "vendor_orders"] += 1
    return [
        f"{shop}: its metric {name} is {books.metrics.get((shop, name), 0)}, and {known[shop, name]} is right"
        for shop in sorted({shop for shop, _ in sent.catalogue})
        for name in METRICS
        if books.metrics.get((shop, name), 0) != known[shop, name]
    ]


def _summed(lines: Iterable[SoldLine], what: str) -> Counter[Goods]:
    found: Counter[Goods] = Counter()
    for line in lines:
        found[line.shop, line.product] += getattr(line, what)
    return found


def _vendors(orders: Iterable[VendorOrder]) -> Counter[Goods]:
    return Counter((order.shop, order.product) for order in orders)


def _named(goods: Goods) -> str:
    return f"{goods[1]} of {goods[0]}"
