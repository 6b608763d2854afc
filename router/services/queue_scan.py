"""One walk of an operator through a queue, which hides what it meets until it ends.

Guarantees: what a walk hides is visible again afterwards, also after an error or a cancellation. It remembers ids and
receipts of what it hides, never bodies. SQS can't show a message without receiving it, so two walks at once see a part
each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Self, TypeVar

from router.core.errors import SourceUnavailableError
from router.core.lanes.backoff import backoff
from router.core.messages.batches import BATCH, chunks
from router.core.models import Message
from router.ports import Clock, EventSource

T = TypeVar("T")

HIDDEN_S: Final = 300  # how long a run hides entries, renewed at half; a killed run keeps them from others so long
MAX_HIDDEN: Final = 115_000  # SQS hides 120 000 messages of a queue at most, and then seems empty
WAIT_S: Final = 1.0  # of one receive: long enough for SQS to ask all its servers
EMPTY_POINTS: Final = 10  # an empty receive is a strong sign that nothing is left
COUNTED_POINTS: Final = 20  # that SQS counts no visible message beside it leaves no doubt
NEWER_POINTS: Final = 1  # a receive with nothing new but what came since the start is a weak sign
DRY_POINTS: Final = 30  # so many points in a row mean that nothing is left
RECEIVE_TRIES: Final = 5
DELETE_TRIES: Final = 4
FIRST_BACKOFF_S: Final = 0.5
LAST_BACKOFF_S: Final = 4.0
PARALLEL: Final = 8  # calls at once that hide entries or make them visible


class Scan:
    """One walk through a queue that meets no message twice. At its end, what it hid is visible again."""

    def __init__(self, queue: EventSource, clock: Clock, until_ms: int | None) -> None:
        self.newer = 0
        self.unreleased = 0
        self._queue = queue
        self._clock = clock
        self._until_ms = until_ms  # messages that were sent later are not for this walk
        self._hidden: dict[str, tuple[str, float]] = {}  # message id → receipt, until when (monotonic)
        self._gone: set[str] = set()  # deleted, or tried to; such a message is deleted again when it comes again
        self._has_received = False
        self._keeping: asyncio.Task[None] | None = None

    @property
    def left(self) -> int:
        """How many of the messages that the walk met are still in the queue."""
        return len(self._hidden)

    @property
    def full(self) -> bool:
        """Whether so many messages are hidden that the queue may hide no more."""
        return len(self._hidden) >= MAX_HIDDEN

    async def __aenter__(self) -> Self:
        self._keeping = asyncio.create_task(self._keep_hidden())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._keeping is not None
        self._keeping.cancel()
        (ended,) = await asyncio.gather(self._keeping, return_exceptions=True)
        self.unreleased = await self._set_visibility(list(self._hidden), 0)
        if isinstance(ended, Exception):
            raise ended

    async def next(self) -> list[Message]:
        """Return messages that the walk has not met before, or none when nothing is left.

        Raises SourceUnavailableError when the queue can't be reached.
        """
        dry = 0
        while dry < DRY_POINTS and not self.full:
            fresh, received = await to_end(self._receive())
            if fresh:
                return fresh
            dry += NEWER_POINTS if received else EMPTY_POINTS + await self._counted()
        return []

    async def delete(self, messages: Sequence[Message]) -> list[Message]:
        """Delete up to 10 messages, and return those that are still there after several tries."""
        self._gone.update(message.message_id for message in messages)
        left = list(messages)
        for turn in range(DELETE_TRIES):
            if turn:
                await self._clock.sleep(backoff(FIRST_BACKOFF_S, LAST_BACKOFF_S, turn))
            with suppress(SourceUnavailableError):
                left = await self._queue.delete([self._newest(message) for message in left])
            if not left:
                break
        still = {message.message_id for message in left}
        for message in messages:
            if message.message_id not in still:
                self._hidden.pop(message.message_id, None)
        return left

    async def _receive(self) -> tuple[list[Message], bool]:
        """The messages of one receive that are for this walk, and whether any came at all."""
        messages = await self._try_receive()
        hidden_until = self._clock.monotonic() + HIDDEN_S
        new = [m for m in messages if m.message_id not in self._hidden and m.message_id not in self._gone]
        for message in messages:
            self._hidden[message.message_id] = (message.receipt, hidden_until)
        if again := [message for message in messages if message.message_id in self._gone]:
            await self.delete(again)
        fresh = [message for message in new if self._until_ms is None or message.sent_at_ms <= self._until_ms]
        self.newer += len(new) - len(fresh)
        return fresh, bool(messages)

    async def _counted(self) -> int:
        """The points for the queue's own count, after an empty receive; none where it can't be asked."""
        try:
            return 0 if (await self._queue.depth()).waiting else COUNTED_POINTS
        except SourceUnavailableError:
            return 0

    async def _try_receive(self) -> list[Message]:
        turn = 0
        while True:
            try:
                messages = await self._queue.receive(BATCH, WAIT_S, HIDDEN_S)
            except SourceUnavailableError:
                turn += 1
                # Before the first receive has worked, the name of the queue may just be wrong.
                if turn >= RECEIVE_TRIES or not self._has_received:
                    raise
                await self._clock.sleep(backoff(FIRST_BACKOFF_S, LAST_BACKOFF_S, turn))
            else:
                self._has_received = True
                return messages

    async def _keep_hidden(self) -> None:
        while True:
            await self._clock.sleep(HIDDEN_S / 8)
            now = self._clock.monotonic()
            due = [message_id for message_id, (_, until) in self._hidden.items() if until - now < HIDDEN_S / 2]
            await self._set_visibility(due, HIDDEN_S)

    async def _set_visibility(self, message_ids: Sequence[str], seconds: int) -> int:
        """Hide messages for so many seconds, 0 to make them visible; return how many could not be changed.

        A message that the walk no longer hides is passed over. Never raises.
        """
        failed, untried = 0, len(message_ids)
        for group in chunks(message_ids, BATCH * PARALLEL):
            untried -= len(group)
            batches = list(chunks(group))
            done = await asyncio.gather(*[self._hide(batch, seconds) for batch in batches])
            failed += sum(len(batch) for batch, is_done in zip(batches, done, strict=True) if not is_done)
            if not any(done):  # the queue can't be reached, so thousands of further calls would fail too
                return failed + untried
        return failed

    async def _hide(self, message_ids: Sequence[str], seconds: int) -> bool:
        hidden = {message_id: self._hidden[message_id][0] for message_id in message_ids if message_id in self._hidden}
        until = self._clock.monotonic() + seconds
        try:
            await self._queue.set_visibility([_stub(*each) for each in hidden.items()], seconds)
        except SourceUnavailableError:
            return False
        for message_id, receipt in hidden.items():
            if self._hidden.get(message_id, ("",))[0] == receipt:
                self._hidden[message_id] = (receipt, until)
        return True

    def _newest(self, message: Message) -> Message:
        receipt, _ = self._hidden.get(message.message_id, (message.receipt, 0.0))
        return _stub(message.message_id, receipt)


async def to_end(work: Coroutine[Any, Any, T]) -> T:
    """Do the work to its end even when cancelled meanwhile, so that nothing is left half-done in a queue.

    Raises CancelledError afterwards when it was cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        with suppress(SourceUnavailableError):
            task.result()
        raise


def _stub(message_id: str, receipt: str) -> Message:
    """A message with all that a queue asks for to hide or delete it."""
    return Message(message_id, receipt, "", 0, 0)
