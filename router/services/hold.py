"""A cell's hold queue, seen from a router: what can't go to the cell now waits there, durably, and comes back first.

Guarantees: an event is settled in its old queue only after the hold queue has taken it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from router.core.errors import SourceUnavailableError
from router.core.messages import held_draft
from router.core.models import Event
from router.ports import Clock, EventSource, Observer
from router.services.batcher import BATCH
from router.services.delivery import Delivery
from router.services.forwarder import Forwarder
from router.services.inbox import Held, Inbox
from router.services.lane_runner import LaneRunner

NO_ROOM_PAUSE_S: Final = 0.2
OUTAGE_PAUSE_S: Final = 2.0


class HoldQueue:
    """Puts deliveries in, and drains the queue while its lane has room."""

    def __init__(
        self, queue: EventSource, clock: Clock, observer: Observer, *, visibility_s: int, wait_s: float
    ) -> None:
        self._clock = clock
        self._wait_s = wait_s
        self._stopping = False
        self._stopped = asyncio.Event()
        self._inbox = Inbox(queue, clock, observer, visibility_s)
        self._forwarder = Forwarder(queue, clock)

    def put(self, delivery: Delivery, event: Event, delay_s: int) -> None:
        """Keep the event there for at least `delay_s`. One that came from there, unchanged, just goes back."""
        if delivery.inbox is self._inbox and event == delivery.event:
            self._inbox.let_go(delivery.held, delay_s)
        else:
            self._forwarder.put(held_draft(event, delay_s), delivery.inbox, delivery.held)

    async def run(self, lane: LaneRunner, accept: Callable[[Inbox, list[Held]], None]) -> None:
        """Drain, delete and forward until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inbox.run())
            group.create_task(self._forwarder.run())
            group.create_task(self._drain(lane, accept))

    def stop(self) -> None:
        """Begin no further poll."""
        self._stopping = True

    async def drained(self) -> None:
        """After `stop`: wait until the last poll has ended and everything put or settled is safe."""
        await self._stopped.wait()
        await self._forwarder.drained()
        await self._inbox.drained()

    async def _drain(self, lane: LaneRunner, accept: Callable[[Inbox, list[Held]], None]) -> None:
        while not self._stopping:
            if not lane.passable() or lane.room() < BATCH:
                await self._clock.sleep(NO_ROOM_PAUSE_S)
                continue
            try:
                accept(self._inbox, await self._inbox.receive(1 if lane.probing else BATCH, self._wait_s))
            except SourceUnavailableError:
                await self._clock.sleep(OUTAGE_PAUSE_S * self._clock.jitter())
        self._stopped.set()
