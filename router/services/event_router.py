"""The data plane of one router process, from start to drain.

Guarantees: after a stop, everything that was sent to a cell and answered has been deleted or forwarded, everything
else is visible in its queue again; nothing is lost and nothing that was confirmed is delivered again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from router.ports import Clock
from router.services.consumer import Consumer
from router.services.dispatcher import Dispatcher
from router.services.inbox import Inbox
from router.services.routing import RoutingWatcher
from router.services.supervisor import run_until

DRAIN_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class EventRouter:
    """Consumer, inbox, dispatcher and routing watcher, run together."""

    inbox: Inbox
    consumer: Consumer
    dispatcher: Dispatcher
    watcher: RoutingWatcher
    clock: Clock
    drain_timeout_s: float

    async def run(self, stop: asyncio.Event) -> None:
        """Route until `stop` is set, then drain. Raises TaskDiedError when a part of it dies."""
        ended = asyncio.Event()
        tasks = {
            "inbox": self.inbox.run(),
            "dispatcher": self.dispatcher.run(),
            "routing": self.watcher.run(),
            "consumer": self._consume(stop, ended),
        }
        await run_until(ended, tasks)

    async def _consume(self, stop: asyncio.Event, ended: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stop_consumer(stop))
            await self.dispatcher.routed.wait()
            await self.consumer.run()
        await self._drain()
        ended.set()
        await asyncio.Event().wait()  # until cancelled, as every task here

    async def _stop_consumer(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.consumer.stop()
        self.dispatcher.routed.set()

    async def _drain(self) -> None:
        deadline = self.clock.monotonic() + self.drain_timeout_s
        self.dispatcher.stop()
        while self.dispatcher.in_flight() and self.clock.monotonic() < deadline:
            await self.clock.sleep(DRAIN_POLL_S)
        left = max(1.0, deadline - self.clock.monotonic())
        try:
            async with asyncio.timeout(left):
                await self.dispatcher.drained()
                await self.inbox.drained()
        except TimeoutError:
            return  # what is left becomes visible when its time is up
