"""Asks now and then how many messages lie in the queues that this router reads and writes, for people to see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from router.core.errors import SourceUnavailableError
from router.ports import Clock, EventSource

ASK_EVERY_S: Final = 30.0  # SQS' own figures are right within a minute


class QueueDepths:
    """The newest figures; a queue that doesn't tell, or that this router may not ask, has none."""

    def __init__(self, queues: Mapping[str, EventSource], clock: Clock) -> None:
        self._queues = queues  # by what they are for
        self._clock = clock
        self.newest: Mapping[str, int] = {}

    async def run(self) -> None:
        """Ask every queue, one after the other, until cancelled."""
        while True:
            found = {what: await self._depth(queue) for what, queue in self._queues.items()}
            self.newest = {what: depth for what, depth in found.items() if depth is not None}
            await self._clock.sleep(ASK_EVERY_S)

    async def _depth(self, queue: EventSource) -> int | None:
        try:
            return await queue.depth()
        except SourceUnavailableError:
            return None  # whoever routes through it tells of that
