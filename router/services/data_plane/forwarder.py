"""Writes events into another queue, and then settles them in their own.

Guarantees: an event is settled only after the other queue has taken it. When that queue doesn't take it, the event's
message is let go, so that its own queue delivers it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from router.core.models import Draft
from router.ports import Clock, EventSource
from router.services.data_plane.batcher import Batcher
from router.services.data_plane.inbox import Inbox, Received

SEND_TRIES: Final = 8
PARALLEL: Final = 2  # calls at once: what a dead cell leaves behind must not crowd out other cells' events
RELEASE_DELAY_S: Final = 30  # how long a message that couldn't be forwarded stays hidden


class Forwarder:
    """Sends drafts to one queue in batches, and settles the events behind those that were taken."""

    def __init__(self, queue: EventSource, clock: Clock) -> None:
        self._queue = queue
        self._batcher: Batcher[_Item] = Batcher(
            self._send, self._give_up, clock, max_tries=SEND_TRIES, parallel=PARALLEL
        )

    def put(self, draft: Draft, inbox: Inbox, received: Received) -> None:
        """Send the draft, and once it is taken settle one event of the received message in its inbox."""
        self._batcher.put((draft, inbox, received))

    async def drained(self) -> None:
        """Wait until every draft put so far is sent or given up."""
        await self._batcher.drained()

    async def run(self) -> None:
        """Send drafts until cancelled."""
        await self._batcher.run()

    async def _send(self, batch: Sequence[_Item]) -> Sequence[_Item]:
        failed = set(await self._queue.send([draft for draft, _, _ in batch]))
        for position, (_, inbox, received) in enumerate(batch):
            if position not in failed:
                inbox.settle(received)
        return [item for position, item in enumerate(batch) if position in failed]

    def _give_up(self, item: _Item) -> None:
        _, inbox, received = item
        inbox.let_go(received, RELEASE_DELAY_S)


_Item = tuple[Draft, Inbox, Received]
