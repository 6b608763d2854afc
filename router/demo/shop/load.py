"""What the shops of the demo sell, and what their customers want: a function of the seed."""

from __future__ import annotations

import random  # noqa: TID251 - only random.Random(seed): what is generated is a function of the seed
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from router.shop.core.orders import OrderLine, ProductEvent

GOODS: Final[Mapping[str, tuple[str, int]]] = {
    "espresso-cup": ("Espresso cup, glazed", 1450),
    "linen-towel": ("Linen towel", 1890),
    "oak-board": ("Oak bread board", 3900),
    "honey": ("Linden honey, 500 g", 980),
    "olive-oil": ("Olive oil, first pressing", 2150),
    "wool-blanket": ("Wool blanket", 11900),
    "candle": ("Beeswax candle", 760),
    "notebook": ("Notebook, thread-sewn", 1240),
}
"""Each product's title and price in cents."""
CUSTOMERS: Final = ("Ada", "Edsger", "Grace", "Alan", "Barbara", "Donald", "Frances", "Tony")
STREET: Final = "shop"
"""How the names of shops begin, where none are there yet."""
TWICE: Final = 0.05
"""The share of orders that are sent a second time, as by a double click."""

FEAST: Final = 120
FEASTS: Final = 0.03
"""The share of orders that may be for so many pieces, which is more than any stock."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a customer of a shop is going to order."""

    shop: str
    customer: str
    lines: tuple[OrderLine, ...]
    twice: bool


def shop_names(count: int, street: str) -> list[str]:
    """Name so many shops of a street."""
    return [f"{street}-{number:04d}" for number in range(1, count + 1)]


def catalogue(shops: int, seed: int, street: str = STREET) -> Iterator[ProductEvent]:
    """Make what each shop sells. Stocks are small, so that vendors have something to do."""
    rng = random.Random(seed)  # noqa: S311 - made-up shops, not secrets
    for shop in shop_names(shops, street):
        for product, (title, price) in GOODS.items():
            level = rng.randint(3, 8)
            yield ProductEvent(
                shop, product, title, price, level + rng.randint(5, 30), level, level + rng.randint(5, 25)
            )


def wishes(orders: int, shops: int, seed: int, street: str = STREET) -> Iterator[Wish]:
    """Make what customers order: a few shops are popular, as the n-th has 1/n of the first one's customers."""
    rng, names = random.Random(seed + 1), shop_names(shops, street)  # noqa: S311 - made-up orders, not secrets
    sums, products = list(accumulate(1 / place for place in range(1, shops + 1))), list(GOODS)
    for shop in rng.choices(names, cum_weights=sums, k=orders):
        chosen = rng.sample(products, rng.choice((1, 1, 2, 3)))
        pieces = FEAST if rng.random() < FEASTS else 4
        lines = tuple(OrderLine(product, rng.randint(1, pieces)) for product in chosen)
        yield Wish(shop, rng.choice(CUSTOMERS), lines, rng.random() < TWICE)
