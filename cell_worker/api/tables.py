"""A cell's own tables, as the author of a handler sees them: items, writes, and the changes that follow.

A table has two keys, both texts: the partition key `PK` and the sort key `SK`. An item is a mapping with both, and with
whatever else the workload keeps, as texts and whole numbers. Its index finds at once all items that have an `itemType`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

PK: Final = "PK"
SK: Final = "SK"
MAX_WRITES: Final = 100
"""DynamoDB writes no more items in one transaction, and reads no more in one call."""

ItemValue = str | int
TableItem = Mapping[str, ItemValue]
"""One item of a table: `PK`, `SK`, and its other attributes by their names. None of them may be an empty mapping."""


class ItemKey(NamedTuple):
    """What an item is found by. No other item of its table has the same."""

    pk: str
    sk: str

    def of(self, **attributes: ItemValue) -> TableItem:
        """Make the item with this key and these attributes."""
        return {PK: self.pk, SK: self.sk, **attributes}


def key_in(item: TableItem) -> ItemKey:
    """Return the key of an item, from its attributes."""
    return ItemKey(str(item[PK]), str(item[SK]))


@dataclass(frozen=True, slots=True)
class Put:
    """Write an item in the place of the one that was read, if that is still there as it was."""

    item: TableItem
    was: TableItem | None = None
    """The item as it was read; None: there was none. Else nothing at all is written."""


@dataclass(frozen=True, slots=True)
class Change:
    """One item that has changed, as the table's stream tells it."""

    old: TableItem | None
    """The item before; None for a new one."""
    new: TableItem | None
    """The item after; None for one that was deleted."""


Apply = Callable[[Sequence[Change]], Awaitable[None]]
"""What follows from changes. They come in the order of their key, at least once: see `Cell.follow`."""


class CellTable(Protocol):
    """A table that only this cell has. Every method raises RetryEvent when the table can't do it now."""

    name: str
    """The table's full name, as DynamoDB knows it."""

    async def get(self, *keys: ItemKey) -> dict[ItemKey, TableItem]:
        """Read the items with these keys, as all writes before have left them. Those that don't exist are left out."""
        ...

    async def write(self, *puts: Put) -> bool:
        """Write all the items or none, at most MAX_WRITES of different keys.

        False when one is not as it was: read again, and decide again. After a RetryEvent nobody knows whether they are
        written: that too is found by reading again.
        """
        ...

    def scan(self) -> AsyncIterator[Sequence[TableItem]]:
        """Read the whole table, page by page. An item that changes meanwhile comes as it was before or after."""
        ...
