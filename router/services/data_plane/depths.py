"""Tells how many messages the queues of a router have, and how old those of the source are.

For a FIFO queue that matters most. SQS looks through its first 120 000 messages for one whose group may go on. What
stands still (a key in quarantine, a cell that is away) stays in front. Once it fills that look-ahead, no event of any
group is delivered, and SQS says nothing of it: receives come back empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from router.core.errors import SourceUnavailableError
from router.core.lanes.latency import MeanAge
from router.core.models import HOLD_QUEUES, Depth
from router.core.telemetry import BadInput, QueueDepth
from router.ports import Clock, EventSource, Observer

ASK_EVERY_S: Final = 60.0  # about each queue; SQS' own figures are no newer
PAUSE_S: Final = 0.5  # between two queues at least: with more than 120 a round takes longer


class DepthWatch:
    """Asks the queues of a router, in turns, how many messages each has.

    `named` are the queues that there always are, by what they are for; the first is the source, whose receives note
    ages in `age`. `others` returns the rest of the queues, as they are at the time.
    """

    def __init__(
        self,
        named: Mapping[str, EventSource],
        others: Callable[[], Iterable[EventSource]],
        age: MeanAge,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._named = named
        self._others = others
        self._age = age
        self._clock = clock
        self._observer = observer
        self._told: set[str] = set()  # queues that say nothing
        self._depths: dict[str, Depth] = {}  # of the named ones, by what they are for
        self._held: int | None = None  # what waits in all the others together; None: one of them said nothing
        self.ages: dict[str, int] = {}  # in seconds, by what the queue is for

    @property
    def newest(self) -> dict[str, int]:
        """The messages of each named queue, by what it is for, and those that wait in all hold queues together.

        Without those that said nothing when last asked.
        """
        named = {purpose: depth.messages for purpose, depth in self._depths.items()}
        return named if self._held is None else named | {HOLD_QUEUES: self._held}

    @property
    def source(self) -> Depth | None:
        """The depth of the source, as SQS said last; None when it said nothing."""
        return self._depths.get(next(iter(self._named)))

    async def run(self) -> None:
        """Ask again and again, until cancelled; at first without long pauses."""
        pause_s = PAUSE_S
        while True:
            for purpose, queue in self._named.items():
                if (depth := await self._ask(queue)) is not None:
                    self._depths[purpose] = depth
                else:
                    self._depths.pop(purpose, None)
                await self._clock.sleep(pause_s)
            if (age_s := self._age.take(self._clock.monotonic())) is not None:
                self.ages = {next(iter(self._named)): round(age_s)}
            others, said = list(self._others()), list[Depth | None]()
            for queue in others:
                said.append(await self._ask(queue))
                await self._clock.sleep(pause_s)
            self._held = None if None in said else sum(depth.waiting for depth in said if depth is not None)
            pause_s = max(PAUSE_S, ASK_EVERY_S / (len(self._named) + len(others)))

    async def _ask(self, queue: EventSource) -> Depth | None:
        try:
            depth = await queue.depth()
        except SourceUnavailableError as error:
            if queue.name not in self._told:
                self._told.add(queue.name)
                why = f"{error}; a router needs sqs:GetQueueAttributes to tell how many messages a queue has"
                self._observer.observe(BadInput("depth of a queue", queue.name, why))
            return None
        self._told.discard(queue.name)
        self._observer.observe(QueueDepth(queue.name, depth))
        return depth
