"""EventSource in memory: SQS' behaviour without SQS, for tests and simulations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from router.core.errors import SourceUnavailableError
from router.core.models import Draft, Message
from router.ports import Clock

POLL_S = 0.05


@dataclass(slots=True)
class _Stored:
    draft: Draft
    message_id: str
    visible_at: float
    sent_at_ms: int
    receives: int = 0
    receipt: str = ""


class MemorySource:
    """A standard queue: at least once, hidden after a receive, only the newest receipt deletes.

    `down` makes every call fail, to play an outage.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.down = False
        self._clock = clock
        self._stored: dict[str, _Stored] = {}
        self._ids = itertools.count(1)

    def __len__(self) -> int:
        return len(self._stored)

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        """Visible messages, oldest first."""
        give_up_at = self._clock.monotonic() + wait_s
        while True:
            self._fail_if_down()
            now = self._clock.monotonic()
            visible = [stored for stored in self._stored.values() if stored.visible_at <= now][:max_messages]
            if visible or now >= give_up_at:
                return [self._deliver(stored, now + visibility_s) for stored in visible]
            await self._clock.sleep(POLL_S)

    async def delete(self, messages: Sequence[Message]) -> list[Message]:
        """A stale receipt "succeeds" and deletes nothing, as on SQS."""
        self._fail_if_down()
        for message in messages:
            stored = self._stored.get(message.message_id)
            if stored is not None and stored.receipt == message.receipt:
                del self._stored[message.message_id]
        return []

    async def set_visibility(self, messages: Sequence[Message], seconds: int) -> None:
        """Of those that are still there."""
        self._fail_if_down()
        for message in messages:
            stored = self._stored.get(message.message_id)
            if stored is not None and stored.receipt == message.receipt:
                stored.visible_at = self._clock.monotonic() + seconds

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        """Takes all."""
        self._fail_if_down()
        for draft in drafts:
            message_id = f"{self.name}-{next(self._ids)}"
            visible_at = self._clock.monotonic() + draft.delay_s
            self._stored[message_id] = _Stored(draft, message_id, visible_at, self._clock.time_ms())
        return []

    def _deliver(self, stored: _Stored, visible_at: float) -> Message:
        stored.receives += 1
        stored.visible_at = visible_at
        stored.receipt = f"{stored.message_id}/{stored.receives}"
        return Message(
            message_id=stored.message_id,
            receipt=stored.receipt,
            body=stored.draft.body,
            sent_at_ms=stored.sent_at_ms,
            receive_count=stored.receives,
            attributes=dict(stored.draft.attributes),
        )

    def _fail_if_down(self) -> None:
        if self.down:
            raise SourceUnavailableError(f"queue {self.name}: is down")
