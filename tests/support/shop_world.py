"""A shop in a cell of its own, in memory: an instance may crash at any write, a second one may go on as a zombie."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from cell_worker.api import Apply, Cell, CellTable, Change, Component, Event, ItemKey, Put, RejectEvent, TableItem
from cell_worker.handlers.shop import Shop
from cell_worker.handlers.shop.items import product_key
from cell_worker.tables.memory import MemoryTable
from cell_worker.tables.reader import FollowError, TableReader

AT_MS: Final = 1_800_000_000_000


class CrashError(BaseException):
    """The instance is gone: no code of its own goes on."""


class CrashingTable(MemoryTable):
    """A table whose writes may be the last that an instance does: before they are done, or after."""

    def __init__(self, name: str = "cellrouter-test-cell-0000-shop") -> None:
        super().__init__(name)
        self.changes: list[Change] = []
        """Every change, also when the stream has lost it."""
        self.crash_in = -1  # so many steps from now; each write is two of them

    async def write(self, *puts: Put) -> bool:
        self.step()
        done = await super().write(*puts)
        self.step()
        return done

    def _note(self, change: Change) -> None:
        self.changes.append(change)
        super()._note(change)

    async def get(self, *keys: ItemKey) -> dict[ItemKey, TableItem]:
        found = await super().get(*keys)
        await asyncio.sleep(0)  # noqa: TID251 - others may write in between
        return found

    def step(self) -> None:
        """Crash now, or come one step nearer to it."""
        self.crash_in -= 1
        if self.crash_in == -1:
            raise CrashError


class CrashingDurables:
    """What a worker lends, with commits that are remembered as the cell's store does."""

    def __init__(self, table: CrashingTable, committed: dict[str, Sequence[Mapping[str, Any]]]) -> None:
        self._table = table
        self._committed = committed

    def table(self, name: str) -> CellTable:
        assert name == "shop"
        return self._table

    def follow(self, table: CellTable, apply: Apply, name: str) -> Component:
        return TableReader(self._table, apply, name)

    async def commit(self, name: str, records: Sequence[Mapping[str, Any]]) -> bool:
        self._table.step()
        new = name not in self._committed
        self._committed.setdefault(name, records)
        self._table.step()
        return new


class Instance:
    """One instance of the cell, with its handler and its reader."""

    def __init__(self, durables: CrashingDurables) -> None:
        self._shop = Shop()
        log: Any = structlog.get_logger("test")
        self.cell = Cell("cell-0000", 1, "test", side_effects=False, log=log, durables=durables)
        _, reader = asyncio.run(self._shop.start(self.cell))
        assert isinstance(reader, TableReader)
        self.reader = reader

    async def give(self, event: Event) -> bool:
        """Process one event. False when it can never succeed."""
        try:
            await self._shop(event, self.cell)
        except RejectEvent:
            return False
        return True


class ShopWorld:
    """The cell with its table and its sales, whichever instance it has."""

    def __init__(self) -> None:
        self.table = CrashingTable()
        self.committed: dict[str, Sequence[Mapping[str, Any]]] = {}
        self.instance = self._new()
        self.zombie: Instance | None = None
        self.undone: list[Event] = []
        """Events that a router would deliver again."""

    def give(self, *events: Event) -> None:
        """Deliver events at the same moment. Those that an instance dies of come again."""
        self._run(*map(self._given, events))

    def turn(self) -> None:
        """Let the reader look once, and a zombie's at the same moment."""
        instances = [each for each in (self.instance, self.zombie) if each is not None]
        self._run(*(each.reader.turn() for each in instances))

    def replace(self, *, leaves_zombie: bool) -> None:
        """Start the next instance. The old one may go on for a while."""
        self.zombie = self.instance if leaves_zombie else None
        self.instance = self._new()

    def settle(self) -> None:
        """End all trouble, deliver what is left, and let the reader read all."""
        self.table.crash_in = -1
        self.replace(leaves_zombie=False)
        left, self.undone = self.undone, []
        for event in left:
            self.give(event)
        while asyncio.run(self.instance.reader.turn()):
            pass

    def _new(self) -> Instance:
        return Instance(CrashingDurables(self.table, self.committed))

    async def _given(self, event: Event) -> None:
        self.undone.append(event)
        await self.instance.give(event)
        self.undone.remove(event)

    def _run(self, *works: Coroutine[Any, Any, Any]) -> None:
        async def story() -> list[bool]:
            return await asyncio.gather(*map(_guarded, works))

        if any(asyncio.run(story())):
            self.replace(leaves_zombie=False)


async def _guarded(work: Coroutine[Any, Any, Any]) -> bool:
    """Do it, and say whether the instance has died of it. Two readers may notice each other."""
    try:
        with suppress(FollowError):
            await work
    except CrashError:
        return True
    return False


def event(body: Mapping[str, Any], event_id: str) -> Event:
    """Make an event of a shop as it comes from a router."""
    return Event(event_id, str(body["shop"]), 1, msgspec.json.encode(body), sent_at_ms=AT_MS)


def product(shop: str, name: str, stock: int, level: int, quantity: int) -> Event:
    """Put a product into the catalogue."""
    words = {"title": name.title(), "price_cents": 250, "stock": stock}
    body = {"type": "product", "shop": shop, "product": name, **words}
    return event({**body, "reorder_level": level, "reorder_quantity": quantity}, f"{shop}-{name}")


def order(shop: str, order_id: str, *lines: tuple[str, int], at_ms: int = AT_MS) -> Event:
    """Order products of a shop."""
    wanted = [{"product": name, "quantity": quantity} for name, quantity in lines]
    body = {"type": "order", "shop": shop, "order_id": order_id, "customer": "ann", "lines": wanted, "at_ms": at_ms}
    return event(body, order_id)


def arrival(vendor_order: TableItem) -> Event:
    """Deliver what a vendor was asked for."""
    names = ("shop", "vendor_order", "product", "quantity")
    body = {"type": "arrival", **{name: vendor_order[name] for name in names}, "at_ms": AT_MS}
    return event(body, f"arrival-{vendor_order['vendor_order']}")


def of_type(table: MemoryTable, item_type: str) -> list[TableItem]:
    """Find what the sparse index would."""
    return [item for item in table.items.values() if item.get("itemType") == item_type]


def lines_in(table: MemoryTable) -> list[TableItem]:
    """Find all lines of all orders."""
    return [item for item in table.items.values() if "quantity" in item and "customer" in item]


def stock_of(table: MemoryTable, shop: str, name: str) -> int:
    """Read the stock of a product."""
    stock = table.items[product_key(shop, name)]["stock"]
    assert isinstance(stock, int)
    return stock
