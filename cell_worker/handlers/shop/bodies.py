"""The bodies of a shop's events, as they may come. What is not so is rejected."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

MAX_LINES: Final = 50
"""Of one order: it is written in one transaction, and a transaction has at most 100 items."""
MAX_COUNT: Final = 1_000_000_000
LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999."""

ShopName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}\Z")]
CustomerName = Annotated[str, msgspec.Meta(pattern=r"^(?=.*\S)[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,80}\Z")]
"""As people write their names: in any script, in one line."""
OrderId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Quantity = Annotated[int, msgspec.Meta(ge=1, le=999)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
TimeMs = Annotated[int, msgspec.Meta(ge=0, le=LAST_MS)]


class OrderedLine(msgspec.Struct, frozen=True):
    """One line of an order: a product, and how many of it."""

    product: Name
    quantity: Quantity


class Order(msgspec.Struct, frozen=True, tag="order"):
    """A customer orders. The id is the client's, so that a double click is one order."""

    shop: ShopName
    order_id: OrderId
    customer: CustomerName
    lines: Annotated[tuple[OrderedLine, ...], msgspec.Meta(min_length=1, max_length=MAX_LINES)]
    at_ms: TimeMs


class Arrival(msgspec.Struct, frozen=True, tag="arrival"):
    """What a vendor was asked for arrives."""

    shop: ShopName
    vendor_order: Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[^#]+\Z")]
    product: Name
    quantity: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
    at_ms: TimeMs


class Product(msgspec.Struct, frozen=True, tag="product"):
    """The catalogue gets a product, or new words and figures for one."""

    shop: ShopName
    product: Name
    title: Title
    price_cents: Count
    stock: Count
    reorder_level: Count
    reorder_quantity: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]


ShopEvent = Order | Arrival | Product
