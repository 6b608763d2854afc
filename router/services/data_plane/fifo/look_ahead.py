"""Tells how much waits in a FIFO source, before a group that stands still stops all others.

SQS looks through the first 120 000 messages of a FIFO queue for one whose group may go on. What stands still (a key in
quarantine, a cell that is away) stays in front. Once it fills that look-ahead, no event of any group is delivered, and
SQS says nothing of it: receives come back empty.
"""

from __future__ import annotations

from typing import Final

from router.core.errors import SourceUnavailableError
from router.core.telemetry import BadInput, FifoWaiting
from router.ports import Clock, EventSource, Observer

ASK_EVERY_S: Final = 60.0  # SQS' own figure is no newer


class LookAheadWatch:
    """Asks a FIFO source now and then how many messages wait in it; a standard queue is not asked."""

    def __init__(self, source: EventSource, clock: Clock, observer: Observer) -> None:
        self._source = source
        self._clock = clock
        self._observer = observer
        self._told = False
        self.messages: int | None = None  # as SQS said last; None when it said nothing

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            if self._source.fifo:
                await self._ask()
            await self._clock.sleep(ASK_EVERY_S)

    async def _ask(self) -> None:
        try:
            self.messages = await self._source.waiting()
        except SourceUnavailableError as error:
            self.messages = None
            if not self._told:
                self._told = True
                why = f"{error}; a router needs sqs:GetQueueAttributes to tell when its look-ahead is nearly used up"
                self._observer.observe(BadInput("what waits in the FIFO source", self._source.name, why))
        else:
            self._told = False
            self._observer.observe(FifoWaiting(self._source.name, self.messages))
