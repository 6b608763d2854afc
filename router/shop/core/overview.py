"""What the operations dashboard shows of one shop, or of all: stock, orders, best sellers, vendor orders. Pure."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from router.shop.core.items import Metric, Product, VendorOrder
from router.shop.core.sales import Goods

MOST_ROWS: Final = 200  # of a list that a person reads
BEST: Final = 10
KEPT_MS: Final = 15 * 60_000
ORDERS: Final = "orders"


@dataclass(frozen=True, slots=True)
class Contents:
    """What the tables' sparse indexes list."""

    products: Sequence[Product] = ()
    metrics: Sequence[Metric] = ()
    vendor_orders: Sequence[VendorOrder] = ()
    unread: int = 0  # items that can't be read
    cells: Sequence[str] = ()  # whose tables were read
    missing: Sequence[str] = ()  # why the tables of others could not be


@dataclass(frozen=True, slots=True)
class StockRow:
    """How much there is of a product."""

    shop: str
    product: str
    title: str
    stock: int
    reorder_level: int
    state: str  # out, low, or enough
    sold: int  # today


@dataclass(frozen=True, slots=True)
class BestSeller:
    """A product, and how many pieces of it were sold."""

    shop: str
    product: str
    title: str
    sold: int


@dataclass(frozen=True, slots=True)
class VendorRow:
    """What is on its way from a vendor, or has arrived."""

    shop: str
    number: str
    product: str
    quantity: int
    at_ms: int
    arrived: bool


@dataclass(frozen=True, slots=True)
class ShopOverview:
    """All that the dashboard shows at one moment."""

    shop: str  # empty: all of them
    shops: Sequence[str]
    cells: Sequence[str]  # whose tables were read
    missing: Sequence[str]  # cells whose tables can't be read now, and why
    orders: int
    orders_a_minute: float | None  # None: not long enough watched
    minutes: Sequence[float]  # the rates of the last quarter of an hour, the oldest first
    pieces: int
    out: int
    low: int
    stock: Sequence[StockRow]
    best: Sequence[BestSeller]
    vendor_orders: Sequence[VendorRow]
    open_vendor_orders: int
    unread: int
    at_ms: int


@dataclass(slots=True)
class OrderHistory:
    """Remembers how many orders each shop had at which moment, for a quarter of an hour."""

    _seen: deque[tuple[int, Mapping[str, int]]] = field(default_factory=deque)

    def add(self, at_ms: int, orders: Mapping[str, int]) -> None:
        """Note how many orders each shop has had by now."""
        self._seen.append((at_ms, orders))
        while self._seen[0][0] < at_ms - KEPT_MS:
            self._seen.popleft()

    def rates(self, shop: str) -> list[float]:
        """Return orders a minute between each two moments, the oldest first; of one shop, or of all for no name."""
        found, seen = list[float](), list(self._seen)
        for (before_ms, before), (at_ms, now) in itertools.pairwise(seen):
            more = max(0, _orders(now, shop) - _orders(before, shop))
            found.append(round(more * 60_000 / max(1, at_ms - before_ms), 1))
        return found


def orders_of(metrics: Iterable[Metric]) -> Mapping[str, int]:
    """Return how many orders each shop has had, by its own metric."""
    return {metric.shop: metric.value for metric in metrics if metric.name == ORDERS}


def overview(
    shop: str, contents: Contents, history: OrderHistory, sold: Mapping[Goods, int], now_ms: int
) -> ShopOverview:
    """Make what is shown of one shop, or of all of them for no name; `sold` are today's pieces."""
    shops = sorted({product.shop for product in contents.products})
    products = [each for each in contents.products if shop in ("", each.shop)]
    vendors = [each for each in contents.vendor_orders if shop in ("", each.shop)]
    rates = history.rates(shop)
    rows = sorted((_row(each, sold) for each in products), key=_urgency)
    return ShopOverview(
        shop=shop,
        shops=shops[:MOST_ROWS],
        cells=contents.cells,
        missing=contents.missing,
        orders=_orders(orders_of(contents.metrics), shop),
        orders_a_minute=rates[-1] if rates else None,
        minutes=rates[-90:],
        pieces=sum(each.stock for each in products),
        out=sum(row.state == "out" for row in rows),
        low=sum(row.state == "low" for row in rows),
        stock=rows[:MOST_ROWS],
        best=best_sellers(rows),
        vendor_orders=[_vendor(each) for each in sorted(vendors, key=lambda each: (each.arrived, -each.at_ms))][:50],
        open_vendor_orders=sum(not each.arrived for each in vendors),
        unread=contents.unread,
        at_ms=now_ms,
    )


def best_sellers(rows: Iterable[StockRow]) -> list[BestSeller]:
    """Return what was sold most, the most first; nothing that was never sold."""
    found = sorted((row for row in rows if row.sold > 0), key=lambda row: (-row.sold, row.shop, row.product))
    return [BestSeller(row.shop, row.product, row.title, row.sold) for row in found[:BEST]]


def _orders(orders: Mapping[str, int], shop: str) -> int:
    return orders.get(shop, 0) if shop else sum(orders.values())


def _row(product: Product, sold: Mapping[Goods, int]) -> StockRow:
    state = "out" if product.stock <= 0 else "low" if product.stock <= product.reorder_level else "enough"
    pieces = sold.get((product.shop, product.product), 0)
    return StockRow(product.shop, product.product, product.title, product.stock, product.reorder_level, state, pieces)


def _urgency(row: StockRow) -> tuple[int, str, str]:
    return ("out", "low", "enough").index(row.state), row.shop, row.product


def _vendor(order: VendorOrder) -> VendorRow:
    return VendorRow(order.shop, order.number, order.product, order.quantity, order.at_ms, order.arrived)
