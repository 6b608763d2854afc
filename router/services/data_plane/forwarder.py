"""Writes events into another queue, and then settles them in their own.

Guarantees: an event is settled only after the other queue has taken all of it. When that queue doesn't take it, the
event's message is let go, so that its own queue delivers it again, unless who put it knows better.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from router.core.errors import SourceUnavailableError
from router.core.models import Draft
from router.ports import Clock, EventSource
from router.services.data_plane.batcher import Batcher
from router.services.data_plane.inbox import Inbox, Received

SEND_TRIES: Final = 8
PARALLEL: Final = 2  # calls at once: what a dead cell leaves behind must not crowd out other cells' events
RELEASE_DELAY_S: Final = 30  # how long a message that couldn't be forwarded stays hidden
LIKELY_BYTES: Final = 256 * 1024  # how long a message may be, as long as the queue hasn't said it
LEAST_BYTES: Final = 1024  # SQS lets nobody set a lower limit
ASK_EVERY_S: Final = 600.0  # somebody may set the queue's limit anew


class Parcel(msgspec.Struct, eq=False):
    """One event of a received message, on its way into the other queue as one draft or several."""

    inbox: Inbox
    received: Received
    on_end: Callable[[bool], object]  # told whether the queue has taken all of it
    may_settle: Callable[[], bool]  # asked once it has: what may not be settled then is let go
    not_taken: Callable[[], object] | None  # does what there is to do when it has not; None: it is let go
    open_drafts: int
    refused: bool = False  # the queue has answered, and has not taken one of them
    ended: bool = False


class Forwarder:
    """Sends drafts to one queue in batches, and settles the events behind those that were taken."""

    def __init__(self, queue: EventSource, clock: Clock) -> None:
        self.max_bytes = LIKELY_BYTES  # how long a message of the queue may be, as far as is known
        self._told = False  # the queue itself has said that
        self._queue = queue
        self._clock = clock
        self._batcher: Batcher[_Item] = Batcher(
            self._send, self._give_up, clock, max_tries=SEND_TRIES, parallel=PARALLEL
        )

    @property
    def name(self) -> str:
        """The name of the other queue."""
        return self._queue.name

    def put(
        self,
        drafts: Sequence[Draft],
        inbox: Inbox,
        received: Received,
        on_end: Callable[[bool], object] = lambda _: None,
        may_settle: Callable[[], bool] = lambda: True,
        not_taken: Callable[[], object] | None = None,
    ) -> None:
        """Send the drafts, and once all are taken settle one event of the received message in its inbox."""
        parcel = Parcel(inbox, received, on_end, may_settle, not_taken, len(drafts))
        for draft in drafts:
            self._batcher.put((draft, parcel))

    async def drained(self) -> None:
        """Wait until every draft put so far is sent or given up."""
        await self._batcher.drained()

    async def run(self) -> None:
        """Send drafts until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_asking())
            group.create_task(self._batcher.run())

    async def _keep_asking(self) -> None:
        while True:
            try:
                self.max_bytes, self._told = await self._queue.max_bytes(), True
            except SourceUnavailableError:
                self.max_bytes = self.max_bytes if self._told else LIKELY_BYTES
            await self._clock.sleep(ASK_EVERY_S)

    async def _send(self, batch: Sequence[_Item]) -> Sequence[_Item]:
        failed = set(await self._queue.send([draft for draft, _ in batch]))
        for position, (_, parcel) in enumerate(batch):
            if position in failed:
                parcel.refused = True
            else:
                self._taken(parcel)
        return [item for position, item in enumerate(batch) if position in failed]

    def _taken(self, parcel: Parcel) -> None:
        parcel.open_drafts -= 1
        if not parcel.open_drafts and not parcel.ended:
            parcel.ended = True
            parcel.on_end(True)
            if parcel.may_settle():
                parcel.inbox.settle(parcel.received)
            else:
                parcel.inbox.let_go(parcel.received, RELEASE_DELAY_S)

    def _give_up(self, item: _Item) -> None:
        draft, parcel = item
        if parcel.refused and not self._told:  # perhaps it was too long: the next one is shorter
            self.max_bytes = max(LEAST_BYTES, min(self.max_bytes, draft.size // 2))
        if not parcel.ended:
            parcel.ended = True
            parcel.on_end(False)
            if parcel.not_taken is None:
                parcel.inbox.let_go(parcel.received, RELEASE_DELAY_S)
            else:
                parcel.not_taken()


_Item = tuple[Draft, Parcel]
