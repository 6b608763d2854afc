"""Tells how many messages the queues of a router have.

For a FIFO queue that matters most. SQS looks through its first 120 000 messages for one whose group may go on. What
stands still (a key in quarantine, a cell that is away) stays in front. Once it fills that look-ahead, no event of any
group is delivered, and SQS says nothing of it: receives come back empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from router.core.errors import SourceUnavailableError
from router.core.models import Depth
from router.core.telemetry import BadInput, QueueDepth
from router.ports import Clock, EventSource, Observer

ASK_EVERY_S: Final = 60.0  # about each queue; SQS' own figures are no newer
PAUSE_S: Final = 0.5  # between two queues at least: with more than 120 a round takes longer


class DepthWatch:
    """Asks the source and the router's other queues, in turns, how many messages each has."""

    def __init__(
        self, source: EventSource, others: Callable[[], Iterable[EventSource]], clock: Clock, observer: Observer
    ) -> None:
        self._source = source
        self._others = others
        self._clock = clock
        self._observer = observer
        self._told: set[str] = set()  # queues that say nothing
        self.source: Depth | None = None  # as SQS said last; None when it said nothing

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            queues = [self._source, *self._others()]
            for queue in queues:
                found = await self._ask(queue)
                if queue is self._source:
                    self.source = found
                await self._clock.sleep(max(PAUSE_S, ASK_EVERY_S / len(queues)))

    async def _ask(self, queue: EventSource) -> Depth | None:
        try:
            depth = await queue.depth()
        except SourceUnavailableError as error:
            if queue.name not in self._told:
                self._told.add(queue.name)
                why = f"{error}; a router needs sqs:GetQueueAttributes to tell how many messages a queue has"
                self._observer.observe(BadInput("depth of a queue", queue.name, why))
            return None
        self._told.discard(queue.name)
        self._observer.observe(QueueDepth(queue.name, depth))
        return depth
