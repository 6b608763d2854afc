"""Those outside of the shop, on virtual time: customers who try again with the same order, vendors who deliver once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, cast

import aiohttp
import pytest

from router.core.errors import SourceUnavailableError
from router.core.models import Draft
from router.demo.shop.load import GOODS, catalogue, wishes
from router.demo.shop.run import ledger_table
from router.demo.shop.street import TRIES, Customers, Vendors, open_shops, send_all
from router.shop.cells import ShopCells
from router.shop.core.items import VendorOrder
from router.shop.core.ledger import Books, Ordered, ledger, why_not_countable
from router.shop.core.orders import OrderEvent, ProductEvent, read_order
from router.shop.tables import ShopTables, ShopUnavailableError
from tests.support.fake_clock import FakeClock, play

SEED: Final = 11


class Answer:
    """What the API answers to one request."""

    def __init__(self, status: int) -> None:
        self.status = status

    async def __aenter__(self) -> Answer:  # noqa: PYI034 - a fake of aiohttp
        if self.status == 0:
            raise aiohttp.ServerDisconnectedError
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def text(self) -> str:
        return "no"


class Api:
    """Stands for the order API; answers with what it is told to, then with 202."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.orders: list[OrderEvent] = []
        self.clock = FakeClock()

    def post(self, url: str, *, data: bytes, headers: Any, timeout: Any, allow_redirects: bool) -> Answer:
        order = read_order(data, url.split("/")[-2], self.clock.time_ms())
        assert isinstance(order, OrderEvent)
        assert not allow_redirects
        self.orders.append(order)
        return Answer(self.answers.pop(0) if self.answers else 202)


def place(api: Api, orders: int) -> tuple[Customers, Ordered]:
    """Have customers order so often."""
    sent = Ordered()
    customers = Customers(cast("Any", api), "http://shop", sent, api.clock)

    async def story() -> None:
        for wish in wishes(orders, 3, SEED):
            await customers.order(wish)

    play(api.clock, story())
    return customers, sent


def test_an_order_is_sent_again_with_its_id_and_some_are_sent_twice() -> None:
    """Whatever was answered, or not at all: it is the same order, and nobody's id is another one's."""
    api = Api(503, 0, 503)
    customers, sent = place(api, 200)
    times = Counter(order.order_id for order in api.orders)
    assert len(times) == len(sent.orders) == 200
    assert api.orders[:4] == [api.orders[0]] * 4
    assert len(api.orders) == 200 + 3 + customers.twice
    assert 0 < customers.twice < 30
    assert {(order.shop, order.order_id): order for order in api.orders} == sent.orders
    assert customers.refused == []


@pytest.mark.parametrize("answers", [(422,), (503,) * TRIES])
def test_a_refusal_is_told(answers: tuple[int, ...]) -> None:
    """One that will not change is not asked for again, and patience ends."""
    api = Api(*answers)
    customers, _ = place(api, 1)
    assert len(api.orders) == len(answers)
    assert len(customers.refused) == 1


class Queue:
    """A queue that refuses the first message of each call, so often."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.taken: list[Draft] = []

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        assert len(drafts) <= 10, "SQS takes no more in one call"
        refused = [0] if drafts and self.refusals > 0 else []
        self.refusals -= 1
        self.taken += drafts[len(refused) :]
        return refused


def test_catalogues_open_whatever_the_queue_refuses_at_first() -> None:
    """Each product once; the crossings of each can be counted from outside."""
    goods = list(catalogue(30, SEED))
    assert [why_not_countable(each) for each in goods] == [None] * 30 * len(GOODS)
    queue, sent = Queue(5), Ordered()
    play(FakeClock(), open_shops(queue.send, goods, sent))
    assert Counter(draft.body for draft in queue.taken).most_common(1)[0][1] == 1
    assert len(queue.taken) == len(sent.catalogue) == len(goods)
    with pytest.raises(SourceUnavailableError):
        play(FakeClock(), send_all(Queue(1000).send, [Draft("{}")]))


def test_vendors_deliver_each_order_once() -> None:
    """However often they see it, and of their own shops only; the event's id is of the vendor order."""
    clock, queue, sent = FakeClock(), Queue(0), Ordered()
    sent.catalogue["a", "cup"] = ProductEvent("a", "cup", "Cup", 1, 9, 3, 10)
    orders = [VendorOrder(f"a#VENDOR#cup-{number}", "cup", 10) for number in range(3)]
    orders.insert(1, VendorOrder("of-others#VENDOR#cup-9", "cup", 10))

    class Cells:
        async def all(self) -> Sequence[str]:
            return ["cell-0000"]

    class Seen:
        looks = 0

        async def vendor_orders(self, _: str) -> Sequence[VendorOrder]:
            self.looks += 1
            if self.looks == 2:
                raise ShopUnavailableError("not now")
            if self.looks == 6:
                raise EOFError  # ends the story
            return orders[: self.looks]

    vendors = Vendors(queue.send, cast("ShopCells", Cells()), cast("ShopTables", Seen()), sent, clock)
    with pytest.raises(EOFError):
        play(clock, vendors.run())
    bodies = [json.loads(draft.body) for draft in queue.taken]
    assert [(body["type"], body["vendor_order"], body["quantity"]) for body in bodies] == [
        ("arrival", f"cup-{number}", 10) for number in range(3)
    ]
    assert [draft.attributes["event_id"] for draft in queue.taken] == [f"arrival-cup-{number}" for number in range(3)]
    assert sent.arrived() == {("a", "cup"): 30}


def test_the_ledger_shows_what_differs_in_red() -> None:
    """And nothing else."""
    sent = Ordered()
    play(FakeClock(), open_shops(Queue(0).send, catalogue(1, SEED), sent))
    found = ledger(sent, Books((), (), (), {}, {("shop-0001", "honey"): 3}, {}))
    styles = dict(zip(*_cells(ledger_table(found, {"cell-0000": None})), strict=True))
    assert [name for name, style in styles.items() if style] == ["SQL over the objects", "differences"]
    assert any("honey of shop-0001: SQL say 3, 0 ordered" in line for line in found.differences)


def _cells(table: Any) -> tuple[list[str], list[str]]:
    names, values = ([*column.cells] for column in table.columns)
    return [str(name) for name in names], [str(getattr(value, "style", "")) for value in values]
