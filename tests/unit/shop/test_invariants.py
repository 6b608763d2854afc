"""What always holds in a shop, whatever comes twice, crashes, overtakes, or goes on beside its successor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell_worker import clock
from cell_worker.api import Change, TableItem, key_in
from cell_worker.handlers.shop.items import METRICS, metric_key, number, sale
from tests.support.shop_world import ShopWorld, arrival, lines_in, of_type, order, product

SHOPS: Final = ("acme", "globex")
PRODUCTS: Final = ("mug", "cap")
DAY_MS: Final = 24 * 3600 * 1000

names = st.sampled_from(PRODUCTS)
shops = st.sampled_from(SHOPS)
ordered = st.tuples(shops, st.integers(0, 9), st.lists(st.tuples(names, st.integers(1, 9)), min_size=1, max_size=20))
STEPS: Final = st.one_of(
    st.tuples(st.just("order"), st.lists(ordered, min_size=1, max_size=3)),  # at the same moment
    st.tuples(st.just("arrive"), st.integers(0, 5)),
    st.tuples(st.just("turn"), st.none()),
    st.tuples(st.just("crash"), st.integers(0, 12)),
    st.tuples(st.just("crash_reading"), st.integers(0, 6)),
    st.tuples(st.just("replace"), st.booleans()),
    st.tuples(st.just("split"), st.none()),
    st.tuples(st.just("day"), st.none()),
    st.tuples(st.just("restore"), st.none()),
    st.tuples(st.just("product"), st.tuples(shops, names, st.integers(0, 30), st.integers(1, 40))),
)


class Deeds:
    """Does the steps of a story in a world."""

    def __init__(self, world: ShopWorld, patch: pytest.MonkeyPatch) -> None:
        self._world = world
        self._patch = patch
        self._now_ms = 1_800_000_000_000
        self._number = 0
        self._day(0)

    def do(self, step: tuple[str, Any]) -> None:
        """Do one step by its name."""
        name, what = step
        deed: Callable[[Any], None] = getattr(self, f"_{name}")
        deed(what)

    def _order(self, orders: Sequence[tuple[str, int, list[tuple[str, int]]]]) -> None:
        # Few ids, so that many orders come twice, also with other lines: then the first one counts.
        self._world.give(*(order(shop, f"{shop}-ORDER-{number}", *lines) for shop, number, lines in orders))

    def _arrive(self, which: int) -> None:
        if found := of_type(self._world.table, "vendor_order"):
            self._world.give(arrival(found[which % len(found)]))

    def _turn(self, _: None) -> None:
        self._world.turn()

    def _crash(self, after: int) -> None:
        self._world.table.crash_in = after

    def _crash_reading(self, after: int) -> None:
        self._world.turn()
        self._order([(SHOPS[0], 10 + after, [("mug", 1)])])
        self._world.table.crash_in = after
        self._world.turn()

    def _replace(self, leaves_zombie: bool) -> None:
        self._world.replace(leaves_zombie=leaves_zombie)

    def _split(self, _: None) -> None:
        self._world.table.split()

    def _day(self, days: int | None) -> None:
        """Let a day pass in which nobody follows the table: the stream loses all that it has."""
        if days is None:
            self._world.table.trim()
            self._world.replace(leaves_zombie=False)
            self._now_ms += DAY_MS
        self._patch.setattr(clock, "time_ms", lambda: self._now_ms)

    def _restore(self, _: None) -> None:
        """Have the table restored as it is: its stream is another one, without any change."""
        self._world.table.trim()
        self._world.table.stream_label += "1"
        self._world.replace(leaves_zombie=False)

    def _product(self, what: tuple[str, str, int, int]) -> None:
        shop, name, level, quantity = what
        self._world.give(product(shop, name, 0, level, quantity))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_a_shop_adds_up(steps: list[tuple[str, Any]]) -> None:
    """Lines = taken + back-orders = sales = totals; stock is never negative; vendor orders = crossings."""
    world = ShopWorld()
    with pytest.MonkeyPatch.context() as patch:
        deeds = Deeds(world, patch)
        world.give(*(product(shop, "mug", 20, 5, 15) for shop in SHOPS))
        world.give(*(product(shop, "cap", 20, 18, 2) for shop in SHOPS))  # a delivery of it leaves it low
        for step in steps:
            deeds.do(step)
        world.settle()
    lines = lines_in(world.table)
    assert all(number(line, "taken") + number(line, "back_ordered") == line["quantity"] for line in lines)
    assert all("taken" in line for line in lines)
    _check_orders(world, lines)
    _check_products(world, lines)
    _check_totals(world, lines)
    assert [sale(line) for line in lines] == [
        _only(world.committed[f"{each['PK']}/{int(each['SK'])}"]) for each in lines
    ]
    assert len(world.committed) == len(lines)


def _check_orders(world: ShopWorld, lines: Sequence[TableItem]) -> None:
    """Each order is there with all its lines, and done."""
    found = Counter(str(line["PK"]) for line in lines)
    orders = [item for item in world.table.items.values() if item["SK"] == "order"]
    assert {str(each["PK"]): each["lines"] for each in orders} == found
    assert all((each["state"], each["settled"]) == ("done", each["lines"]) for each in orders)
    missing = Counter[str]()
    for line in lines:
        missing[str(line["PK"])] += number(line, "back_ordered")
    assert {str(each["PK"]): each["back_ordered"] for each in orders} == missing


def _check_products(world: ShopWorld, lines: Sequence[TableItem]) -> None:
    """Stock is what there was, and what has arrived, less what was taken; each crossing has made one vendor order."""
    asked = of_type(world.table, "vendor_order")
    for item in of_type(world.table, "product"):
        of = (item["shop"], item["product"])
        history = [each for each in world.table.changes if each.new is not None and key_in(each.new) == key_in(item)]
        arrived = sum(number(each, "quantity") for each in asked if _is(each, of) and each["state"] == "arrived")
        taken = sum(number(line, "taken") for line in lines if _is(line, of))
        assert number(item, "stock") == 20 + arrived - taken
        assert all(number(each.new or {}, "stock") >= 0 for each in history)
        assert sum(map(_is_crossing, history)) == sum(_is(each, of) for each in asked) == item["crossings"]


def _is_crossing(change: Change) -> bool:
    old, new = change.old or {}, change.new or {}
    if number(new, "stock") > number(new, "reorder_level"):
        return False
    was_low = bool(old) and number(old, "stock") <= number(old, "reorder_level")
    return not was_low or number(new, "stock") > number(old, "stock")


def _check_totals(world: ShopWorld, lines: Sequence[TableItem]) -> None:
    for shop in SHOPS:
        mine = [line for line in lines if line["shop"] == shop]
        counted = {
            "orders": len({line["PK"] for line in mine}),
            "ordered": sum(number(line, "quantity") for line in mine),
            "taken": sum(number(line, "taken") for line in mine),
            "back_ordered": sum(number(line, "back_ordered") for line in mine),
            "vendor_orders": sum(each["shop"] == shop for each in of_type(world.table, "vendor_order")),
        }
        told = {name: number(world.table.items.get(metric_key(shop, name), {}), "value") for name in METRICS}
        assert told == counted


def _is(item: TableItem, of: tuple[object, object]) -> bool:
    return (item["shop"], item["product"]) == of


def _only(records: Sequence[Any]) -> Any:
    (record,) = records
    return record
