"""A fake of the cell's Store port that keeps everything in memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from cell_worker.contract.protocol import EventName
from cell_worker.store.store import MAX_OUTBOX_BYTES, Done, FencedError, StoreError


class Volume:
    """What outlives an instance: the data that its successors find."""

    def __init__(self) -> None:
        self.opened = 0  # the highest generation that has ever opened it
        self.highest = 0  # the generation that has taken it
        self.done: dict[EventName, Done] = {}
        self.by_id: set[str] = set()  # what an older version has left: events by their ids alone
        self.lines: list[tuple[int, bytes]] = []
        self.next_seq = 1

    @property
    def processed(self) -> set[str]:
        """The ids of the events that are done, of whichever key."""
        return {event.event_id for event in self.done}


class MemoryStore:
    """The Store port on a Volume. While `broken` is set, writes fail as on a full disk."""

    name = "memory"

    def __init__(self, volume: Volume | None = None) -> None:
        self.volume = volume or Volume()
        self.broken = False
        self._generation = 0

    async def open(self, generation: int) -> None:
        self._generation = generation
        self._check_fence()
        self.volume.opened = max(self.volume.opened, generation)

    async def take(self) -> None:
        self._check_fence()
        if self.broken:
            raise StoreError("disk full")
        self.volume.highest = self._generation

    async def highest_generation(self) -> int:
        return self.volume.opened

    async def seen(self, event: EventName) -> Done | None:
        return self.volume.done.get(event, Done() if event.event_id in self.volume.by_id else None)

    async def commit(self, event: EventName, lines: Sequence[bytes], digest: bytes = b"") -> bool:
        await self.take()
        if event in self.volume.done:
            return False
        self.volume.done[event] = Done(digest)
        for line in lines:
            self.volume.lines.append((self.volume.next_seq, line))
            self.volume.next_seq += 1
        return True

    async def outbox(self, limit: int, max_bytes: int = MAX_OUTBOX_BYTES) -> list[tuple[int, bytes]]:
        self._check_fence()
        if self._in_standby():
            return []
        sizes = accumulate(len(line) for _, line in self.volume.lines[:limit])
        fitting = sum(size <= max_bytes for size in sizes)
        return self.volume.lines[: min(limit, max(1, fitting))]

    async def delete(self, last_seq: int, keep: Sequence[int] = ()) -> None:
        self.volume.lines = [(seq, line) for seq, line in self.volume.lines if seq > last_seq or seq in keep]

    async def outbox_size(self) -> int:
        return 0 if self._in_standby() else len(self.volume.lines)

    async def close(self) -> None:
        return

    @property
    def taken(self) -> bool:
        return not self._in_standby()

    async def prune(self) -> bool:
        return False

    async def reopen(self) -> None:
        return

    async def check(self) -> None:
        self._check_fence()
        if self.broken:
            raise StoreError("disk full")

    def _in_standby(self) -> bool:
        return self.volume.highest < self._generation

    def _check_fence(self) -> None:
        if self.volume.highest > self._generation:
            raise FencedError("a higher generation has the store")
