"""What customers, the vendor and the set-up send: strictly read, then an event on the router's queue. Pure.

An order's id says when it was placed, and the event takes its time from there. So the second click on a button makes
byte for byte the same event, which the cell knows by its shop and its id.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from cell_worker.contract.strict_reader import StrictReader, Unreadable
from router.core.models import Draft, Reason
from router.shop.core.names import order_id, placed_at_ms, why_no_customer, why_no_product, why_no_shop

MAX_LINES: Final = 25
MAX_QUANTITY: Final = 999
MAX_ORDER_BYTES: Final = 16 * 1024
CLOCK_MS: Final = 600_000
"""How far the time in an order's id may be from the API's clock: storefronts go by the time that it tells them."""


class OrderLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many of one product, in an order."""

    product: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    quantity: Annotated[int, msgspec.Meta(ge=1, le=MAX_QUANTITY)]


class Basket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a customer sends to `POST /shops/{shop}/orders`."""

    order_id: Annotated[str, msgspec.Meta(max_length=100)]
    customer: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    lines: Annotated[tuple[OrderLine, ...], msgspec.Meta(min_length=1, max_length=MAX_LINES)]


class OrderEvent(msgspec.Struct, frozen=True, tag_field="type", tag="order"):
    """An order, as its shop's cell gets it."""

    shop: str
    order_id: str
    customer: str
    lines: tuple[OrderLine, ...]
    at_ms: int


class ProductEvent(msgspec.Struct, frozen=True, tag_field="type", tag="product"):
    """A product that a shop sells from now on."""

    shop: str
    product: str
    title: str
    price_cents: int
    stock: int
    reorder_level: int
    reorder_quantity: int


class ArrivalEvent(msgspec.Struct, frozen=True, tag_field="type", tag="arrival"):
    """What was ordered from the vendor has arrived."""

    shop: str
    vendor_order: str
    product: str
    quantity: int
    at_ms: int


_BASKET: Final[StrictReader[Basket]] = StrictReader("shop basket", Basket, MAX_ORDER_BYTES)
_encode = msgspec.json.Encoder().encode


def read_order(raw: bytes, shop: str, now_ms: int) -> OrderEvent | Unreadable:
    """Return the order that a customer's bytes hold, or the reason why they hold none. Never raises."""
    if (why := why_no_shop(shop)) is not None:
        return Unreadable(why)
    basket = _BASKET.read(raw)
    if isinstance(basket, Unreadable):
        return basket
    at_ms = placed_at_ms(basket.order_id)
    if at_ms is None:
        return Unreadable(f"order_id must be as {order_id(now_ms, 0.5)}: the time in ms, and some hex digits by chance")
    if (why := _why_no_order(basket, at_ms, now_ms)) is not None:
        return Unreadable(why)
    return OrderEvent(shop, basket.order_id, basket.customer, basket.lines, at_ms)


def _why_no_order(basket: Basket, at_ms: int, now_ms: int) -> Reason | None:
    if abs(at_ms - now_ms) > CLOCK_MS:
        return "the time in order_id is more than 10 minutes off: take now_ms of the shop's products for it"
    if (why := why_no_customer(basket.customer)) is not None:
        return why
    seen: set[str] = set()
    for line in basket.lines:
        if (why := why_no_product(line.product)) is not None:
            return why
        if line.product in seen:
            return f"{line.product} is in two lines: put both quantities into one"
        seen.add(line.product)
    return None


def draft_of(event: OrderEvent | ProductEvent | ArrivalEvent) -> Draft:
    """Make the message of an event: its shop is the partition key, and its id is the same each time it is sent.

    A product has none but its message's: the same words may come again after others, and the last ones count.
    """
    attributes = {"partition_key": event.shop}
    match event:
        case OrderEvent():
            attributes["event_id"] = event.order_id
        case ArrivalEvent():
            attributes["event_id"] = f"arrival-{event.vendor_order}"
    return Draft(_encode(event).decode(), attributes)
