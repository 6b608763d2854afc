"""What a worker lends a handler's `start`: the cell's own tables, what follows them, and commits of records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge

from cell_worker.api import Apply, CellTable, Component, RetryEvent
from cell_worker.contract.protocol import EventName
from cell_worker.store.store import FencedError, Store, StoreError
from cell_worker.tables.reader import TableReader
from cell_worker.tables.stream import FollowedTable

BACKGROUND: Final = ""
"""The partition key of what background components commit. No event has it."""
MAX_NAME_CHARS: Final = 300


class LentDurables:
    """The durables of one worker. Tables open when they are first used."""

    def __init__(
        self,
        store: Store,
        table_of: Callable[[str], FollowedTable],
        lines_of: Callable[[Sequence[Mapping[str, Any]]], list[bytes]],
        metrics: CollectorRegistry,
    ) -> None:
        self._store = store
        self._table_of = table_of
        self._lines_of = lines_of
        self._behind = Gauge(
            "cell_follow_behind_seconds",
            "For how long changes of an own table may have waited that are not applied yet.",
            ["component"],
            registry=metrics,
        )
        self.tables: dict[str, FollowedTable] = {}
        """The tables that the handler has asked for, by their short names."""

    def table(self, name: str) -> CellTable:
        """Return the cell's own table of this name."""
        if name not in self.tables:
            self.tables[name] = self._table_of(name)
        return self.tables[name]

    def follow(self, table: CellTable, apply: Apply, name: str) -> Component:
        """Make the component that has the changes of a table applied."""
        own = next((each for each in self.tables.values() if each is table), None)
        if own is None:
            raise ValueError(f"{table.name} is no table that this cell has given: use cell.table")
        reader = TableReader(own, apply, name)
        self._behind.labels(name).set_function(reader.behind_s)
        return reader

    async def commit(self, name: str, records: Sequence[Mapping[str, Any]]) -> bool:
        """Commit records under a name. False when that was done. Raises RetryEvent, and FencedError at the end."""
        if not 0 < len(name) <= MAX_NAME_CHARS:
            raise ValueError(f"the name of a commit has 1 to {MAX_NAME_CHARS} characters")
        try:
            return await self._store.commit(EventName(BACKGROUND, name), self._lines_of(records))
        except FencedError:
            raise
        except StoreError as error:
            raise RetryEvent(str(error)) from error

    async def close(self) -> None:
        """Close every table's clients with their connections."""
        for table in self.tables.values():
            await table.close()
