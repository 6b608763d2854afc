"""Reads all books of the shops, apart from one another: tables, objects, SQL."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from router.core.errors import CellRouterError
from router.demo.shop.street import read_all
from router.shop.cells import ShopCells
from router.shop.core.ledger import Books
from router.shop.core.sales import Goods, by_minute, of_all_minutes
from router.shop.sales import SalesObjects
from router.shop.sql import answer
from router.shop.tables import ShopTables

TOTALS: Final = "SELECT shop, product, SUM(quantity) AS pieces FROM sales GROUP BY shop, product ORDER BY shop, product"
"""What SQL is asked for the ledger."""


class UnreadBooksError(CellRouterError):
    """A book can't be read whole, so nothing can be compared with it; the text says which."""


@dataclass(frozen=True, slots=True)
class BookKeeper:
    """Reads what the cells of an environment have written."""

    cells: ShopCells
    tables: ShopTables
    sales: SalesObjects

    async def books(self) -> Books:
        """Read all books as they are now. Raises UnreadBooksError, ShopUnavailableError, SalesUnavailableError."""
        cells = await self.cells.all()
        contents = await read_all(self.cells, self.tables)
        lines = [line for cell in cells for line in await self.tables.lines(cell)]
        found = await self.sales.read(cells)
        if found.unread or any(part.unread for part in contents):
            raise UnreadBooksError(f"unreadable: {', '.join([*found.unread[:3]] or ['items of a table'])}")
        told = await asyncio.to_thread(answer, TOTALS, found.rows)
        return Books(
            products=[each for part in contents for each in part.products],
            lines=lines,
            vendor_orders=[each for part in contents for each in part.vendor_orders],
            minutes=of_all_minutes(by_minute(found.rows)),
            sql=_totals(told.rows),
            metrics={(each.shop, each.name): each.value for part in contents for each in part.metrics},
        )


def _totals(rows: object) -> dict[Goods, int]:
    assert isinstance(rows, list)
    return {(str(shop), str(product)): int(pieces) for shop, product, pieces in rows}
