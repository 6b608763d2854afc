"""The storefront and the operations dashboard in a real browser: a person orders, and sees how it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from router.adapters.clock import SystemClock
from tests.support.aio import run
from tests.support.chromium import BINARY, Tab, chromium
from tests.support.page_checks import AXE_FINDS, CONTRAST, NAMELESS, TEXT, axe_core
from tests.support.shop_street import CELLS, SHOP, ShopStreet, served

pytestmark = [
    pytest.mark.one_kind,  # it asks for no server
    pytest.mark.skipif(BINARY is None, reason="there is no Chromium"),
]

HOSTILE: Final = "<img src=x onerror=alert(1)>"


async def is_fit_for_everybody(tab: Tab) -> None:
    """Read by eye in both schemes, by ear, on a phone, and by the rules of axe-core where it is installed."""
    for scheme in ("dark", "light"):
        await tab.scheme(scheme)
        assert await tab.run(CONTRAST) == []
    assert await tab.run(NAMELESS) == []
    assert await tab.run("document.querySelectorAll('h1').length") == 1
    if (script := axe_core()) is not None:
        await tab.run(f"{script};0")
        assert await tab.run(AXE_FINDS) == []
    await tab.size(390, 844)
    assert await tab.run("document.documentElement.scrollWidth") == 390
    await tab.size(1280, 900)


async def orders(street: ShopStreet, tab: Tab, url: str) -> None:
    """Two cups, a double click, one order; then its cell has taken it in, with something to be waited for."""
    await tab.call("Page.navigate", url=f"{url}/?shop={SHOP}")
    await tab.until("document.querySelectorAll('.good').length === 4")
    await tab.until(f"{TEXT}.includes('{HOSTILE}')")
    assert await tab.run("document.querySelectorAll('main img').length") == 0
    await is_fit_for_everybody(tab)
    add = "[...document.querySelectorAll('.add')].find((each) => each.closest('li').innerText.includes('Cup'))"
    await tab.run(f"{add}.click(); {add}.click()")
    await tab.until("document.getElementById('total').textContent.includes('5.00')")
    await tab.run("document.getElementById('place').click()")
    await tab.until(f"{TEXT}.includes('Tell us your name first.')")
    assert street.queue == []
    await tab.run("document.getElementById('customer').focus()")
    await tab.write("Ada")
    await tab.run("document.getElementById('place').click(); document.getElementById('place').click()")
    await tab.until(f"{TEXT}.includes('On its way to us')")
    (sent,) = street.queue
    order = sent.attributes["event_id"]
    assert sent.attributes["partition_key"] == SHOP
    line: dict[str, Any] = {"shop": SHOP, "customer": "Ada", "price_cents": 250, "product": "cup", "quantity": 2}
    street.put(CELLS[1], order, "", "0001", taken=1, back_ordered=1, **line)
    await tab.until(f"{TEXT}.includes('Some of it has to be ordered') && {TEXT}.includes('1 now, 1 later')")
    await is_fit_for_everybody(tab)


async def is_watched(street: ShopStreet, tab: Tab, url: str) -> None:
    """The dashboard shows stock by urgency and a vendor order as it is made; a lost table is said."""
    await tab.call("Page.navigate", url=f"{url}/operations")
    await tab.until(f"{TEXT}.includes('sold out') && {TEXT}.includes('live')")
    street.put(CELLS[1], f"{SHOP}#VENDOR#tea-000001", "vendor_order", product="tea", quantity=10, at_ms=5, state="open")
    street.sold[SHOP, "cup"] = 7
    await tab.until(f"{TEXT}.includes('on its way') && {TEXT}.includes('7 sold')")
    await is_fit_for_everybody(tab)
    street.registry.down = True
    street.tables.down.update(street.tables.items)
    await tab.until(f"{TEXT}.includes('Not shown: ')")


def test_a_person_orders_and_another_one_watches(tmp_path: Path) -> None:
    """One session: both pages, hostile titles, a double click, contrast, names, a phone, and no line on the console."""

    async def story() -> None:
        street = ShopStreet(SystemClock())
        for product, title in (("cup", "Cup"), ("hostile", HOSTILE)):
            street.put(CELLS[1], f"{SHOP}#{product}", "product", stock=9, price_cents=250, title=title)
        table = next(items for name, items in street.tables.items.items() if CELLS[1] in name)
        table.remove(
            next(item for item in table if item["title"]["S"] == "A title" and item["PK"]["S"].endswith("#cup"))
        )
        async with served(street) as url, chromium(tmp_path) as tab:
            await tab.size(1280, 900)
            await orders(street, tab, url)
            await is_watched(street, tab, url)
            assert tab.console == []
            assert {asked.split("/")[2] for asked in tab.asked if not asked.startswith("data:")} == {url.split("/")[2]}

    run(story(), limit_s=120)
