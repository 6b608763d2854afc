"""Sends the events of a stress run at their intended times, whatever becomes of those before: an open loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from router.core.errors import SourceUnavailableError
from router.core.load.latencies import Latencies
from router.core.load.marks import Mark
from router.core.load.profiles import LoadPhase, Shot
from router.core.messages.batches import BATCH
from router.core.models import Draft
from router.demo.stress.events import Source, marked
from router.ports import Clock, EventSource

TURN_S: Final = 0.01  # how often it is looked what is due; so late an event is at most for that
MAX_CALLS: Final = 64  # that are under way at once; what is due beyond that waits, and its intended time stays
TRIES: Final = 3
PAUSE_S: Final = 0.5  # between two tries


@dataclass(slots=True)
class Sent:
    """What was sent of one phase."""

    events: int = 0
    refused: int = 0
    late: Latencies = field(default_factory=Latencies)  # from the intended time to the queue's answer


class Sender:
    """One run's sender. `sent` has the counts of each phase."""

    def __init__(self, run: str, source: EventSource, make: Source, phases: Sequence[LoadPhase], clock: Clock) -> None:
        self.sent = [Sent() for _ in phases]
        self._run = run
        self._source = source
        self._make = make
        self._clock = clock
        self._calls = asyncio.Semaphore(MAX_CALLS)
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def events(self) -> int:
        """Count the events that the queue has taken so far."""
        return sum(phase.events for phase in self.sent)

    async def send(self, shots: Iterator[Shot]) -> None:
        """Send all of them, each when it is due; return when the queue has answered for the last one."""
        began, began_ms = self._clock.monotonic(), self._clock.time_ms()
        due: list[tuple[Shot, Draft, int, float]] = []
        for number, shot in enumerate(shots):
            while (wait_s := began + shot.at_s - self._clock.monotonic()) > 0:
                self._flush(due)
                due = []
                await self._clock.sleep(max(wait_s, TURN_S))
            message = self._make(shot, number)
            mark = Mark(self._run, shot.phase, began_ms + round(1000 * shot.at_s))
            draft = marked(message, mark, fifo=self._source.fifo)
            due.append((shot, draft, message.events, began + shot.at_s))
            if len(due) >= BATCH:
                self._flush(due)
                due = []
                await self._clock.sleep(0)
        self._flush(due)
        while self._under_way:
            await asyncio.gather(*self._under_way)

    def _flush(self, due: list[tuple[Shot, Draft, int, float]]) -> None:
        if due:
            call = asyncio.create_task(self._call(due))
            self._under_way.add(call)
            call.add_done_callback(self._under_way.discard)

    async def _call(self, due: list[tuple[Shot, Draft, int, float]]) -> None:
        async with self._calls:
            for _ in range(TRIES):
                due = await self._tried(due)
                if not due:
                    return
                await self._clock.sleep(PAUSE_S)
        for shot, _, events, _ in due:
            self.sent[shot.phase].refused += events

    async def _tried(self, due: list[tuple[Shot, Draft, int, float]]) -> list[tuple[Shot, Draft, int, float]]:
        """Send what is due in one call; return what the queue has not taken."""
        try:
            refused = set(await self._source.send([draft for _, draft, _, _ in due]))
        except SourceUnavailableError:
            return due
        now = self._clock.monotonic()
        for position, (shot, _, events, meant) in enumerate(due):
            if position not in refused:
                self.sent[shot.phase].events += events
                self.sent[shot.phase].late.add(1000 * (now - meant))
        return [each for position, each in enumerate(due) if position in refused]
