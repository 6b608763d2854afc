"""Reads all books of the shops, apart from one another: tables, objects, SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from router.core.errors import CellRouterError
from router.demo.shop.street import read_all
from router.shop.cells import ShopCells
from router.shop.core.items import Metric, Product, SoldLine, VendorOrder
from router.shop.core.ledger import Books
from router.shop.core.names import listings
from router.shop.core.sales import Goods, SaleRow, by_minute, of_all_minutes, once
from router.shop.sales import Place, SalesObjects
from router.shop.sql import answer
from router.shop.tables import ShopTables

OfShop = Product | SoldLine | VendorOrder | Metric | SaleRow
TOTALS: Final = "SELECT shop, product, SUM(quantity) AS pieces FROM sales GROUP BY shop, product ORDER BY shop, product"
"""What SQL is asked for the ledger."""


class UnreadBooksError(CellRouterError):
    """A book can't be read whole, so nothing can be compared with it; the text says which."""


@dataclass(slots=True)
class BookKeeper:
    """Reads what the cells of an environment have written; objects with sales never change, so each is read once.

    Where there are shops of others too, `street` is how the names of those begin whose books are read.
    """

    cells: ShopCells
    tables: ShopTables
    sales: SalesObjects
    street: str = ""
    _seen: set[Place] = field(default_factory=set)
    _rows: list[SaleRow] = field(default_factory=list)

    async def books(self) -> Books:
        """Read all books as they are now. Raises UnreadBooksError, ShopUnavailableError, SalesUnavailableError."""
        cells = await self.cells.all()
        contents = await read_all(self.cells, self.tables)
        lines = [line for cell in cells for line in await self.tables.lines(cell) if self._is_mine(line)]
        if bad := sum(part.unread for part in contents):
            raise UnreadBooksError(f"{bad} items of the tables can't be read")
        rows = [row for row in once(await self._sold(cells)) if self._is_mine(row)]
        told = await asyncio.to_thread(answer, TOTALS, rows)
        return Books(
            products=[each for part in contents for each in part.products if self._is_mine(each)],
            lines=lines,
            vendor_orders=[each for part in contents for each in part.vendor_orders if self._is_mine(each)],
            minutes=of_all_minutes(by_minute(rows)),
            sql=_totals(told.rows),
            metrics={
                (each.shop, each.name): each.value for part in contents for each in part.metrics if self._is_mine(each)
            },
        )

    def _is_mine(self, record: OfShop) -> bool:
        return record.shop.startswith(self.street)

    async def _sold(self, cells: Sequence[str]) -> list[SaleRow]:
        found = [place for cell in cells async for place, _ in self.sales.objects(cell, listings())]
        new = [place for place in found if place not in self._seen]
        rows, unread = await self.sales.rows(new)
        if unread:
            raise UnreadBooksError(f"no sales: {', '.join(unread[:3])}")
        self._seen.update(new)
        self._rows += rows
        return self._rows


def _totals(rows: object) -> dict[Goods, int]:
    assert isinstance(rows, list)
    return {(str(shop), str(product)): int(pieces) for shop, product, pieces in rows}
