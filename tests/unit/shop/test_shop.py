"""The shop's handler in a worker of its own: what each event does, and what it is refused for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from cell_worker.api import Event, Put
from cell_worker.handlers.shop import Shop
from cell_worker.handlers.shop.items import line_key, order_key, product_key
from cell_worker.testing import Answer, Harness
from tests.support.paths import REPOSITORY
from tests.support.shop_world import arrival, of_type, order, product


@pytest.fixture
def cell() -> Iterator[Harness]:
    """A cell whose shop `acme` has 10 mugs, and asks for 20 more when 4 are left."""
    with Harness(Shop) as cell:
        assert give(cell, product("acme", "mug", 10, 4, 20)).outcome == "ok"
        yield cell


def give(cell: Harness, event: Event, **changed: Any) -> Answer:
    """Deliver an event, with some of its body changed."""
    body: Mapping[str, Any] = {**msgspec.json.decode(event.body), **changed}
    return cell.give(body, key=event.partition_key, event_id=event.event_id, sent_at_ms=event.sent_at_ms)


def test_an_order_becomes_lines_stock_and_sales(cell: Harness) -> None:
    """What can't be had is back-ordered, and each line is one sale, in its minute."""
    at_ms = 1_767_225_599_999  # the last moment of 2025
    assert give(cell, order("acme", "ann-ORDER-1", ("mug", 7), ("mug", 7), at_ms=at_ms)).outcome == "ok"
    shop = cell.tables["shop"]
    assert "taken" not in shop.items[line_key("ann-ORDER-1", 1)]
    first, second = cell.catch_up()
    minute = {"day": "2025-12-31", "hour": "23", "minute": "2025-12-31T23:59Z", "at_ms": at_ms}
    common = {"shop": "acme", "product": "mug", "order_id": "ann-ORDER-1", "price_cents": 250, "quantity": 7, **minute}
    assert first == {**common, "line": 1, "taken": 7, "back_ordered": 0}
    assert second == {**common, "line": 2, "taken": 3, "back_ordered": 4}
    assert shop.items[product_key("acme", "mug")]["stock"] == 0
    state = shop.items[order_key("ann-ORDER-1")]
    assert (state["state"], state["back_ordered"]) == ("done", 4)
    assert cell.catch_up() == []


def test_a_crossing_makes_one_vendor_order_whose_arrival_raises_the_stock_once(cell: Harness) -> None:
    """Also when another message says the same; and what nobody has asked for is refused."""
    for number in range(3):
        give(cell, order("acme", f"ann-ORDER-{number}", ("mug", 3)))
        cell.catch_up()
    (asked,) = of_type(cell.tables["shop"], "vendor_order")
    assert (asked["quantity"], asked["state"]) == (20, "open")
    refused = give(cell, arrival(asked), quantity=19)
    assert (refused.outcome, refused.reason) == (
        "rejected",
        "vendor order mug-000001 is for 20 of mug: deliver that, all at once",
    )
    for event_id in ("first", "second"):
        body = msgspec.json.decode(arrival(asked).body)
        assert cell.give(body, key="acme", event_id=event_id).outcome == "ok"
    assert cell.tables["shop"].items[product_key("acme", "mug")]["stock"] == 21
    assert give(cell, arrival({**asked, "vendor_order": "cap-000001"})).outcome == "rejected"


def test_the_catalogue_changes_words_and_figures_and_leaves_the_stock(cell: Harness) -> None:
    """A product that is low by its new level is asked for."""
    body = msgspec.json.decode(product("acme", "mug", 500, 10, 20).body)
    assert cell.give({**body, "title": "Large mug"}, key="acme").outcome == "ok"
    item = cell.tables["shop"].items[product_key("acme", "mug")]
    assert (item["title"], item["stock"], item["reorder_level"], item["crossings"]) == ("Large mug", 10, 10, 1)
    assert len(of_type(cell.tables["shop"], "vendor_order")) == 1


def test_an_order_for_what_the_shop_does_not_have_may_come_again(cell: Harness) -> None:
    """Its catalogue may be on the way. Nothing of it is written."""
    wanted = order("acme", "ann-ORDER-1", ("mug", 1), ("cap", 1))
    assert give(cell, wanted).outcome == "failed"
    assert order_key("ann-ORDER-1") not in cell.tables["shop"].items
    give(cell, product("acme", "cap", 1, 0, 1))
    assert give(cell, wanted).outcome == "ok"


def test_an_id_is_for_one_order(cell: Harness) -> None:
    """The same order by another message is there already; another customer's is refused."""
    again = msgspec.json.decode(order("acme", "ann-ORDER-1", ("mug", 1)).body)
    answers = [cell.give(again, key="acme", event_id=event_id) for event_id in ("first", "second")]
    assert [answer.outcome for answer in answers] == ["ok", "ok"]
    assert len(cell.catch_up()) == 1
    assert cell.give({**again, "customer": "bob"}, key="acme").outcome == "rejected"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"lines": []}, "length"),
        ({"lines": [{"product": "mug", "quantity": 1}] * 51}, "length"),
        ({"lines": [{"product": "mug", "quantity": 0}]}, "quantity"),
        ({"lines": [{"product": "mug", "quantity": 1000}]}, "quantity"),
        ({"lines": [{"product": "mug#VENDOR", "quantity": 1}]}, "product"),
        ({"order_id": "acme#mug"}, "order_id"),
        ({"order_id": "1\n"}, "order_id"),
        ({"shop": "globex"}, "globex"),
        ({"shop": "../acme"}, "shop"),
        ({"type": "refund"}, "refund"),
        ({"at_ms": -1}, "at_ms"),
        ({"customer": "  "}, "customer"),
        ({"customer": "a\nb"}, "customer"),
        ({"customer": "a" * 81}, "customer"),
    ],
)
def test_what_no_shop_understands_is_refused(cell: Harness, changed: dict[str, Any], why: str) -> None:
    """It goes to the dead-letter queue with a reason that names the member."""
    answer = give(cell, order("acme", "ann-ORDER-1", ("mug", 1)), **changed)
    assert answer.outcome == "rejected"
    assert why in str(answer.reason)


def test_the_largest_order_fits_into_a_transaction(cell: Harness) -> None:
    """It has 50 lines; they are settled in four transactions."""
    for number in range(50):
        give(cell, product("acme", f"p{number}", 1, 0, 1))
    assert give(cell, order("acme", "ann-ORDER-1", *((f"p{number}", 2) for number in range(50)))).outcome == "ok"
    assert len(cell.catch_up()) == 50
    assert len(of_type(cell.tables["shop"], "vendor_order")) == 50


def test_what_a_stranger_writes_into_the_table_stops_nobody(cell: Harness) -> None:
    """Neither half a line nor a line without its order."""
    table = cell.tables["shop"]
    half = line_key("nobody-1", 1).of(shop="acme")
    alone = line_key("nobody-2", 1).of(shop="acme", product="mug", quantity=3)
    for item in (half, alone):
        assert cell.run(table.write(Put(item)))
    give(cell, order("acme", "ann-ORDER-1", ("mug", 1)))
    assert [sale["order_id"] for sale in cell.catch_up()] == ["ann-ORDER-1"]


def test_it_imports_nothing_of_cellrouter_but_what_any_workload_may() -> None:
    """It is the example of one that a team brings."""
    for path in (REPOSITORY / "cell_worker" / "handlers" / "shop").glob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) ((?:cell_worker|router)\S*)", path.read_text(), re.MULTILINE)
        assert all(re.match(r"cell_worker\.(api$|handlers\.shop)", name) for name in imported), path


def test_it_shows_its_table_and_its_stream(cell: Harness) -> None:
    """Both are checked and restarted as any component, and a canary reads the table."""
    give(cell, order("acme", "ann-ORDER-1", ("mug", 1)))
    cell.catch_up()
    assert cell.run(cell.components["table"].check()) == "cellrouter-test-cell-0000-shop can be read"
    assert "changes applied" in cell.run(cell.components["stream"].check())
    cell.run(cell.components["stream"].restart())
    assert cell.catch_up() == []
    assert cell.canary().outcome == "ok"


def test_an_order_costs_so_many_reads_and_writes(cell: Harness) -> None:
    """The figures that docs/reference/shop.md tells."""
    table = cell.tables["shop"]
    cell.catch_up()
    table.reads = table.writes = 0
    give(cell, order("acme", "ann-ORDER-1", ("mug", 1), ("mug", 1)))
    assert (table.reads, table.writes) == (2, 3)
    cell.catch_up()
    # Two lines, their order, a product and three totals; and twice the place in the stream, which tells of these too.
    assert (table.reads - 2, table.writes - 3) == (9, 9)


def test_orders_that_come_together_share_their_costs(cell: Harness) -> None:
    """The figures of sixteen orders of two lines, that the same page tells."""
    table = cell.tables["shop"]
    give(cell, product("acme", "cap", 1000, 0, 1))
    give(cell, order("acme", "ann-ORDER-0", ("cap", 1)))
    cell.catch_up()
    table.reads = table.writes = 0
    for number in range(1, 17):
        give(cell, order("acme", f"ann-ORDER-{number}", ("cap", 1), ("cap", 1)))
    assert (table.reads, table.writes) == (2 * 16, 3 * 16)
    cell.catch_up()
    # Of each transaction 16 lines, 8 orders, a product and the totals; and twice the place in the stream.
    assert (table.reads - 32, table.writes - 48) == (2 * (16 + 8 + 1 + 5), 2 * (16 + 8 + 1 + 3) + 2)
