"""The items of a shop's table: their keys, and what a line becomes in the sales. Nothing here calls anything.

| PK | SK | itemType | what it is |
|---|---|---|---|
| `SHOP#PRODUCT` | the same | `product` | title, price, stock, reorder level and quantity, crossings so far |
| order's id | `order` | none | the order's state: how many of its lines are settled |
| order's id | line, 4 digits | none | a line, with all that was true when it was ordered; settled once it has `taken` |
| `SHOP#METRIC#name` | the same | `metric` | a total of the shop |
| `SHOP#VENDOR#id` | the same | `vendor_order` | what a vendor was asked for: `open` or `arrived` |
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from cell_worker.api import ItemKey, TableItem

ORDER: Final = "order"
METRICS: Final = ("orders", "ordered", "taken", "back_ordered", "vendor_orders")
"""The totals of a shop: whole orders that are settled, then units, then orders to vendors."""
_LINE_DIGITS: Final = 4


def product_key(shop: str, product: str) -> ItemKey:
    """Return the key of a product of a shop."""
    return _same(f"{shop}#{product}")


def metric_key(shop: str, name: str) -> ItemKey:
    """Return the key of a total of a shop."""
    return _same(f"{shop}#METRIC#{name}")


def vendor_key(shop: str, vendor_order: str) -> ItemKey:
    """Return the key of an order to a vendor."""
    return _same(f"{shop}#VENDOR#{vendor_order}")


def order_key(order_id: str) -> ItemKey:
    """Return the key of an order's state."""
    return ItemKey(order_id, ORDER)


def line_key(order_id: str, line: int) -> ItemKey:
    """Return the key of a line of an order; the first is 1."""
    return ItemKey(order_id, f"{line:0{_LINE_DIGITS}}")


def is_line(item: TableItem) -> bool:
    """Whether an item is a line of an order, with all that a line has when it is ordered."""
    sort = str(item["SK"])
    texts = all(isinstance(item.get(name), str) for name in ("shop", "product"))
    return texts and number(item, "quantity") > 0 and len(sort) == _LINE_DIGITS and sort.isdigit()


def number(item: TableItem, name: str) -> int:
    """Return a number of an item; 0 where it has none."""
    value = item.get(name, 0)
    return value if isinstance(value, int) else 0


def sale(line: TableItem) -> dict[str, Any]:
    """Return a settled line as the sales have it. The same line is always the same record, byte for byte."""
    at_ms = number(line, "at_ms")
    minute = datetime.fromtimestamp(at_ms // 60_000 * 60, UTC)
    return {
        "shop": line["shop"],
        "product": line["product"],
        "order_id": line["PK"],
        "line": int(line["SK"]),
        "quantity": line["quantity"],
        "taken": line["taken"],
        "back_ordered": line["back_ordered"],
        "price_cents": line["price_cents"],
        "at_ms": at_ms,
        "day": f"{minute:%Y-%m-%d}",
        "hour": f"{minute:%H}",
        "minute": f"{minute:%Y-%m-%dT%H:%MZ}",
    }


def _same(text: str) -> ItemKey:
    return ItemKey(text, text)
