"""What the runtime needs of a cell's store, whatever keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

MAX_OUTBOX_BYTES: Final = 4 * 1024 * 1024  # in memory at once, but for a single line that is longer


class StoreError(Exception):
    """The store can't do it now: disk full, I/O error. Nothing was written."""


class FencedError(StoreError):
    """An instance of a higher generation has the store."""


class Store(Protocol):
    """What the runtime needs of a store."""

    async def open(self, generation: int) -> None:
        """Open it in standby: who has the store goes on. Raises FencedError when a higher generation has it."""
        ...

    async def take(self) -> None:
        """Have the store from now on, alone. Raises StoreError, FencedError."""
        ...

    async def highest_generation(self) -> int:
        """The highest generation that ever opened it; 0 for none."""
        ...

    async def seen(self, event_id: str) -> bool:
        """Whether the event is done."""
        ...

    async def commit(self, event_id: str, lines: Sequence[bytes]) -> bool:
        """Write the event and its lines; False when it was done already. It takes the store, if that is not done.

        Raises StoreError, FencedError.
        """
        ...

    async def outbox(self, limit: int, max_bytes: int = MAX_OUTBOX_BYTES) -> list[tuple[int, bytes]]:
        """The oldest lines, with their numbers: one at least, then as many as fit; none in standby.

        Raises StoreError, FencedError.
        """
        ...

    async def delete(self, last_seq: int, keep: Sequence[int] = ()) -> None:
        """Forget the lines up to and including `last_seq`, but not those in `keep`."""
        ...

    async def outbox_size(self) -> int:
        """How many lines wait; none in standby."""
        ...

    async def check(self) -> None:
        """Write something that changes nothing, in standby too. Raises StoreError, FencedError."""
        ...

    async def close(self) -> None:
        """Release it."""
        ...
