"""Makes the pictures of the shop in docs/images, of a street without servers: `python -m docs.shop_screenshots`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

from docs.screenshots import DESKTOP, PHONE, take
from router.demo.shop.load import GOODS
from router.shop.core.names import key_of_product
from tests.support.aio import run
from tests.support.chromium import Tab, chromium
from tests.support.page_checks import TEXT
from tests.support.shop_street import ShopStreet, served

SHOPS: Final = ("corner", "harbour", "old-mill", "market-hall")
STOCK: Final = (24, 0, 3, 41, 12, 2, 30, 17)
SOLD: Final = (38, 12, 9, 64, 25, 4, 51, 19)
RATES: Final = (4, 5, 5, 7, 9, 12, 14, 13, 9, 8, 6, 5)
ASKED: Final = (
    ("honey", 20, "arrived"),
    ("candle", 25, "arrived"),
    ("linen-towel", 15, "open"),
    ("oak-board", 10, "open"),
)


def a_street() -> ShopStreet:
    """Make shops that have sold for a while."""
    street = ShopStreet()
    for items in street.tables.items.values():
        items.clear()
    for place, shop in enumerate(SHOPS):
        for number, (product, (title, price)) in enumerate(GOODS.items()):
            stock = STOCK[(number + 3 * place) % len(STOCK)]
            facts: dict[str, Any] = {"title": title, "price_cents": price, "stock": stock, "reorder_level": 5}
            street.put(street.cell_of(shop), key_of_product(shop, product), "product", **facts)
            street.sold[shop, product] = SOLD[number] // (place + 1)
        for number, (product, quantity, state) in enumerate(ASKED[place:], start=1):
            key, at_ms = f"{shop}#VENDOR#{product}-{number:06}", street.clock.time_ms() - number * 60_000
            facts = {"product": product, "quantity": quantity, "at_ms": at_ms, "state": state}
            street.put(street.cell_of(shop), key, "vendor_order", **facts)
    return street


async def watched(street: ShopStreet, tab: Tab, url: str) -> None:
    """Have the dashboard asked while orders come and go, so that it has something to draw."""
    for number in range(60):
        street.fake.now += 15
        orders = sum(RATES[place // 5] + place * 7 % 5 for place in range(number))
        for items in street.tables.items.values():
            items[:] = [item for item in items if "METRIC" not in item["PK"]["S"]]
        for place, shop in enumerate(SHOPS):
            street.put(street.cell_of(shop), f"{shop}#METRIC#orders", "metric", value=orders // (place + 1))
        await tab.run(f"fetch('{url}/operations/now').then((answer) => answer.json())")


async def pictures(street: ShopStreet, tab: Tab, url: str) -> None:
    """Take both pages on a large screen, in the dark, and on a phone."""
    await tab.call("Page.navigate", url=f"{url}/?shop={SHOPS[0]}")
    await tab.until("document.querySelectorAll('.good').length === 8")
    await tab.run("document.querySelectorAll('.add').forEach((each, place) => place % 3 || each.click())")
    await tab.run("document.getElementById('customer').focus()")
    await tab.write("Ada")
    await tab.run("document.getElementById('place').click()")
    await tab.until(f"{TEXT}.includes('On its way to us')")
    facts: dict[str, Any] = {"shop": SHOPS[0], "price_cents": 1450, "quantity": 1, "taken": 1, "back_ordered": 0}
    facts["title"] = "Espresso cup, glazed"
    order = street.queue[-1].attributes["event_id"]
    street.put(street.cell_of(SHOPS[0]), order, "", "0001", product="espresso-cup", **facts)
    await tab.run("document.querySelectorAll('.add').forEach((each, place) => place % 4 || each.click())")
    await tab.until(f"{TEXT}.includes('All of it is yours')")
    await both(tab, "shop-storefront")
    await tab.call("Page.navigate", url=f"{url}/operations")
    await watched(street, tab, url)
    await tab.until(f"{TEXT}.includes('on its way') && {TEXT}.includes('live')")
    await both(tab, "shop-operations")


async def both(tab: Tab, name: str) -> None:
    """Take a page as it is, in the dark, and on a phone."""
    await take(tab, name, *DESKTOP)
    await tab.scheme("dark")
    await take(tab, f"{name}-dark", *DESKTOP)
    await tab.scheme("light")
    await take(tab, f"{name}-phone", *PHONE)
    await tab.size(*DESKTOP)


async def main() -> None:
    """Serve both pages, and take the pictures."""
    street = a_street()
    with tempfile.TemporaryDirectory() as folder:
        async with served(street) as url, chromium(Path(folder)) as tab:
            await tab.size(*DESKTOP)
            await pictures(street, tab, url)


if __name__ == "__main__":
    run(main(), limit_s=120)
