"""A queue in which events wait, as a router sees it: a cell's hold queue, or the quarantine queue.

Guarantees: an event is settled in its old queue only after this queue has taken it. It comes out again only when there
is demand, and then goes through the same `accept` as every other event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from router.core.errors import SourceUnavailableError
from router.core.lanes.backoff import backoff
from router.core.messages.parser import held_draft
from router.core.messages.proofs import AttributeKeys
from router.core.models import Event
from router.ports import Clock, EventSource
from router.services.data_plane.forwarder import Forwarder
from router.services.data_plane.inbox import Delivery, Inbox, Received

NO_DEMAND_PAUSE_S: Final = 0.2  # until the demand is asked for again
FIRST_BACKOFF_S: Final = 2.0  # at most, after a receive that failed
LAST_BACKOFF_S: Final = 5.0  # the same after many: a drain waits for it
MAX_DELAY_S: Final = 900  # the longest that SQS knows


class HoldQueue:
    """Puts events in, and takes them out while there is demand."""

    def __init__(self, inbox: Inbox, forwarder: Forwarder, clock: Clock, wait_s: float, keys: AttributeKeys) -> None:
        self._inbox = inbox
        self._forwarder = forwarder
        self._clock = clock
        self._wait_s = wait_s
        self._keys = keys
        self._stopping = False
        self._stopped = asyncio.Event()

    def __len__(self) -> int:
        """How many messages of the queue this router has."""
        return len(self._inbox)

    @property
    def queue(self) -> EventSource:
        """The queue that holds the messages."""
        return self._inbox.queue

    @property
    def bytes(self) -> int:
        """How many bytes the bodies of those messages have together."""
        return self._inbox.bytes

    @property
    def max_bytes(self) -> int:
        """How many bytes a message of the queue may have, as far as is known."""
        return self._forwarder.max_bytes

    def put(self, delivery: Delivery, event: Event, delay_s: int) -> bool:
        """Keep the event in the queue for at least `delay_s` seconds; True when it has to be written there.

        False for an event that came from this queue and is unchanged: its message is let go, and so goes back.
        """
        if delivery.inbox is self._inbox and event == delivery.event:
            self._inbox.let_go(delivery.received, delay_s)
            return False
        if delivery.trace is not None:
            delivery.trace.moves(self._forwarder.name, "waits")
        draft = held_draft(event, min(delay_s, MAX_DELAY_S), self._keys, self.max_bytes)
        self._forwarder.put([draft], delivery.inbox, delivery.received)
        return True

    async def run(self, demand: Callable[[], int], accept: Callable[[Inbox, list[Received]], None]) -> None:
        """Take messages out, delete them and forward events, until cancelled.

        `demand` says how many messages are wanted now, 0 to 10; `accept` gets what was taken out.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inbox.run())
            group.create_task(self._forwarder.run())
            group.create_task(self._drain(demand, accept))

    def stop(self) -> None:
        """Begin no further receive; one that is under way goes on to its end."""
        self._stopping = True

    async def stopped(self) -> None:
        """Wait, after `stop`, until the last receive has ended."""
        await self._stopped.wait()

    async def forwarded(self) -> None:
        """Wait until every event put is written, or its message let go."""
        await self._forwarder.drained()

    async def settled(self) -> None:
        """Wait until everything settled is deleted, and everything let go visible."""
        await self._inbox.drained()

    async def _drain(self, demand: Callable[[], int], accept: Callable[[Inbox, list[Received]], None]) -> None:
        failures = 0
        while not self._stopping:
            wanted = demand()
            if not wanted:
                await self._clock.sleep(NO_DEMAND_PAUSE_S)
                continue
            try:
                received = await self._inbox.receive(wanted, self._wait_s)
            except SourceUnavailableError:
                failures += 1
                await self._clock.sleep(backoff(FIRST_BACKOFF_S, LAST_BACKOFF_S, failures, self._clock.jitter()))
            else:
                failures = 0
                accept(self._inbox, received)
        self._stopped.set()
