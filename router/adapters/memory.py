"""EventSource in memory: behaves as SQS does, for tests, simulations and benchmarks."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from router.core.errors import SourceUnavailableError
from router.core.models import MAX_MESSAGE_BYTES, Depth, Draft, Message
from router.ports import Clock

MIN_PAUSE_S: Final = 0.01
DEDUP_S: Final = 300.0  # how long SQS remembers a deduplication id


@dataclass(slots=True, eq=False)
class _Stored:
    """A message that lies in the queue."""

    draft: Draft
    number: int  # in the order of sending
    message_id: str
    visible_at: float
    sent_at_ms: int
    receives: int = 0
    receipt: str = ""
    deleted: bool = False


class MemorySource:
    """A queue that delivers at least once, hides what was received, and deletes only by the newest receipt.

    It is FIFO when its name ends with `.fifo`: it keeps order within a group, and delivers nothing of a group while one
    of the group's messages is hidden. Setting `down` makes every call fail, as in an outage.
    """

    def __init__(self, name: str, clock: Clock, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.name = name
        self._max_bytes = max_bytes
        self.fifo = name.endswith(".fifo")
        self.down = False
        self._clock = clock
        self._stored: dict[str, _Stored] = {}
        self._due: list[tuple[float, int, _Stored]] = []  # heap by the time at which each becomes visible
        self._groups: dict[str, list[_Stored]] = {}  # FIFO only, each in order
        self._seen: dict[tuple[str, str], float] = {}  # FIFO only: group, deduplication id → until when
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._stored)

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        """Receive visible messages, oldest first; raises SourceUnavailableError when the queue goes down meanwhile."""
        give_up_at = self._clock.monotonic() + wait_s
        while True:
            self._fail_if_down()
            now = self._clock.monotonic()
            visible = self._visible_groups(now) if self.fifo else self._visible(now)
            taken = list(itertools.islice(visible, max_messages))
            if taken or now >= give_up_at:
                return [self._deliver(stored, now + visibility_s) for stored in taken]
            await self._until_something(give_up_at)

    async def delete(self, messages: Sequence[Message]) -> list[Message]:
        """Delete messages; as on SQS, an old receipt succeeds and deletes nothing."""
        self._fail_if_down()
        for message in messages:
            if stored := self._current(message):
                stored.deleted = True
                del self._stored[message.message_id]
                self._changed.set()
                if self.fifo:
                    self._groups[stored.draft.group_id or ""].remove(stored)
        return []

    async def set_visibility(self, messages: Sequence[Message], seconds: int) -> None:
        """Hide messages again; passes over those that are gone or have another receipt."""
        self._fail_if_down()
        for message in messages:
            if stored := self._current(message):
                self._hide_until(stored, self._clock.monotonic() + seconds)

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        """Take what is not too large; on a FIFO queue only what has a group and a deduplication id."""
        self._fail_if_down()
        return [position for position, draft in enumerate(drafts) if not self._store(draft)]

    async def depth(self) -> Depth:
        """Count the messages; those waiting include those behind another one of their group."""
        self._fail_if_down()
        waiting = sum(stored.visible_at <= self._clock.monotonic() for stored in self._stored.values())
        return Depth(waiting, len(self._stored) - waiting, 0)

    async def max_bytes(self) -> int:
        """Return the limit that the queue was made with."""
        self._fail_if_down()
        return self._max_bytes

    async def _until_something(self, give_up_at: float) -> None:
        """Wait until a message may be visible, or until `give_up_at`."""
        now = self._clock.monotonic()
        whole = [max(stored.visible_at for stored in group) for group in self._groups.values() if group]
        due = min([at for at in whole if at > now], default=give_up_at)
        due = self._due[0][0] if self._due else due
        pause = max(MIN_PAUSE_S, min(due, give_up_at) - now)
        waits = {asyncio.create_task(self._clock.sleep(pause)), asyncio.create_task(self._changed.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            self._changed.clear()

    def _store(self, draft: Draft) -> bool:
        now = self._clock.monotonic()
        if draft.size > self._max_bytes:
            return False
        if self.fifo:
            if not draft.group_id or not draft.dedup_id:
                return False
            if self._seen.get((draft.group_id, draft.dedup_id), now) > now:
                return True  # a duplicate counts as taken, as on SQS
            self._seen[draft.group_id, draft.dedup_id] = now + DEDUP_S
        number = next(self._numbers)
        stored = _Stored(draft, number, f"{self.name}-{number}", now, self._clock.time_ms())
        self._stored[stored.message_id] = stored
        if self.fifo:
            self._groups.setdefault(draft.group_id or "", []).append(stored)
        self._hide_until(stored, now + (0 if self.fifo else draft.delay_s))
        return True

    def _visible(self, now: float) -> Iterator[_Stored]:
        while self._due and self._due[0][0] <= now:
            visible_at, _, stored = heapq.heappop(self._due)
            if not stored.deleted and stored.visible_at == visible_at:  # otherwise it has been hidden again
                yield stored

    def _visible_groups(self, now: float) -> Iterator[_Stored]:
        for group in list(self._groups.values()):
            if all(stored.visible_at <= now for stored in group):
                yield from list(group)

    def _deliver(self, stored: _Stored, visible_at: float) -> Message:
        stored.receives += 1
        stored.receipt = f"{stored.message_id}/{stored.receives}"
        self._hide_until(stored, visible_at)
        return Message(
            message_id=stored.message_id,
            receipt=stored.receipt,
            body=stored.draft.body,
            sent_at_ms=stored.sent_at_ms,
            receive_count=stored.receives,
            attributes=dict(stored.draft.attributes),
            types=dict(stored.draft.types),
            binaries=dict(stored.draft.binaries),
            trace_header=stored.draft.trace_header,
            group_id=stored.draft.group_id,
            dedup_id=stored.draft.dedup_id if self.fifo else None,
        )

    def _hide_until(self, stored: _Stored, visible_at: float) -> None:
        stored.visible_at = visible_at
        self._changed.set()
        if not self.fifo:
            heapq.heappush(self._due, (visible_at, stored.number, stored))

    def _current(self, message: Message) -> _Stored | None:
        stored = self._stored.get(message.message_id)
        return stored if stored is not None and stored.receipt == message.receipt else None

    def _fail_if_down(self) -> None:
        if self.down:
            raise SourceUnavailableError(f"queue {self.name}: is down")
