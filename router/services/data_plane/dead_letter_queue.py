"""The dead-letter queue as a router sees it: what it writes there, in the envelope, and reads never.

Guarantees: an event or message is settled in its own queue only after the dead-letter queue has taken it, and counts as
dead-lettered only then. An event that it doesn't take is kept elsewhere with its death.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
from msgspec.structs import replace

from router.core.messages import dead_letter
from router.core.messages.dead_letter import DeadLetter
from router.core.models import DeadLetterReason, Death, Event, Reason
from router.core.telemetry import EventDeadLettered
from router.ports import Clock, Observer
from router.services.data_plane.archive.archivist import Archivist
from router.services.data_plane.forwarder import Forwarder
from router.services.data_plane.inbox import Delivery, Inbox, Received


class DeadLetterQueue:
    """Writes events and messages into the dead-letter queue of one environment."""

    def __init__(
        self,
        forwarder: Forwarder,
        source_name: str,
        clock: Clock,
        observer: Observer,
        archive: Archivist | None = None,
    ) -> None:
        self._forwarder = forwarder
        self._source_name = source_name
        self._clock = clock
        self._observer = observer
        self._archive = archive
        self._keep: Callable[[Delivery, Event], object] = lambda *_: None

    def put_event(self, delivery: Delivery, cell_id: str, reason: DeadLetterReason, error: str) -> None:
        """Write an event that its cell will never process, then settle it in its own queue."""
        error = error[: dead_letter.MAX_ERROR_CHARS]
        self._put_event(delivery, Death(reason, error, cell_id, delivery.generation, self._clock.time_ms()))

    def put_again(self, delivery: Delivery) -> bool:
        """Write an event that is dead and comes again because the queue didn't take it; False for one that lives."""
        if delivery.event.death is None:
            return False
        self._put_event(delivery, delivery.event.death)
        return True

    def put_malformed(self, inbox: Inbox, received: Received, fault: Reason) -> None:
        """Write a whole message that holds no event which could be routed, then settle it in its own queue."""
        letter = dead_letter.of_message(
            received.message,
            reason=DeadLetterReason.MALFORMED,
            error=fault,
            source=self._source_name,
            dead_at_ms=self._clock.time_ms(),
        )
        self._put(letter, inbox, received)

    async def run(self, keep: Callable[[Delivery, Event], object]) -> None:
        """Write what is put, until cancelled. `keep` gets each event that the queue doesn't take, with its death."""
        self._keep = keep
        await self._forwarder.run()

    async def drained(self) -> None:
        """Wait until everything put so far is written or given up."""
        await self._forwarder.drained()

    def _put_event(self, delivery: Delivery, death: Death) -> None:
        event, how = replace(delivery.event, death=death), msgspec.structs.asdict(death)
        if delivery.trace is not None:
            delivery.trace.moves(self._forwarder.name, death.reason.value)
        letter = dead_letter.of_event(event, delivery.received.message, source=self._source_name, **how)
        on_taken = None if self._archive is None else partial(self._archive.dead, delivery, event, death)
        self._put(letter, delivery.inbox, delivery.received, on_taken, lambda: self._keep(delivery, event))

    def _put(
        self,
        letter: DeadLetter,
        inbox: Inbox,
        received: Received,
        on_taken: Callable[[], object] | None = None,
        not_taken: Callable[[], object] | None = None,
    ) -> None:
        drafts = dead_letter.to_drafts(letter, self._forwarder.max_bytes)
        self._forwarder.put(drafts, inbox, received, partial(self._ended, letter.reason, on_taken), not_taken=not_taken)

    def _ended(self, reason: str, on_taken: Callable[[], object] | None, taken: bool) -> None:
        if taken:
            self._observer.observe(EventDeadLettered(DeadLetterReason(reason)))
            if on_taken is not None:
                on_taken()
