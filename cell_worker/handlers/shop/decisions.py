"""What a shop decides: an event and the items that were read become writes, or a reason. Nothing here calls anything.

What always holds, however often and in whatever order events and changes come:

- An order is there with all its lines, or not at all.
- A line is settled once: its quantity = what was taken + what is back-ordered. Stock is never below zero.
- A product is low at its reorder level or below. That it gets low is a crossing, and so is a delivery that leaves it
  low. Each crossing makes one order to the vendor.
- Every total is what its shop's settled lines add up to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cell_worker.api import ItemKey, Put, TableItem, key_in
from cell_worker.handlers.shop.bodies import Arrival, Order, Product
from cell_worker.handlers.shop.items import (
    METRICS,
    line_key,
    metric_key,
    number,
    order_key,
    product_key,
    sale,
    vendor_key,
)

Found = Mapping[ItemKey, TableItem]
"""The items that were read, by their keys."""
MAX_TOGETHER: Final = 16
"""Lines that are settled in one transaction: each writes a line, a product, an order and a vendor order at most."""


class UnknownProductError(Exception):
    """The shop has no such product, or not yet: the catalogue's event may still come."""


class ConflictError(Exception):
    """What was asked can never be, given what the table has; the text says why."""


def for_order(order: Order) -> list[ItemKey]:
    """Return the keys of what is to be read for an order."""
    products = (product_key(order.shop, line.product) for line in order.lines)
    return list(dict.fromkeys([order_key(order.order_id), *products]))


def place(order: Order, found: Found) -> list[Put]:
    """Write an order with its lines, all new; nothing when it is there. Raises UnknownProductError, ConflictError."""
    if (there := found.get(order_key(order.order_id))) is not None:
        if (there.get("shop"), there.get("customer")) != (order.shop, order.customer):
            raise ConflictError(f"order {order.order_id} is there, of another shop or customer: an id is for one order")
        return []
    common: dict[str, str | int] = {"shop": order.shop, "customer": order.customer, "at_ms": order.at_ms}
    state = order_key(order.order_id).of(**common, lines=len(order.lines), settled=0, back_ordered=0, state="accepted")
    puts = [Put(state)]
    for line, ordered in enumerate(order.lines, start=1):
        product = found.get(product_key(order.shop, ordered.product))
        if product is None:
            raise UnknownProductError(f"shop {order.shop} has no product {ordered.product}")
        then: dict[str, str | int] = {
            "product": ordered.product,
            "title": product["title"],
            "price_cents": product["price_cents"],
        }
        puts.append(Put(line_key(order.order_id, line).of(**common, **then, quantity=ordered.quantity)))
    return puts


def for_product(product: Product) -> list[ItemKey]:
    """Return the keys of what is to be read for an event of the catalogue."""
    return [product_key(product.shop, product.product), metric_key(product.shop, "vendor_orders")]


def offer(product: Product, found: Found, now_ms: int) -> list[Put]:
    """Put a product into the catalogue. One that is there gets the new words and figures, and keeps its stock."""
    drafts = _Drafts(found)
    key = product_key(product.shop, product.product)
    before = found.get(key)
    words = {"shop": product.shop, "product": product.product, "title": product.title, "itemType": "product"}
    drafts.items[key] = key.of(
        **words,
        price_cents=product.price_cents,
        stock=product.stock if before is None else number(before, "stock"),
        reorder_level=product.reorder_level,
        reorder_quantity=product.reorder_quantity,
        crossings=0 if before is None else number(before, "crossings"),
    )
    if (before is None or not _is_low(before)) and _is_low(drafts.items[key]):
        drafts.reorder(key, now_ms)
    return drafts.puts()


def for_arrival(arrival: Arrival) -> list[ItemKey]:
    """Return the keys of what is to be read for a delivery."""
    asked, product = vendor_key(arrival.shop, arrival.vendor_order), product_key(arrival.shop, arrival.product)
    return [asked, product, metric_key(arrival.shop, "vendor_orders")]


def deliver(arrival: Arrival, found: Found) -> list[Put]:
    """Raise the stock by what has arrived; nothing when it has arrived before. Raises ConflictError."""
    key, of = vendor_key(arrival.shop, arrival.vendor_order), product_key(arrival.shop, arrival.product)
    asked, product = found.get(key), found.get(of)
    if asked is None or product is None:
        raise ConflictError(f"shop {arrival.shop} has made no vendor order {arrival.vendor_order}")
    if (asked["product"], asked["quantity"]) != (arrival.product, arrival.quantity):
        what = f"{asked['quantity']} of {asked['product']}"
        raise ConflictError(f"vendor order {arrival.vendor_order} is for {what}: deliver that, all at once")
    if asked["state"] == "arrived":
        return []
    drafts = _Drafts(found)
    drafts.change(key, state="arrived", arrived_ms=arrival.at_ms)
    drafts.change(of, stock=number(product, "stock") + arrival.quantity)
    if _is_low(drafts.items[of]):
        drafts.reorder(of, arrival.at_ms)
    return drafts.puts()


@dataclass(frozen=True, slots=True)
class Settlement:
    """What settling lines comes to: what to write, and what the sales get once that is written."""

    puts: Sequence[Put]
    sales: Sequence[Mapping[str, Any]]


def for_lines(lines: Sequence[TableItem]) -> list[ItemKey]:
    """Return the keys of what is to be read to settle at most MAX_TOGETHER lines of one shop, the lines included."""
    keys = [key_in(line) for line in lines]
    keys += [order_key(str(line["PK"])) for line in lines]
    keys += [product_key(str(line["shop"]), str(line["product"])) for line in lines]
    keys += [metric_key(shop, name) for shop in {str(line["shop"]) for line in lines} for name in METRICS]
    return list(dict.fromkeys(keys))


def settle(lines: Sequence[ItemKey], found: Found) -> Settlement:
    """Take from the stock what lines of one shop ask for, as far as it goes. Settled lines stay as they are."""
    drafts = _Drafts(found)
    keys = [key for key in dict.fromkeys(lines) if key in found and order_key(key.pk) in found]
    for key in keys:
        if "taken" not in found[key]:
            _settle_line(key, drafts)
    return Settlement(drafts.puts(), [sale(drafts.items[key]) for key in keys])


def _settle_line(key: ItemKey, drafts: _Drafts) -> None:
    line = drafts.items[key]
    shop, quantity = str(line["shop"]), number(line, "quantity")
    of = product_key(shop, str(line["product"]))
    product = drafts.items.get(of, {})
    taken = min(quantity, number(product, "stock"))
    drafts.change(key, taken=taken, back_ordered=quantity - taken)
    if taken:
        drafts.change(of, stock=number(product, "stock") - taken)
        if not _is_low(product) and _is_low(drafts.items[of]):
            drafts.reorder(of, number(line, "at_ms"))
    drafts.count(shop, ordered=quantity, taken=taken, back_ordered=quantity - taken)
    order = drafts.items[order_key(key.pk)]
    settled, missing = number(order, "settled") + 1, number(order, "back_ordered") + quantity - taken
    whole = settled == number(order, "lines")
    drafts.change(order_key(key.pk), settled=settled, back_ordered=missing, state="done" if whole else "accepted")
    if whole:
        drafts.count(shop, orders=1)


def _is_low(product: TableItem) -> bool:
    return number(product, "stock") <= number(product, "reorder_level")


@dataclass(slots=True)
class _Drafts:
    """Items as they are to become, beside those that were read."""

    found: Found
    items: dict[ItemKey, TableItem] = field(init=False)

    def __post_init__(self) -> None:
        self.items = dict(self.found)

    def change(self, key: ItemKey, **attributes: str | int) -> None:
        self.items[key] = {**self.items[key], **attributes}

    def count(self, shop: str, **more: int) -> None:
        for name, by in ((name, by) for name, by in more.items() if by):
            key = metric_key(shop, name)
            value = number(self.items.get(key, {}), "value") + by
            self.items[key] = key.of(itemType="metric", shop=shop, name=name, value=value)

    def reorder(self, key: ItemKey, at_ms: int) -> None:
        """Make the vendor order of one more crossing of a product."""
        product = self.items[key]
        crossings, shop = number(product, "crossings") + 1, str(product["shop"])
        self.change(key, crossings=crossings)
        vendor_order = f"{product['product']}-{crossings:06}"
        to = vendor_key(shop, vendor_order)
        asked = {"shop": shop, "vendor_order": vendor_order, "product": product["product"], "state": "open"}
        self.items[to] = to.of(**asked, quantity=product["reorder_quantity"], at_ms=at_ms, itemType="vendor_order")
        self.count(shop, vendor_orders=1)

    def puts(self) -> list[Put]:
        """Return the writes of all that is not as it was read."""
        return [Put(item, self.found.get(key)) for key, item in self.items.items() if item != self.found.get(key)]
