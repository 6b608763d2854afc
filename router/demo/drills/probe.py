"""A drill's own load: steady, in an open loop, each event accounted for by a mark, as in a stress run."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, Protocol

from router.core.drills.dead_letters import DeadLettersSeen
from router.core.drills.judging import DrillPart, KeysSeen, ProbeSeen, surely
from router.core.fleet.routes import slot_map_of
from router.core.load.findings import Totals
from router.core.load.latencies import Latencies
from router.core.load.profiles import LoadPhase, Shot
from router.core.registry import Snapshot
from router.core.slot_map.slots import SlotMap
from router.demo.stress.events import Source, StressError, StressMessage
from router.demo.stress.sender import Sender
from router.ports import Clock, EventSource
from router.services.drills import UnseenError

TENANTS: Final = 200
QUIET_S: Final = 10.0  # without an event done, after which what is open counts as not done
DRAIN_S: Final = 120.0  # for what is open at the end, at most
POLL_S: Final = 0.5


class Counting(Protocol):
    """Knows what all routers have counted of the load."""

    async def totals(self) -> Totals:
        """Return the counts so far. Raises StressError."""
        ...


class ProbeLoad:
    """Sends events at a fixed rate, and says how they go by the cell that their keys belonged to before."""

    def __init__(
        self, run: str, queue: EventSource, make: Source, routers: Counting, rate: float, clock: Clock
    ) -> None:
        self._routers = routers
        self._rate = rate
        self._clock = clock
        self._make = make
        phases: Sequence[LoadPhase] = [LoadPhase(part, 1, rate) for part in DrillPart]
        self._sender = Sender(run, queue, self._message, phases, clock)
        self._sending: asyncio.Task[None] | None = None
        self._over = False
        self._part, self._since = DrillPart.WARM_UP, clock.monotonic()
        self._keys: Counter[str] = Counter()  # events that were made
        self._before: SlotMap
        self._dead = DeadLettersSeen()

    async def begin(self, snapshot: Snapshot) -> None:
        """Begin to send. Raises UnseenError where no router counts."""
        self._before = slot_map_of(snapshot)
        await self._totals()
        self._sending = asyncio.create_task(self._sender.send(self._shots()))

    def enter(self, part: DrillPart) -> None:
        """Mark events for this part from now on."""
        self._part, self._since = part, self._clock.monotonic()

    async def seen(self, snapshot: Snapshot) -> ProbeSeen:
        """Say how the events of this part go. Raises UnseenError."""
        totals = await self._totals()
        if self._sending is not None and self._sending.done() and not self._over:
            raise UnseenError(f"nothing is sent any more: {self._sending.exception()}")
        cell_of = self._before.cell_of
        took: dict[str, Latencies] = {cell_of(key): Latencies() for key in self._keys}
        for key, latencies in totals.tenants.get(self._part.number, {}).items():
            if key in self._keys:
                took[cell_of(key)].merge(latencies)
        left, waiting = self._left(totals), Counter[str]()
        for key, count in left.items():
            waiting[cell_of(key)] += count
        return ProbeSeen(
            self._clock.monotonic() - self._since,
            {cell_id: _seen(found, waiting[cell_id]) for cell_id, found in took.items()},
            self._sender.events,
            self._sender.events - max(0, left.total() - sum(sent.refused for sent in self._sender.sent)),
            self._dead.more(snapshot),
        )

    def _left(self, totals: Totals) -> Counter[str]:
        """Count the events of each key that were made and that no cell has said to have done.

        Where an answer is lost with its instance, the event is delivered again, and its cell knows it: that counts too.
        """
        done = Counter(totals.again_of)
        for tenants in totals.tenants.values():
            for key, latencies in tenants.items():
                done[key] += latencies.count
        return self._keys - done

    async def finish(self) -> None:
        """Send no more, and wait until all is done, or until nothing has been done for QUIET_S."""
        self._over = True
        if self._sending is not None:
            await asyncio.wait([self._sending])
        now = self._clock.monotonic()
        least, changed_at, until = math.inf, now, now + DRAIN_S
        while (now := self._clock.monotonic()) < min(until, changed_at + QUIET_S):
            with suppress(UnseenError):
                left = self._left(await self._totals()).total()
                if not left:
                    return
                if left < least:
                    least, changed_at = left, now
            await self._clock.sleep(POLL_S)

    def close(self) -> None:
        """Send no more, whatever is open: the drill was ended."""
        if self._sending is not None:
            self._sending.cancel()

    def _shots(self) -> Iterator[Shot]:
        """Yield events as of a Poisson process, each in the part that goes on while it is made."""
        at_s, uniform = 0.0, self._clock.jitter
        while not self._over:
            at_s -= math.log(1 - uniform()) / self._rate
            yield Shot(at_s, self._part.number, int(uniform() * TENANTS), 1.0)

    def _message(self, shot: Shot, number: int) -> StressMessage:
        message = self._make(shot, number)
        self._keys[message.key] += message.events
        return message

    async def _totals(self) -> Totals:
        try:
            return await self._routers.totals()
        except StressError as error:
            raise UnseenError(str(error)) from error


def _seen(took: Latencies, waiting: int) -> KeysSeen:
    sure = took.quantile(quantile) if (quantile := surely(took.count)) else 0.0
    return KeysSeen(took.count, round(took.quantile(0.99), 1), round(sure, 1), waiting)
