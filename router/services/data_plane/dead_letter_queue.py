"""The dead-letter queue as a router sees it: what it writes there, in the envelope, and reads never.

Guarantees: an event or message is settled in its own queue only after the dead-letter queue has taken it.
"""

from __future__ import annotations

from router.core.messages import dead_letter
from router.core.messages.dead_letter import DeadLetter
from router.core.models import DeadLetterReason, Reason
from router.core.telemetry import EventDeadLettered
from router.ports import Clock, Observer
from router.services.data_plane.forwarder import Forwarder
from router.services.data_plane.inbox import Delivery, Inbox, Received


class DeadLetterQueue:
    """Writes events and messages into the dead-letter queue of one environment."""

    def __init__(self, forwarder: Forwarder, source_name: str, clock: Clock, observer: Observer) -> None:
        self._forwarder = forwarder
        self._source_name = source_name
        self._clock = clock
        self._observer = observer

    def put_event(self, delivery: Delivery, cell_id: str, reason: DeadLetterReason, error: str) -> None:
        """Write an event that its cell will never process, then settle it in its own queue."""
        letter = dead_letter.of_event(
            delivery.event,
            delivery.received.message,
            reason=reason,
            error=error,
            source=self._source_name,
            dead_at_ms=self._clock.time_ms(),
            cell_id=cell_id,
            generation=delivery.generation,
        )
        self._put(letter, reason, delivery.inbox, delivery.received)

    def put_malformed(self, inbox: Inbox, received: Received, fault: Reason) -> None:
        """Write a whole message that holds no event which could be routed, then settle it in its own queue."""
        reason = DeadLetterReason.MALFORMED
        letter = dead_letter.of_message(
            received.message,
            reason=reason,
            error=fault,
            source=self._source_name,
            dead_at_ms=self._clock.time_ms(),
        )
        self._put(letter, reason, inbox, received)

    async def run(self) -> None:
        """Write what is put, until cancelled."""
        await self._forwarder.run()

    async def drained(self) -> None:
        """Wait until everything put so far is written or given up."""
        await self._forwarder.drained()

    def _put(self, letter: DeadLetter, reason: DeadLetterReason, inbox: Inbox, received: Received) -> None:
        self._observer.observe(EventDeadLettered(reason))
        self._forwarder.put(dead_letter.to_draft(letter), inbox, received)
