"""Deliveries → another queue, then settled here.

Guarantees: a delivery is settled only after the other queue has taken it. One that it doesn't take is let go, so that
its own queue delivers it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from router.core.models import Draft
from router.ports import Clock, EventSource
from router.services.data_plane.batcher import Batcher
from router.services.data_plane.inbox import Inbox, Received

SEND_TRIES: Final = 8
PARALLEL: Final = 2  # calls at once: what a dead cell leaves behind goes at a pace that other cells do not notice
RELEASE_DELAY_S: Final = 30  # a message that couldn't be forwarded doesn't come again at once


class Forwarder:
    """Sends drafts to one queue in batches and settles the messages behind them."""

    def __init__(self, queue: EventSource, clock: Clock) -> None:
        self._queue = queue
        self._batcher: Batcher[_Item] = Batcher(
            self._send, self._give_up, clock, max_tries=SEND_TRIES, parallel=PARALLEL
        )

    def put(self, draft: Draft, inbox: Inbox, received: Received) -> None:
        """Send the draft, then settle one event of the message."""
        self._batcher.put((draft, inbox, received))

    async def drained(self) -> None:
        """Wait until everything put so far is sent or given up."""
        await self._batcher.drained()

    async def run(self) -> None:
        """Send until cancelled."""
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
