"""Those who are outside: customers who order by the API, and vendors who deliver what shops have ordered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import aiohttp
import msgspec

from router.core.errors import SourceUnavailableError
from router.core.models import Draft
from router.demo.shop.load import Wish
from router.ports import Clock
from router.shop.cells import ShopCells
from router.shop.core.items import VendorOrder
from router.shop.core.ledger import Ordered
from router.shop.core.names import order_id
from router.shop.core.orders import ArrivalEvent, Basket, OrderEvent, ProductEvent, draft_of
from router.shop.core.overview import Contents
from router.shop.tables import ShopTables, ShopUnavailableError

AT_ONCE: Final = 16  # orders on their way to the API
TRIES: Final = 20
BATCH: Final = 10  # messages of one call, as SQS takes them
VENDOR_S: Final = 0.5  # between two looks of the vendors

Send = Callable[[Sequence[Draft]], Awaitable[Sequence[int]]]


async def read_all(cells: ShopCells, tables: ShopTables) -> list[Contents]:
    """Read the contents of all tables that are there by now."""
    found = await asyncio.gather(*(tables.contents(cell) for cell in await cells.all()), return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException) and not isinstance(each, ShopUnavailableError):
            raise each
    return [each for each in found if isinstance(each, Contents)]


async def send_all(send: Send, drafts: list[Draft]) -> None:
    """Send messages until the queue has taken each of them. Raises SourceUnavailableError."""
    for begin in range(0, len(drafts), BATCH):
        left = drafts[begin : begin + BATCH]
        for _ in range(TRIES):
            left = [left[place] for place in await send(left)]
            if not left:
                break
        else:
            raise SourceUnavailableError(f"the queue has not taken {len(left)} messages after {TRIES} tries")


class Customers:
    """Place orders, each with an id of its own; one that is not answered is sent again with the same id."""

    def __init__(self, session: aiohttp.ClientSession, url: str, sent: Ordered, clock: Clock) -> None:
        self._session = session
        self._url = url
        self._sent = sent
        self._clock = clock
        self._places = asyncio.Semaphore(AT_ONCE)
        self._numbers: set[str] = set()
        self.twice = 0  # orders that were sent a second time
        self.refused: list[str] = []

    async def order(self, wish: Wish) -> None:
        """Place an order, once or twice, and note it once."""
        async with self._places:
            at_ms = self._clock.time_ms()
            number = order_id(at_ms, self._clock.jitter())
            while number in self._numbers:
                number = order_id(at_ms, self._clock.jitter())
            self._numbers.add(number)
            self._sent.orders[wish.shop, number] = OrderEvent(wish.shop, number, wish.customer, wish.lines, at_ms)
            body = msgspec.json.encode(Basket(number, wish.customer, wish.lines))
            self.twice += wish.twice
            await asyncio.gather(*(self._post(wish.shop, body) for _ in range(2 if wish.twice else 1)))

    async def _post(self, shop: str, body: bytes) -> None:
        url, said = f"{self._url}/shops/{shop}/orders", "it never answered"
        for _ in range(TRIES):
            try:
                headers, timeout = {"content-type": "application/json"}, aiohttp.ClientTimeout(total=10)
                asked = self._session.post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False)
                async with asked as answer:
                    said = await answer.text()
                    if answer.status == HTTPStatus.ACCEPTED:
                        return
                    if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                        break
            except (aiohttp.ClientError, TimeoutError) as error:
                said = repr(error)
            await self._clock.sleep(0.5)
        self.refused.append(f"{shop}: {said[:200]}")


class Vendors:
    """Deliver what the shops that were opened here have ordered, each vendor order once, as an event of the shop."""

    def __init__(self, send: Send, cells: ShopCells, tables: ShopTables, sent: Ordered, clock: Clock) -> None:
        self._send = send
        self._cells = cells
        self._tables = tables
        self._sent = sent
        self._clock = clock

    async def run(self) -> None:
        """Deliver what is new, twice a second where that is no burden for who answers. Until cancelled."""
        while True:
            began = self._clock.monotonic()
            for cell in await self._cells.all():
                with suppress(ShopUnavailableError):
                    await self._deliver(await self._tables.vendor_orders(cell))
            await self._clock.sleep(max(VENDOR_S, 2 * (self._clock.monotonic() - began)))

    async def _deliver(self, found: Iterable[VendorOrder]) -> None:
        mine = [each for each in found if (each.shop, each.product) in self._sent.catalogue]
        new = [each for each in mine if (each.shop, each.number) not in self._sent.arrivals]
        now_ms = self._clock.time_ms()
        await send_all(
            self._send,
            [draft_of(ArrivalEvent(each.shop, each.number, each.product, each.quantity, now_ms)) for each in new],
        )
        for each in new:
            self._sent.arrivals[each.shop, each.number] = (each.shop, each.product), each.quantity


async def open_shops(send: Send, goods: Iterable[ProductEvent], sent: Ordered) -> None:
    """Put products into the catalogues of their shops."""
    made = list(goods)
    await send_all(send, [draft_of(each) for each in made])
    sent.catalogue.update({(each.shop, each.product): each for each in made})
