"""Both sides of the shop agree on names: what the front takes its cell takes, and what its cell sells can be read."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell_worker.handlers.shop.bodies import Order, OrderedLine
from cell_worker.handlers.shop.items import line_key, sale
from router.shop.core.names import placed_at_ms, why_no_customer, why_no_product, why_no_shop
from router.shop.core.orders import OrderEvent, ProductEvent, draft_of, read_order
from router.shop.core.sales import read_record

NOW_MS: Final = 1_767_225_600_000
ORDER: Final = f"ANN-ORDER-{NOW_MS}-00ab12cd"
LINE: Final = {"product": "mug", "quantity": 1}
BODY: Final[dict[str, Any]] = {"shop": "acme", "order_id": ORDER, "customer": "Ann", "lines": [LINE], "at_ms": NOW_MS}
TEXTS: Final = st.one_of(
    st.text(max_size=90),
    st.text("aZ0 _.-#\n\u202e\u2028ü山", max_size=110),
    st.from_regex(r"[A-Z][A-Z-]{0,45}-ORDER-[0-9]{13}-[0-9a-f]{3,18}", fullmatch=True),
)


def cell_takes(**changed: Any) -> Order | None:
    """Return the order that a cell makes of it; None when it refuses."""
    try:
        return msgspec.convert({"type": "order", **BODY, **changed}, Order)
    except msgspec.ValidationError:
        return None


@given(TEXTS)
def test_what_the_front_takes_the_cell_takes(text: str) -> None:
    """Else an order that was taken with 202 would end as a dead letter. Of shops and products both take the same."""
    assert why_no_customer(text) is not None or cell_takes(customer=text)
    assert placed_at_ms(text) is None or cell_takes(order_id=text)
    assert (why_no_shop(text) is None) == (cell_takes(shop=text) is not None)
    assert (why_no_product(text) is None) == (cell_takes(lines=[{**LINE, "product": text}]) is not None)


@given(TEXTS)
def test_what_a_cell_sells_can_be_read_as_a_sale(text: str) -> None:
    """Else one line with a long name would keep its whole object out of every book."""
    for order in (cell_takes(shop=text), cell_takes(order_id=text), cell_takes(lines=[{**LINE, "product": text}])):
        if order is not None:
            (line,) = order.lines
            assert isinstance(line, OrderedLine)
            told: dict[str, Any] = {
                "shop": order.shop,
                "product": line.product,
                "quantity": 1,
                "price_cents": 250,
                "at_ms": NOW_MS,
            }
            row = read_record(sale(line_key(order.order_id, 1).of(**told, taken=1, back_ordered=0)))
            assert (row.shop, row.product, row.order_id) == (order.shop, line.product, order.order_id)  # type: ignore[union-attr] # else it fails


@pytest.mark.parametrize("customer", ["José O'Neil-Łukasz", "山田 花子", "Ann, 2nd floor (left)", "a" * 80])
def test_people_order_by_the_names_that_they_have(customer: str) -> None:
    """Through the front into the cell."""
    basket = {"order_id": ORDER, "customer": customer, "lines": [LINE]}
    event = read_order(msgspec.json.encode(basket), "acme", NOW_MS)
    assert isinstance(event, OrderEvent)
    assert msgspec.json.decode(msgspec.json.encode(event), type=Order).customer == customer


def test_the_same_price_may_come_again_after_another() -> None:
    """A second event of a product with an id of the first would be taken for a duplicate of it."""
    prices = [draft_of(ProductEvent("acme", "cup", "A cup", cents, 5, 1, 10)) for cents in (100, 120, 100)]
    assert not any("event_id" in draft.attributes for draft in prices)
