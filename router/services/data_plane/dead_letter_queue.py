"""The dead-letter queue as a router sees it: what it writes there, in the envelope, and reads never.

Guarantees: an event or message is settled in its own queue only after the dead-letter queue has taken it, and counts as
dead-lettered only then. Of an event that it didn't take, this router knows that it is dead when it comes again.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any, Final

from router.core.messages import dead_letter
from router.core.messages.dead_letter import DeadLetter
from router.core.models import DeadLetterReason, Reason
from router.core.telemetry import EventDeadLettered
from router.ports import Clock, Observer
from router.services.data_plane.forwarder import Forwarder
from router.services.data_plane.inbox import Delivery, Inbox, Received

MAX_REMEMBERED: Final = 10_000  # events that the queue didn't take; the oldest is forgotten first

_Name = tuple[str, str, str]
"""By which an event is known when it comes again: its message's id, its key and its own id."""


class DeadLetterQueue:
    """Writes events and messages into the dead-letter queue of one environment."""

    def __init__(self, forwarder: Forwarder, source_name: str, clock: Clock, observer: Observer) -> None:
        self._forwarder = forwarder
        self._source_name = source_name
        self._clock = clock
        self._observer = observer
        self._not_taken: OrderedDict[_Name, dict[str, Any]] = OrderedDict()  # how each of them died

    def put_event(self, delivery: Delivery, cell_id: str, reason: DeadLetterReason, error: str) -> None:
        """Write an event that its cell will never process, then settle it in its own queue."""
        death = {"reason": reason, "error": error[: dead_letter.MAX_ERROR_CHARS], "dead_at_ms": self._clock.time_ms()}
        self._put_event(delivery, death | {"cell_id": cell_id, "generation": delivery.generation})

    def put_again(self, delivery: Delivery) -> bool:
        """Write an event that comes again because the queue didn't take it; False for any other event."""
        death = self._not_taken.get(_name(delivery)) if self._not_taken else None
        if death is not None:
            self._put_event(delivery, death)
        return death is not None

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

    async def run(self) -> None:
        """Write what is put, until cancelled."""
        await self._forwarder.run()

    async def drained(self) -> None:
        """Wait until everything put so far is written or given up."""
        await self._forwarder.drained()

    def _put_event(self, delivery: Delivery, death: dict[str, Any]) -> None:
        letter = dead_letter.of_event(delivery.event, delivery.received.message, source=self._source_name, **death)
        self._put(letter, delivery.inbox, delivery.received, _name(delivery), death)

    def _put(
        self,
        letter: DeadLetter,
        inbox: Inbox,
        received: Received,
        name: _Name | None = None,
        death: dict[str, Any] | None = None,
    ) -> None:
        drafts = dead_letter.to_drafts(letter, self._forwarder.max_bytes)
        self._forwarder.put(drafts, inbox, received, partial(self._ended, letter.reason, name, death))

    def _ended(self, reason: str, name: _Name | None, death: dict[str, Any] | None, taken: bool) -> None:
        if taken:
            self._observer.observe(EventDeadLettered(DeadLetterReason(reason)))
        if name is None or death is None:
            return
        self._not_taken.pop(name, None)
        if not taken:
            self._not_taken[name] = death
            if len(self._not_taken) > MAX_REMEMBERED:
                self._not_taken.popitem(last=False)


def _name(delivery: Delivery) -> _Name:
    return delivery.received.message.message_id, delivery.event.partition_key, delivery.event.event_id
