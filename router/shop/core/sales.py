"""The rows that leave the cells for analytics, one for each line of an order, and what they come to. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from cell_worker.contract.strict_reader import StrictReader, Unreadable, Whole

Goods = tuple[str, str]
"""A shop and one of its products."""
MINUTE_MS: Final = 60_000
MAX_ROW_BYTES: Final = 8 * 1024
LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999."""


class SaleRow(msgspec.Struct, frozen=True):
    """One line of an order, as it lies in the objects."""

    shop: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
    product: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    order_id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    line: Whole
    quantity: Whole
    taken: Whole
    back_ordered: Whole
    price_cents: Whole
    at_ms: Annotated[int, msgspec.Meta(ge=0, le=LAST_MS)]


COLUMNS: Final = SaleRow.__struct_fields__
_ROW: Final[StrictReader[SaleRow]] = StrictReader("shop sale", SaleRow, MAX_ROW_BYTES)


def read_lines(raw: bytes) -> list[SaleRow] | Unreadable:
    """Return the rows of an object with a row of JSON in each line, or why one can't be read. Never raises."""
    rows: list[SaleRow] = []
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        row = _ROW.read(line)
        if isinstance(row, Unreadable):
            return Unreadable(f"line {number}: {row.why}")
        rows.append(row)
    return rows


def read_record(record: Any) -> SaleRow | Unreadable:
    """Return a row of a Parquet file, or why it can't be read. Never raises."""
    try:
        return msgspec.convert(record, SaleRow)
    except (ValueError, RecursionError) as error:
        return Unreadable(f"{error!s:.200}")


def once(rows: Iterable[SaleRow]) -> list[SaleRow]:
    """Leave out what was delivered twice: Firehose delivers at least once, and a line of an order is sold once."""
    return list({(row.shop, row.order_id, row.line): row for row in rows}.values())


def day_of(at_ms: int) -> str:
    """Return the day of a moment, in UTC."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d}"


def chosen(rows: Iterable[SaleRow], shop: str = "", day: str = "") -> list[SaleRow]:
    """Return the rows of one shop and one day; of any for no name."""
    return [row for row in rows if shop in ("", row.shop) and day in ("", day_of(row.at_ms))]


def by_minute(rows: Iterable[SaleRow]) -> Mapping[tuple[Goods, int], int]:
    """Add up the quantities of rows by shop, product and minute; a minute is named by its beginning in ms."""
    found: Counter[tuple[Goods, int]] = Counter()
    for row in rows:
        found[(row.shop, row.product), row.at_ms // MINUTE_MS * MINUTE_MS] += row.quantity
    return found


def of_all_minutes(minutes: Mapping[tuple[Goods, int], int]) -> Mapping[Goods, int]:
    """Add up the minutes of each product of each shop."""
    found: Counter[Goods] = Counter()
    for (goods, _), quantity in minutes.items():
        found[goods] += quantity
    return found
