"""Reads the items of a cell's table, as DynamoDB has them: a value, or the reason why it is none. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec

from cell_worker.contract.strict_reader import Unreadable, Whole

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_WHOLE: Final = re.compile(r"-?[0-9]{1,16}", re.ASCII)
T = TypeVar("T")


class Product(msgspec.Struct, frozen=True):
    """What a shop sells, and how much of it there is."""

    PK: Name
    title: Annotated[str, msgspec.Meta(max_length=200)]
    price_cents: Whole
    stock: int  # below zero it would be a fault, and a fault must be seen
    reorder_level: Whole
    reorder_quantity: Whole

    @property
    def shop(self) -> str:
        """Return the shop that sells it."""
        return self.PK.partition("#")[0]

    @property
    def product(self) -> str:
        """Return its name within the shop."""
        return self.PK.partition("#")[2]


class SoldLine(msgspec.Struct, frozen=True):
    """One line of an order, with what was taken from the stock and what could not be had."""

    PK: Name  # the order's id
    SK: Name  # the line's number
    shop: Name
    product: Name
    title: Annotated[str, msgspec.Meta(max_length=200)]
    quantity: Whole
    price_cents: Whole
    taken: Whole = 0
    back_ordered: Whole = 0

    @property
    def settled(self) -> bool:
        """Tell whether it is known how many of it can be had."""
        return self.taken + self.back_ordered == self.quantity


class VendorOrder(msgspec.Struct, frozen=True):
    """What a shop has ordered from its vendor, because its stock had come down to the reorder level."""

    PK: Name
    product: Name
    quantity: Whole
    at_ms: Whole = 0
    state: Name = "open"

    @property
    def arrived(self) -> bool:
        """Tell whether the vendor has delivered it."""
        return self.state == "arrived"

    @property
    def shop(self) -> str:
        """Return the shop that has ordered it."""
        return self.PK.partition("#")[0]

    @property
    def number(self) -> str:
        """Return its id within the shop."""
        return self.PK.partition("#VENDOR#")[2]


class Metric(msgspec.Struct, frozen=True):
    """A figure that a shop keeps of itself, such as how many orders it has had."""

    PK: Name
    value: int

    @property
    def shop(self) -> str:
        """Return the shop that it is about."""
        return self.PK.partition("#")[0]

    @property
    def name(self) -> str:
        """Return what it counts."""
        return self.PK.partition("#METRIC#")[2]


def read_item(item: Any, kind: type[T]) -> T | Unreadable:
    """Return an item as a record of this kind, or the reason why it is none. Never raises."""
    if not isinstance(item, Mapping):
        return Unreadable("it is no item")
    plain = {name: found for name, typed in item.items() if (found := _plain(typed)) is not None}
    try:
        return msgspec.convert(plain, kind)
    except (ValueError, RecursionError) as error:
        return Unreadable(f"{error!s:.200}")


def _plain(typed: Any) -> str | int | bool | None:
    """The value of an attribute, of the types that the shop uses: S, N with a whole number, BOOL."""
    if not isinstance(typed, Mapping) or len(typed) != 1:
        return None
    ((kind, value),) = typed.items()
    if kind == "N":
        return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else None
    if kind == "S":
        return value if isinstance(value, str) else None
    return value if kind == "BOOL" and isinstance(value, bool) else None


def state_of_order(lines: list[SoldLine]) -> str:
    """Say in one word how an order stands: taken in, ready, or in part to be waited for."""
    if not lines:
        return "unknown"
    if not all(line.settled for line in lines):
        return "accepted"
    return "back-ordered" if any(line.back_ordered for line in lines) else "ready"
