"""How things of the shop are named: shops, products, orders, and the keys of their items in a cell's table. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
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
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,47}", re.ASCII)
_ORDER_ID: Final = re.compile(rf"{ORDER_PREFIX}([0-9]{{13}})-[0-9a-f]{{4}}", re.ASCII)


def why_no_name(what: str, name: str) -> Reason | None:
    """Say why a text can't name a shop or a product; None when it can."""
    if _NAME.fullmatch(name) is not None:
        return None
    return f"the {what} {name[:60]!r} is no name: use 1 to 48 small letters, digits and hyphens"


def placed_at_ms(order_id: str) -> int | None:
    """Return when an order was placed, which its id says; None for what is no order's id."""
    found = _ORDER_ID.fullmatch(order_id)
    return int(found[1]) if found is not None else None


def order_id(at_ms: int, chance: float) -> str:
    """Make the id of an order: `chance` is a random number in [0, 1)."""
    return f"{ORDER_PREFIX}{at_ms:013d}-{int(chance * 0x10000):04x}"


def table_of(prefix: str, environment: str, cell_id: str) -> str:
    """Return the name of the table that a cell's shops lie in."""
    return f"{resource_name(prefix, environment, cell_id)}-shop"


def key_of_product(shop: str, product: str) -> str:
    """Return the key of a product's item, which is both its PK and its SK."""
    return f"{shop}#{product}"


def hour_prefix(shop: str, at_ms: int) -> str:
    """Return where a shop's sales of one hour of UTC begin in its cell's bucket."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{SALES}shop={shop}/day={at:%Y-%m-%d}/hour={at:%H}/"
