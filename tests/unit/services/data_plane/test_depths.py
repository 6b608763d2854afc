"""What routers say of their queues, for people to see."""

from __future__ import annotations

import asyncio
from typing import Any

from router.core.errors import SourceUnavailableError
from router.services.data_plane.depths import ASK_EVERY_S, QueueDepths
from tests.support.fake_clock import FakeClock, play


class Queue:
    """A queue of so many messages; None: it can't be asked."""

    def __init__(self, messages: int | None) -> None:
        self.messages = messages
        self.asked = 0

    async def depth(self) -> int:
        self.asked += 1
        if self.messages is None:
            raise SourceUnavailableError("AccessDenied")
        return self.messages


def test_a_queue_that_cannot_be_asked_has_no_figure_and_the_others_have() -> None:
    """Twice a minute: SQS' own figures are no newer. A queue that answers again has its figure again."""
    clock, source, dead = FakeClock(), Queue(7), Queue(None)
    queues: Any = {"source": source, "dead letters": dead}
    depths = QueueDepths(queues, clock)

    async def story() -> None:
        asking = asyncio.create_task(depths.run())
        await clock.sleep(1)
        assert depths.newest == {"source": 7}
        source.messages, dead.messages = 0, 3
        await clock.sleep(ASK_EVERY_S)
        assert depths.newest == {"source": 0, "dead letters": 3}
        await clock.sleep(10 * ASK_EVERY_S)
        assert source.asked == 12
        asking.cancel()

    play(clock, story())
