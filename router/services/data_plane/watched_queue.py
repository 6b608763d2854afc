"""A queue that reports when it is missing or out of reach, and when it works again: once each.

Every loop over a queue tries again by itself; without these reports nobody would learn why no events come. An error
that nobody foresaw counts as a call that failed, and so ends no loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

from router.core.errors import SourceDeniedError, SourceMissingError, SourceUnavailableError
from router.core.models import Depth, Draft, Message
from router.core.telemetry import QueueFaulty, QueueWell
from router.ports import Clock, EventSource, Observer
from router.services.unforeseen import Unforeseen

WELL_AFTER_S: Final = 10.0  # without a fault: a queue that fails at every second call is reported once

T = TypeVar("T")


class WatchedQueue:
    """An EventSource around another one, whose faults it reports to the observer."""

    def __init__(self, queue: EventSource, clock: Clock, observer: Observer) -> None:
        self.name = queue.name
        self.fifo = queue.fifo
        self._queue = queue
        self._clock = clock
        self._observer = observer
        self._unforeseen = Unforeseen(observer, clock)
        self._told: type[SourceUnavailableError] | None = None  # the fault that was reported
        self._failed_at = 0.0

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        """Receive messages, as the queue itself does."""
        return await self._watched(self._queue.receive(max_messages, wait_s, visibility_s))

    async def delete(self, messages: Sequence[Message]) -> list[Message]:
        """Delete messages, as the queue itself does."""
        return await self._watched(self._queue.delete(messages))

    async def set_visibility(self, messages: Sequence[Message], seconds: int) -> None:
        """Set how long messages stay hidden, as the queue itself does."""
        await self._watched(self._queue.set_visibility(messages, seconds))

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        """Send drafts, as the queue itself does."""
        return await self._watched(self._queue.send(drafts))

    async def depth(self) -> Depth:
        """Ask the queue itself. A router works as well without this right, so nothing is reported."""
        return await self._foreseen(self._queue.depth())

    async def max_bytes(self) -> int:
        """Ask the queue itself. Where that is not allowed the queue works all the same, so nothing is reported."""
        return await self._foreseen(self._queue.max_bytes())

    async def _foreseen(self, call: Awaitable[T]) -> T:
        """Make every error of a call one that its callers expect."""
        try:
            return await call
        except SourceUnavailableError:
            raise
        except Exception as error:
            raise SourceUnavailableError(self._unforeseen.note("queue", error)) from error

    async def _watched(self, call: Awaitable[T]) -> T:
        try:
            answer = await self._foreseen(call)
        except SourceUnavailableError as error:
            self._failed(error)
            raise
        if self._told is not None and self._clock.monotonic() - self._failed_at >= WELL_AFTER_S:
            self._told = None
            self._observer.observe(QueueWell(self.name))
        return answer

    def _failed(self, error: SourceUnavailableError) -> None:
        self._failed_at = self._clock.monotonic()
        if self._told is not type(error):
            self._told = type(error)
            missing, denied = isinstance(error, SourceMissingError), isinstance(error, SourceDeniedError)
            self._observer.observe(QueueFaulty(self.name, missing, str(error), denied))
