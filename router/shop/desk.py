"""Takes orders to the router's queue, and tells how orders and shops stand by what the cells' tables say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from cell_worker.contract.strict_reader import Unreadable
from router.core.errors import SourceUnavailableError
from router.core.models import Draft
from router.ports import Clock
from router.shop.cells import ShopCells
from router.shop.core.items import Product, SoldLine
from router.shop.core.names import why_no_shop
from router.shop.core.orders import OrderEvent, draft_of, read_order
from router.shop.core.overview import Contents, OrderHistory, ShopOverview, orders_of, overview
from router.shop.core.sales import Goods
from router.shop.tables import ShopTables, ShopUnavailableError

FRESH_S: Final = 1.0
SHOPS_S: Final = 30.0
CATALOGUE_S: Final = 2.0
SAMPLE_S: Final = 5.0
MAX_CATALOGUES: Final = 1000
AT_ONCE: Final = 8  # tables that are read at the same time


class OrderDesk:
    """What the order API does: one desk for all shops of an environment."""

    def __init__(
        self,
        send: Callable[[Sequence[Draft]], Awaitable[Sequence[int]]],
        cells: ShopCells,
        tables: ShopTables,
        sold: Callable[[Mapping[str, Collection[str]]], Awaitable[Mapping[Goods, int]]],
        clock: Clock,
    ) -> None:
        """`send` puts messages on the router's queue, and returns which of them it has not taken.

        `sold` counts the pieces that shops have sold today; it gets the names of those in each cell.
        """
        self._send = send
        self._cells = cells
        self._tables = tables
        self._sold = sold
        self._clock = clock
        self._catalogues: dict[str, tuple[float, Sequence[Product]]] = {}
        self._reading = asyncio.Lock()
        self._contents = Contents()
        self._pieces: Mapping[Goods, int] = {}
        self._read_at = float("-inf")
        self._history = OrderHistory()
        self._sampled_at = float("-inf")

    def now_ms(self) -> int:
        """Return the time that storefronts go by, in ms since 1970."""
        return self._clock.time_ms()

    async def place(self, shop: str, raw: bytes) -> OrderEvent | Unreadable:
        """Put a customer's order on the router's queue, or say why it is none. Raises SourceUnavailableError.

        What the shop doesn't sell is refused here. When its table can't be read the order is taken all the same: its
        cell looks too.
        """
        order = read_order(raw, shop, self._clock.time_ms())
        if isinstance(order, Unreadable):
            return order
        try:
            known = {product.product for product in await self.catalogue(shop)}
        except ShopUnavailableError:
            known = {line.product for line in order.lines}
        if missing := [line.product for line in order.lines if line.product not in known]:
            return Unreadable(f"{shop} does not sell {missing[0]}: GET /shops/{shop}/products lists what it does")
        if await self._send([draft_of(order)]):
            raise SourceUnavailableError("the queue has not taken the order: send it again, with the same order_id")
        return order

    async def catalogue(self, shop: str) -> Sequence[Product]:
        """List what a shop sells, as its own cell's table has it. Raises ShopUnavailableError."""
        now, found = self._clock.monotonic(), self._catalogues.get(shop)
        if found is not None and now < found[0] + CATALOGUE_S:
            return found[1]
        if why_no_shop(shop) is not None:
            return ()
        products = sorted(await self._tables.products(await self._cells.of(shop), shop), key=lambda each: each.PK)
        self._catalogues.pop(shop, None)
        self._catalogues[shop] = now, products
        while len(self._catalogues) > MAX_CATALOGUES:
            del self._catalogues[next(iter(self._catalogues))]
        return products

    async def order(self, shop: str, order_id: str) -> list[SoldLine]:
        """Return the lines of an order, none while its cell has not taken it in. Raises ShopUnavailableError."""
        found = await self._tables.order(await self._cells.of(shop), shop, order_id)
        return sorted(found, key=lambda line: line.SK)

    async def overview(self, shop: str) -> ShopOverview:
        """Tell how one shop stands, or all of them for no name. All tables are read once a second at most."""
        await self._refresh(FRESH_S)
        return overview(shop, self._contents, self._history, self._pieces, self._clock.time_ms())

    async def shops(self) -> tuple[Sequence[str], Sequence[str]]:
        """List the shops, half a minute old at most, and why those of some cells are not among them."""
        await self._refresh(SHOPS_S)
        return sorted({product.shop for product in self._contents.products}), self._contents.missing

    async def _refresh(self, older_than_s: float) -> None:
        """Read all tables, unless that was done so lately."""
        async with self._reading:
            now = self._clock.monotonic()
            if now < self._read_at + older_than_s:
                return
            self._contents, self._read_at = await self._read_all(), now
            self._pieces = await self._sold(await self._shops_by_cell())
            if not self._contents.missing and now >= self._sampled_at + SAMPLE_S:
                self._history.add(self._clock.time_ms(), orders_of(self._contents.metrics))
                self._sampled_at = now

    async def _shops_by_cell(self) -> Mapping[str, Collection[str]]:
        found: dict[str, set[str]] = {cell_id: set() for cell_id in self._contents.cells}
        for shop in {product.shop for product in self._contents.products}:
            found.setdefault(await self._cells.of(shop), set()).add(shop)
        return found

    async def _read_all(self) -> Contents:
        """The contents of all tables together, and why some could not be read."""
        cells, places = await self._cells.all(), asyncio.Semaphore(AT_ONCE)

        async def read(cell_id: str) -> Contents | str:
            async with places:
                try:
                    return await self._tables.contents(cell_id)
                except ShopUnavailableError as error:
                    return f"{cell_id}: {error}"

        found = dict(zip(cells, await asyncio.gather(*map(read, cells)), strict=True))
        good = {cell: contents for cell, contents in found.items() if isinstance(contents, Contents)}
        return Contents(
            [each for contents in good.values() for each in contents.products],
            [each for contents in good.values() for each in contents.metrics],
            [each for contents in good.values() for each in contents.vendor_orders],
            sum(contents.unread for contents in good.values()),
            tuple(good),
            [why for why in found.values() if isinstance(why, str)],
        )
