"""Finds the cell of a shop by the slot map, as routers do for its events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from router.core.errors import RegistryUnavailableError
from router.core.fleet.routes import slot_map_of
from router.core.registry import Snapshot
from router.core.slot_map.slots import SlotMap
from router.ports import Clock

FRESH_S: Final = 1.0


class ShopCells:
    """Knows which cell has which shop, and asks the registry again once a second at most."""

    def __init__(self, snapshot: Callable[[], Awaitable[Snapshot]], clock: Clock) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._map: SlotMap | None = None
        self._cells: tuple[str, ...] = ()
        self._read_at = float("-inf")

    async def of(self, shop: str) -> str:
        """Return the cell that has the shop. Raises RegistryUnavailableError when no slot map was ever read."""
        return (await self._fresh()).cell_of(shop)

    async def all(self) -> Sequence[str]:
        """List the cells that own slots. Raises RegistryUnavailableError when no slot map was ever read."""
        await self._fresh()
        return self._cells

    async def _fresh(self) -> SlotMap:
        now = self._clock.monotonic()
        if self._map is not None and now < self._read_at + FRESH_S:
            return self._map
        try:
            found = slot_map_of(await self._snapshot())
        except RegistryUnavailableError:
            if self._map is None:
                raise
            self._read_at = now  # what was read last stays in force
            return self._map
        self._cells = tuple(sorted({*found.owners, *found.pins.values()}))
        self._map, self._read_at = found, now
        return found
