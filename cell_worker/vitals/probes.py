"""What tries an instance and leaves nothing behind: canaries, and copies of events that the handler rehearses.

Guarantees: neither has side effects or lines, and a rehearsal doesn't touch the store. No more than MAX_REHEARSALS run
at once, also of those that go on after nobody waits for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from cell_worker.api import Cell, Event, RejectEvent
from cell_worker.containment.abandoned import FEWEST_ALLOWED, Run
from cell_worker.metrics import Strain
from cell_worker.store.store import Store

MAX_REHEARSALS: Final = FEWEST_ALLOWED - 1
"""At once, beside the events: if all of them go on after their time, that alone ends no worker."""


class Probes:
    """Tries one instance's way: its store and its handler."""

    def __init__(self, handler: Any, store: Store, cell: Cell, strain: Strain) -> None:
        self._canary: Callable[[Cell], Awaitable[None]] | None = getattr(handler, "canary", None)
        self._rehearse: Callable[[Event, Cell], Awaitable[object]] | None = getattr(handler, "rehearse", None)
        self._store = store
        self._cell = cell
        self._strain = strain
        self._rehearsals: list[Run] = []

    @property
    def rehearses(self) -> bool:
        """Whether the handler says that it can do an event without any effect."""
        return self._rehearse is not None

    async def canary(self) -> None:
        """Check the store, then call the handler's canary. Raises StoreError, or whatever the handler raises."""
        await self._strain.timed(self._store.check())
        if self._canary is not None:
            await self._canary(self._without_effects())

    async def rehearse(self, copy: Event, run: Run) -> None:
        """Have the handler rehearse a copy of an event that is done.

        Raises RejectEvent where this copy is not rehearsed, or not now, and whatever else the handler raises.
        """
        if self._rehearse is None:
            raise RejectEvent("the handler doesn't rehearse events")
        self._rehearsals = [each for each in self._rehearsals if each.goes_on()]
        if len(self._rehearsals) >= MAX_REHEARSALS:
            raise RejectEvent(f"{len(self._rehearsals)} other events are rehearsed")
        self._rehearsals.append(run)
        await self._rehearse(copy, self._without_effects())

    def _without_effects(self) -> Cell:
        return replace(self._cell, side_effects=False, emitted=[])
