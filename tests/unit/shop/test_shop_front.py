"""The shop as a browser meets it: orders go to the queue once, what is wrong is said, and pages load only own files."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest

from router.core.messages.parser import Extraction, Parser
from router.core.models import Message
from router.shop.core.names import table_of
from router.shop.core.orders import CLOCK_MS
from router.shop.front import PAGES, STATIC, STATIC_VERSION, static_file
from tests.support.shop_street import CELLS, SHOP, ShopStreet


def test_an_order_becomes_one_event_of_its_shop_however_often_it_is_sent() -> None:
    """A double click is the same event to the byte, and a router finds shop and id in it."""
    street = ShopStreet()
    basket = street.basket()
    for _ in range(2):
        status, headers, told = street.ask(f"/shops/{SHOP}/orders", basket)
        street.fake.now += 3
        assert (status, told["order_id"]) == (202, basket["order_id"])
        assert headers[b"location"].decode() == told["state_at"] == f"/shops/{SHOP}/orders/{basket['order_id']}"
    first, second = street.queue
    assert first == second
    (event,) = Parser(Extraction()).parse(Message("m", "r", first.body, 0, 1, dict(first.attributes)))
    assert (event.partition_key, event.event_id) == (SHOP, basket["order_id"])
    at_ms = int(basket["order_id"].split("-")[2])
    assert json.loads(event.body) == {"type": "order", "shop": SHOP, **basket, "at_ms": at_ms}


WRONG: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "no id of an order": ({"order_id": "7"}, "order_id must be as CUSTOMER-ORDER-"),
    "no lines": ({"lines": []}, "lines"),
    "too many": ({"lines": [{"product": "cup", "quantity": 1000}]}, "999"),
    "none": ({"lines": [{"product": "cup", "quantity": 0}]}, ">= 1"),
    "a part": ({"lines": [{"product": "cup", "quantity": 1.5}]}, "int"),
    "twice the same": ({"lines": [{"product": "cup", "quantity": 1}] * 2}, "put both quantities into one"),
    "no name": ({"customer": "\u202e"}, "customer must be"),
    "nobody": ({"customer": "  "}, "customer must be"),
    "a price of one's own": ({"price_cents": 1}, "unknown field"),
    "what is not sold": ({"lines": [{"product": "gold", "quantity": 1}]}, "does not sell gold"),
    "no name of a product": ({"lines": [{"product": "a#b", "quantity": 1}]}, "is no name"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_order_is_refused_with_a_reason_and_sent_nowhere(what: str) -> None:
    """Each wrong in one way."""
    street = ShopStreet()
    changed, why = WRONG[what]
    status, _, told = street.ask(f"/shops/{SHOP}/orders", street.basket(**changed))
    assert (status, street.queue) == (422, [])
    assert why in told["detail"]


def test_bytes_kinds_and_times_that_cannot_be_are_refused() -> None:
    """No JSON, no JSON by its header, no end, no name of a shop, a clock that is off, a foreign name."""
    street = ShopStreet()
    path = f"/shops/{SHOP}/orders"
    assert street.ask(path, b"{")[0] == 422
    assert street.ask(path, street.basket(), kind="text/plain")[0] == 415
    assert street.ask(path, b" " * 20_000)[0] == 422
    assert street.ask(path, b" " * 70_000)[0] == 413
    assert street.ask("/shops/A%23B/orders", street.basket())[0] == 422
    for off_ms in (CLOCK_MS + 1000, -CLOCK_MS - 1000):
        status, _, told = street.ask(path, street.basket(order_id=street.order_id(off_ms)))
        assert status == 422
        assert "more than 10 minutes off" in told["detail"]
    assert street.ask(path, street.basket(), host="evil.example.com")[0] == 421
    assert street.queue == []


def test_an_order_is_never_said_to_be_taken_when_the_queue_has_not() -> None:
    """It is 503 with a time to try again, and the same order later."""
    street = ShopStreet()
    street.refuses = True
    status, headers, told = street.ask(f"/shops/{SHOP}/orders", street.basket())
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert "same order_id" in told["detail"]


def test_a_shop_whose_table_is_down_still_takes_orders_and_says_that_it_can_show_nothing() -> None:
    """Its cell looks too; the other shops don't notice."""
    street = ShopStreet()
    street.put(CELLS[0], "other#cup", "product", stock=1, price_cents=1)
    street.tables.down.add(table_of("cellrouter", "live", CELLS[1]))
    assert street.ask(f"/shops/{SHOP}/orders", street.basket())[0] == 202
    status, _, told = street.ask(f"/shops/{SHOP}/products")
    assert status == 503
    assert "cellrouter-live-cell-0001-shop" in told["detail"]
    _, _, shown = street.ask("/operations/now")
    assert shown["shops"] == ["other"]
    assert [why.partition(":")[0] for why in shown["missing"]] == [CELLS[1]]


def test_a_catalogue_comes_from_the_shops_own_cell_and_is_kept_for_two_seconds() -> None:
    """Also when the registry is lost: the map that was read last stays in force."""
    street = ShopStreet()
    status, _, told = street.ask(f"/shops/{SHOP}/products")
    assert (status, told["now_ms"]) == (200, street.clock.time_ms())
    assert [(each["product"], each["stock"]) for each in told["products"]] == [("cup", 9), ("pot", 2), ("tea", 0)]
    calls = street.tables.calls
    street.registry.down = True
    assert street.ask(f"/shops/{SHOP}/products")[0] == 200
    assert street.tables.calls == calls
    street.fake.now += 3
    assert street.ask(f"/shops/{SHOP}/products")[0] == 200
    assert street.tables.calls > calls
    assert street.ask("/shops/nobody/products")[0] == 404
    assert a_street_without_map().ask(f"/shops/{SHOP}/products")[0] == 503


def a_street_without_map() -> ShopStreet:
    """Make a street where no controller has made a slot map yet."""
    street = ShopStreet()
    street.registry.contents.slot_map = None
    return street


def test_an_order_is_told_line_by_line_without_its_customer_and_to_its_own_shop_only() -> None:
    """Unknown until its cell has taken it in; back-orders are told."""
    street = ShopStreet()
    order = street.order_id()
    nothing = {"order_id": order, "state": "unknown", "lines": []}
    assert street.ask(f"/shops/{SHOP}/orders/{order}")[2] == nothing
    sold: dict[str, Any] = {"shop": SHOP, "customer": "Ada", "price_cents": 250}
    street.put(CELLS[1], order, "", "0001", product="cup", quantity=2, taken=0, back_ordered=0, **sold)
    street.put(CELLS[1], order, "", "order", shop=SHOP, state="accepted")
    assert street.ask(f"/shops/{SHOP}/orders/{order}")[2]["state"] == "accepted"
    street.put(CELLS[1], order, "", "0002", product="tea", quantity=3, taken=1, back_ordered=2, **sold)
    lines = street.tables.items[table_of("cellrouter", "live", CELLS[1])]
    next(line for line in lines if line["SK"]["S"] == "0001")["taken"] = {"N": "2"}
    status, _, told = street.ask(f"/shops/{SHOP}/orders/{order}")
    assert (status, told["state"]) == (200, "back-ordered")
    assert [(line["product"], line["taken"], line["back_ordered"]) for line in told["lines"]] == [
        ("cup", 2, 0),
        ("tea", 1, 2),
    ]
    assert "Ada" not in json.dumps(told)
    assert street.ask(f"/shops/elsewhere/orders/{order}")[2] == nothing
    assert street.ask(f"/shops/{SHOP}/orders/7")[0] == 422


def test_operations_show_one_shop_or_all_and_say_what_cannot_be_read() -> None:
    """Stock by urgency, the rate of orders, best sellers, vendor orders; a broken item is counted."""
    street = ShopStreet()
    street.put(CELLS[0], "other#cup", "product", stock=50, price_cents=1)
    street.put(CELLS[0], "broken#cup", "product", stock="many", price_cents=1)
    street.sold = {(SHOP, "cup"): 7}
    street.put(CELLS[1], f"{SHOP}#METRIC#orders", "metric", value=10)
    street.put(CELLS[1], f"{SHOP}#VENDOR#v1", "vendor_order", product="tea", quantity=10, at_ms=5)
    first = street.ask("/operations/now")[2]
    assert (first["orders"], first["orders_a_minute"], first["unread"]) == (10, None, 1)
    assert [(row["shop"], row["product"], row["state"]) for row in first["stock"]] == [
        (SHOP, "tea", "out"),
        (SHOP, "pot", "low"),
        (SHOP, "cup", "enough"),
        ("other", "cup", "enough"),
    ]
    total = next(
        item for item in street.tables.items[table_of("cellrouter", "live", CELLS[1])] if "METRIC" in item["PK"]["S"]
    )
    total["value"] = {"N": "20"}
    street.fake.now += 30
    shown = street.ask(f"/operations/now?shop={SHOP}")[2]
    assert (shown["orders"], shown["orders_a_minute"], shown["minutes"]) == (20, 20.0, [20.0])
    assert (shown["out"], shown["low"], shown["pieces"]) == (1, 1, 11)
    assert shown["best"] == [{"shop": SHOP, "product": "cup", "title": "A title", "sold": 7}]
    assert [(each["number"], each["arrived"]) for each in shown["vendor_orders"]] == [("v1", False)]
    assert street.ask("/operations/now?shop=A%23")[0] == 422
    calls = street.tables.calls
    for _ in range(5):
        street.ask("/operations/now")
    assert street.tables.calls == calls, "however many dashboards ask, tables are read once a second"


def test_pages_load_own_files_only_and_name_what_is_there() -> None:
    """Each has the policy that lets nothing else load, no inline script or style, and files that never change."""
    street = ShopStreet()
    for path, name in PAGES.items():
        status, headers, content = street.ask(path)
        assert (status, headers[b"content-type"]) == (200, b"text/html; charset=utf-8")
        assert b"script-src 'self'" in headers[b"content-security-policy"]
        page = content.decode()
        assert not re.search(r"<script>|<style|\son\w+=|\sstyle=|https?://(?!www\.w3)", page)
        named = re.findall(rf"/static/{STATIC_VERSION}/([\w.]+)", page)
        assert named
        assert set(named) <= STATIC.keys()
        ids = re.findall(r'\bid="([\w-]+)"', page)
        assert len(ids) == len(set(ids)), name
        script = static_file(name.replace(".html", ".js")).decode()
        assert set(re.findall(r'find\("([\w-]+)"\)', script)) <= set(ids), name
        assert re.search(r"<html lang=", page)
        assert re.search(r"<main", page)
    for name, content in STATIC.items():
        _, headers, told = street.ask(f"/static/{STATIC_VERSION}/{name}")
        assert (told, headers[b"cache-control"]) == (content, b"public, max-age=31536000, immutable")
        assert b"innerHTML" not in content
