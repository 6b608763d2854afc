"""Polls the source queue while there is room for more.

Guarantees: a poll begins only when there is room for a full batch, so memory is bounded whatever the backlog: by
`max_messages`, and by `max_bytes` plus one full batch a poller (10 MiB; 40 MiB where bodies lie in S3). A poll that
has begun is always finished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from router.core.errors import SourceUnavailableError
from router.core.lanes.backoff import backoff
from router.core.messages.batches import BATCH
from router.ports import Clock
from router.services.data_plane.inbox import Inbox, Received

FIRST_BACKOFF_S: Final = 0.4
LAST_BACKOFF_S: Final = 10.0
TRICKLE_S: Final = 2.0  # before each poll at a standstill: enough to see soon that it is over


@dataclass(frozen=True, slots=True)
class ConsumerConfig:
    """How many messages to ask for, and how many to have at once."""

    pollers: int = 2  # long polls at once
    wait_s: float = 10.0  # of one long poll; a stop takes at most as long
    max_messages: int = 1000
    max_bytes: int = 64 * 1024 * 1024


class Consumer:
    """Takes messages from the source and hands them to the dispatcher.

    `accept` gets what a poll brought; `relieve` is asked to make room when there is little or none. While
    `at_standstill` says that nothing can be done now, it polls seldom, and what comes stays in the source.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        inbox: Inbox,
        accept: Callable[[Inbox, list[Received]], None],
        relieve: Callable[[], None],
        at_standstill: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._config = config
        self._inbox = inbox
        self._accept = accept
        self._relieve = relieve
        self._at_standstill = at_standstill
        self._clock = clock
        self._asked_for = 0  # messages that polls under way may still bring
        self._stopping = False

    def stop(self) -> None:
        """Begin no further poll; those under way go on to their end."""
        self._stopping = True
        self._inbox.freed.set()

    async def run(self) -> None:
        """Poll until stopped, with as many polls at once as configured."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._config.pollers):
                group.create_task(self._poll())

    async def _poll(self) -> None:
        failures = 0
        while await self._has_room():
            if self._at_standstill():
                await self._clock.sleep(TRICKLE_S)
            self._asked_for += BATCH
            try:
                received = await self._inbox.receive(BATCH, self._config.wait_s)
            except SourceUnavailableError:
                failures += 1
                await self._clock.sleep(backoff(FIRST_BACKOFF_S, LAST_BACKOFF_S, failures, self._clock.jitter()))
            else:
                failures = 0
                self._accept(self._inbox, received)
            finally:
                self._asked_for -= BATCH

    async def _has_room(self) -> bool:
        """Wait for room for a full batch; False once the consumer is stopped."""
        if self._is_crowded():
            self._relieve()  # before it is full: what is shed leaves only when its hold queue has taken it
        while not self._stopping and self._is_full():
            self._inbox.freed.clear()
            self._relieve()  # may free something at once
            await self._inbox.freed.wait()
        return not self._stopping

    def _is_crowded(self) -> bool:
        config = self._config
        return 2 * len(self._inbox) > config.max_messages or 2 * self._inbox.bytes > config.max_bytes

    def _is_full(self) -> bool:
        config = self._config
        return len(self._inbox) + self._asked_for + BATCH > config.max_messages or self._inbox.bytes >= config.max_bytes
