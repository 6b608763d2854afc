"""The shop as a handler: events write orders, products and deliveries; the table's changes have stock taken.

It imports nothing of cellrouter but `cell_worker.api`, as any team's own workload does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from cell_worker.api import (
    Cell,
    CellTable,
    Change,
    Component,
    Event,
    ItemKey,
    Put,
    RejectEvent,
    RetryEvent,
    TableItem,
    key_in,
)
from cell_worker.handlers.shop import decisions
from cell_worker.handlers.shop.bodies import Arrival, Order, ShopEvent
from cell_worker.handlers.shop.decisions import MAX_TOGETHER, ConflictError, Found
from cell_worker.handlers.shop.items import is_line

TABLE: Final = "shop"
"""The table that `cells.table` has to name."""
ATTEMPTS: Final = 50
"""How often a decision is made anew because others have written in between."""


class TableComponent:
    """The shop's table as a component: it is checked by a read."""

    name: Final = "table"

    def __init__(self, table: CellTable) -> None:
        self._table = table

    async def check(self) -> str:
        """Read from the table. Raises RetryEvent when that fails."""
        await self._table.get(ItemKey("#check", "#check"))
        return f"{self._table.name} can be read"

    async def restart(self) -> None:
        """Do nothing: the stream's component has the clients replaced."""


class Shop:
    """The handler `CELL_HANDLER=cell_worker.handlers.shop:Shop`. The partition key of its events is the shop."""

    def __init__(self) -> None:
        self._table: CellTable
        self._cell: Cell

    async def start(self, cell: Cell) -> Sequence[Component]:
        """Have the table's changes followed. Makes no call."""
        self._cell = cell
        self._table = cell.table(TABLE)
        return [TableComponent(self._table), cell.follow(self._table, self.apply)]

    async def __call__(self, event: Event, cell: Cell) -> Mapping[str, Any]:  # noqa: ARG002 - a handler's signature
        """Write what an event asks for: all of it or nothing. Raises RejectEvent, UnknownProductError or RetryEvent."""
        asked: ShopEvent = event.read(ShopEvent)
        if asked.shop != event.partition_key:
            raise RejectEvent(f"the event is of shop {asked.shop} and has the key {event.partition_key:.80}")
        written = await self._done(*_deciding(asked, event.sent_at_ms))
        return {"kind": type(asked).__name__.lower(), "shop": asked.shop, "written": written}

    async def apply(self, changes: Sequence[Change]) -> None:
        """Settle the lines that are new among these changes, and send them to the sales. Raises RetryEvent."""
        new = [each.new for each in changes if each.old is None and each.new is not None and is_line(each.new)]
        for lines in _together(new):
            await self._settled(lines)

    async def canary(self, cell: Cell) -> None:  # noqa: ARG002 - a canary's signature
        """Read from the table, as every event does. Raises RetryEvent."""
        await self._table.get(ItemKey("#canary", "#canary"))

    async def stop(self) -> None:
        """Do nothing: the worker closes the table."""

    async def _done(self, keys: Sequence[ItemKey], decide: Callable[[Found], Sequence[Put]]) -> int:
        """Read, decide and write, until nobody has written in between. Returns how many items were written."""
        for _ in range(ATTEMPTS):
            found = await self._table.get(*keys)
            try:
                puts = decide(found)
            except ConflictError as error:
                raise RejectEvent(str(error)) from error
            if not puts or await self._table.write(*puts):
                return len(puts)
        raise RetryEvent(f"others have written the same items {ATTEMPTS} times in between")

    async def _settled(self, lines: Sequence[TableItem]) -> None:
        keys = [key_in(line) for line in lines]
        sales: Sequence[Mapping[str, Any]] = ()

        def decide(found: Found) -> Sequence[Put]:
            nonlocal sales
            settlement = decisions.settle(keys, found)
            sales = settlement.sales
            return settlement.puts

        await self._done(decisions.for_lines(lines), decide)
        # Only now, when they are written. After a crash in between they are read settled, and sent all the same.
        await asyncio.gather(*(self._cell.commit(f"{sale['order_id']}/{sale['line']}", [sale]) for sale in sales))


def _deciding(asked: ShopEvent, sent_at_ms: int) -> tuple[list[ItemKey], Callable[[Found], Sequence[Put]]]:
    """Return what is to be read for an event, and what decides then."""
    if isinstance(asked, Order):
        return decisions.for_order(asked), lambda found: decisions.place(asked, found)
    if isinstance(asked, Arrival):
        return decisions.for_arrival(asked), lambda found: decisions.deliver(asked, found)
    return decisions.for_product(asked), lambda found: decisions.offer(asked, found, sent_at_ms)


def _together(lines: Sequence[TableItem]) -> Iterator[Sequence[TableItem]]:
    """Yield lines of one shop each, in their order, and no more than are settled in one transaction."""
    for _, group in groupby(sorted(lines, key=_shop_of), key=_shop_of):
        found = list(group)
        for first in range(0, len(found), MAX_TOGETHER):
            yield found[first : first + MAX_TOGETHER]


def _shop_of(line: TableItem) -> str:
    return str(line["shop"])
