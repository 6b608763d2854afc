"""How things of the shop are named: shops, products, orders, and the keys of their items in a cell's table. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from cell_worker.contract.protocol import resource_name
from router.core.models import Reason

PRODUCT: Final = "product"
METRIC: Final = "metric"
VENDOR_ORDER: Final = "vendor_order"
"""The kinds of items that the sparse index lists; order lines have no kind, so that it stays small."""
KIND: Final = "itemType"
INDEX: Final = "itemType-index"
SALES: Final = "sales/"
"""Where the objects with sales begin in a cell's bucket."""
ORDER_PREFIX: Final = "CUSTOMER-ORDER-"
_SHOP: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}", re.ASCII)
_PRODUCT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}", re.ASCII)  # as cells take it
_MAX_CUSTOMER_CHARS: Final = 80
_BY_HOUR: Final = re.compile(r"2[0-9]{3}/[0-9]{2}/[0-9]{2}/[0-9]{2}/", re.ASCII)
_ORDER_ID: Final = re.compile(r"[A-Z0-9][A-Z0-9-]{0,39}-ORDER-([0-9]{13})-[0-9a-f]{4,16}", re.ASCII)


def why_no_shop(name: str) -> Reason | None:
    """Say why a text can't name a shop; None when it can."""
    if _SHOP.fullmatch(name) is not None:
        return None
    return f"the shop {name[:60]!r} is no name: use 1 to 40 small letters, digits and hyphens"


def why_no_product(name: str) -> Reason | None:
    """Say why a text can't name a product; None when it can."""
    if _PRODUCT.fullmatch(name) is not None:
        return None
    allowed = "1 to 64 of the letters A to Z, digits, spaces, dots, hyphens and underlines"
    return f"the product {name[:60]!r} is no name: use {allowed}"


def why_no_customer(name: str) -> Reason | None:
    """Say why a text can't name a customer; None when it can, in whatever script people write it."""
    if 0 < len(name) <= _MAX_CUSTOMER_CHARS and name.isprintable() and not name.isspace():
        return None
    return f"customer must be a name of 1 to {_MAX_CUSTOMER_CHARS} characters, all of which can be seen"


def placed_at_ms(order_id: str) -> int | None:
    """Return when an order was placed, which its id says; None for what is no order's id."""
    found = _ORDER_ID.fullmatch(order_id)
    return int(found[1]) if found is not None else None


def order_id(at_ms: int, chance: float) -> str:
    """Make the id of an order: `chance` is a random number in [0, 1)."""
    return f"{ORDER_PREFIX}{at_ms:013d}-{int(chance * 2**32):08x}"


def table_of(prefix: str, environment: str, cell_id: str) -> str:
    """Return the name of the table that a cell's shops lie in."""
    return f"{resource_name(prefix, environment, cell_id)}-shop"


def key_of_product(shop: str, product: str) -> str:
    """Return the key of a product's item, which is both its PK and its SK."""
    return f"{shop}#{product}"


@dataclass(frozen=True, slots=True)
class Listing:
    """Where objects with sales may lie in a cell's bucket: those with this prefix, and with this part of their key."""

    prefix: str
    after: str = ""  # keys up to here hold none
    part: str = ""


def listings(shops: Collection[str] = (), day: str = "") -> list[Listing]:
    """Say where the sales of these shops and this day may lie; of any for none.

    Sales lie by shop, day and hour where the stream sorts them, else by the hour in which Firehose got them, which is
    never before their own.
    """
    part = f"day={day}/" if day else ""
    sorted_ones = [Listing(f"{SALES}shop={shop}/{part}") for shop in shops] or [Listing(SALES, part=part)]
    return [*sorted_ones, Listing("2", after=day.replace("-", "/"))]


def may_hold_sales(key: str, listing: Listing) -> bool:
    """Tell whether an object that was listed may hold sales: others may have put theirs beside it."""
    if listing.prefix.startswith(SALES):
        return f"/{listing.part}" in key
    return _BY_HOUR.match(key) is not None and key > listing.after
