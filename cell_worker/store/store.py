"""The port to a cell's store: what the worker needs of it, wherever the data lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cell_worker.contract.protocol import EventName

MAX_OUTBOX_BYTES: Final = 4 * 1024 * 1024
"""How many bytes of the outbox are in memory at once, unless a single line is longer."""

REMEMBER_S: Final = 15 * 24 * 3600
"""How long a store remembers an event. An SQS message lives 14 days at most, so it can't come again after that."""


class StoreError(Exception):
    """The store can't do it now: the disk is full, I/O has failed, a service is busy or doesn't answer.

    What was to be written was not, or nobody knows: then it is found when the event comes again.
    """


class FencedError(StoreError):
    """An instance of a higher generation has the store, so this one can never use it again."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a store remembers of an event that is done."""

    digest: bytes = b""
    """Of its body, as its commit gave it. Empty for an event of an older version, which kept none."""


class Store(Protocol):
    """A cell's memory of which events are done, and its outbox: lines that the sink has not delivered yet."""

    name: str
    """What keeps the data, as people call it."""

    @property
    def taken(self) -> bool:
        """Whether this instance has taken the store; until then it is in standby."""
        ...

    async def open(self, generation: int) -> None:
        """Open the store in standby: the instance that has it goes on.

        Raises StoreError, and FencedError when a higher generation has it.
        """
        ...

    async def take(self) -> None:
        """Take the store, so that no instance of a lower generation can use it. Raises StoreError or FencedError."""
        ...

    async def highest_generation(self) -> int:
        """The highest generation that has ever opened the store; 0 when none has."""
        ...

    async def seen(self, event: EventName) -> Done | None:
        """What is remembered of the event, if it was committed before, by any instance. Raises StoreError.

        An older version knew events by their ids alone. What it has left counts for every key with such an id, until it
        is forgotten, once this instance has taken the store.
        """
        ...

    async def commit(self, event: EventName, lines: Sequence[bytes], digest: bytes = b"") -> bool:
        """Write that an event is done, and its lines: both or neither. False when it was done already.

        Takes the store first if this instance has not. `seen` alone looks at what an older version has
        left. Raises StoreError or FencedError, and ValueError for more lines than the store takes of one event.
        """
        ...

    async def outbox(self, limit: int, max_bytes: int = MAX_OUTBOX_BYTES) -> list[tuple[int, bytes]]:
        """The oldest lines of the outbox with their numbers: at least one, and no more than fit into `max_bytes`.

        In standby there are none. Raises StoreError or FencedError.
        """
        ...

    async def delete(self, last_seq: int, keep: Sequence[int] = ()) -> None:
        """Delete the lines up to and including number `last_seq`, but not those in `keep`. Raises StoreError."""
        ...

    async def outbox_size(self) -> int:
        """How many lines wait in the outbox; 0 in standby."""
        ...

    async def check(self) -> None:
        """Write something that changes nothing, also in standby. Raises StoreError or FencedError."""
        ...

    async def prune(self) -> bool:
        """Forget some events that can't come again. False when no more of them are left. Raises StoreError."""
        ...

    async def reopen(self) -> None:
        """Close what the store keeps open and open it again, without losing a commit on its way. Raises StoreError."""
        ...

    async def close(self) -> None:
        """Finish what is being written and close the store."""
        ...
