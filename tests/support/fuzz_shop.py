"""The readers of the shop, as functions of the bytes that came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from router.shop.core.items import Metric, Product, SoldLine, VendorOrder, read_item
from router.shop.core.orders import OrderEvent, read_order
from router.shop.core.sales import read_lines, read_record

NOW_MS: Final = 1_700_000_000_000
KINDS: Final = (Product, SoldLine, VendorOrder, Metric)


def basket(raw: bytes) -> object:
    """Read what a customer sends: as the basket, and as the name of a shop."""
    found = read_order(raw, "a-shop", NOW_MS)
    if isinstance(found, OrderEvent):
        assert found.lines
        assert all(1 <= line.quantity <= 999 for line in found.lines)
    return read_order(b"{}", raw.decode("utf-8", "replace"), NOW_MS)


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return raw.decode("utf-8", "replace")


def item(raw: bytes) -> object:
    """Read a DynamoDB item: these bytes stand for it, and for each attribute of one."""
    whole = _decoded(raw)
    names = {name for kind in KINDS for name in kind.__struct_fields__}
    shapes = [whole, *(dict.fromkeys(names, typed) for typed in (whole, {"S": whole}, {"N": whole}))]
    return [read_item(shape, kind) for shape in shapes for kind in KINDS]


def sale(raw: bytes) -> object:
    """Read an object with sales, and a record of a Parquet file."""
    return read_lines(raw), read_record(_decoded(raw))


OF_THE_SHOP: Final[Mapping[str, Callable[[bytes], object]]] = {
    "shop basket": basket,
    "shop item": item,
    "shop sale": sale,
}
