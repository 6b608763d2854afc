"""The load of `live`, by which a drill there is judged: its own events, as each router sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final

import aiohttp
import msgspec

from cell_worker.contract.strict_reader import Id, StrictReader, Whole
from router.core.drills.dead_letters import DeadLettersSeen
from router.core.drills.judging import MIN_EVENTS, DrillPart, KeysSeen, ProbeSeen
from router.core.registry import Snapshot
from router.demo.stress.events import StressError
from router.demo.stress.routers import asked
from router.ports import Clock
from router.services.drills import UnseenError


class LaneSeen(msgspec.Struct, frozen=True):
    """What of a router's lane a drill is judged by: a part of an entry of its GET /cells."""

    cell_id: Id
    waiting: Whole
    in_flight: Whole
    answered: Whole
    p99_ms: Annotated[float, msgspec.Meta(ge=0, le=1e9)]  # of the last 512 events


Lanes = tuple[LaneSeen, ...]
LANES: Final = StrictReader[Lanes]("lanes", Lanes, 4 * 1024 * 1024)


class LiveLoad:
    """Sends nothing; compares what routers have counted with what they had when a part began."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], clock: Clock) -> None:
        self._session = session
        self._urls = urls
        self._clock = clock
        self._since = clock.monotonic()
        self._at_begin: list[dict[str, int]] | None = None  # answered, router by router; None: at the next look
        self._dead = DeadLettersSeen()

    async def begin(self, snapshot: Snapshot) -> None:
        """See that each router answers. Raises UnseenError."""
        await self.seen(snapshot)

    def enter(self, part: DrillPart) -> None:  # noqa: ARG002 - any part begins anew
        """Count for this part from now on."""
        self._since, self._at_begin = self._clock.monotonic(), None

    async def seen(self, snapshot: Snapshot) -> ProbeSeen:
        """Say how the events of this part go, cell by cell: the highest p99 of a router counts. Raises UnseenError."""
        try:
            lanes = await asyncio.gather(*(asked(self._session, url, "/cells", LANES) for url in self._urls))
        except StressError as error:
            raise UnseenError(str(error)) from error
        answered = [{lane.cell_id: lane.answered for lane in each} for each in lanes]
        if self._at_begin is None:
            self._at_begin = answered
        keys: dict[str, KeysSeen] = {}
        for before, each in zip(self._at_begin, lanes, strict=True):
            for lane in each:
                so_far = keys.get(lane.cell_id, KeysSeen(0, 0.0))
                events = max(0, lane.answered - before.get(lane.cell_id, 0))
                p99_ms = max(so_far.p99_ms, lane.p99_ms if events else 0.0)
                sure_ms = max(so_far.sure_ms, lane.p99_ms if events >= MIN_EVENTS else 0.0)
                waiting = so_far.open + lane.waiting + lane.in_flight
                keys[lane.cell_id] = KeysSeen(so_far.events + events, p99_ms, sure_ms, waiting)
        return ProbeSeen(self._clock.monotonic() - self._since, keys, dead_letters=self._dead.more(snapshot))

    async def finish(self) -> None:
        """Leave the load as it is: it is not this drill's."""
