"""A canary: an event of no tenant and of fixed cost, sent to a cell by the path that all events take.

Routers and the leader send them, each over its own path: what one of them alone finds slow is a path, and no cell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from router.core.detection.samples import CanarySample
from router.core.errors import CellRefusedError, CellUnavailableError, NoDescriptorError, NotBegunError
from router.core.models import CellRecord, Contact, Event, Outcome, Reason
from router.core.registry import Snapshot
from router.ports import CellClient, Clock
from router.services.loop_lag import TOO_LATE_S, LoopLag
from router.services.unforeseen import Unforeseen

Canary = Callable[[CellRecord, Snapshot, float], Awaitable[Reason | None]]
"""Sends a canary through the instance of the record's generation and waits for the answer, at most so many seconds.

Returns what is wrong; None when the canary was answered well. Raises NoDescriptorError when this process could not send
it, and NotBegunError when the cell has begun nothing: both say nothing of the cell.
"""


class Probe(Protocol):
    """Sends an event that tries an instance: a canary, or a copy that is rehearsed. Else it is as a Canary is."""

    def __call__(
        self, cell: CellRecord, snapshot: Snapshot, within_s: float, event: Event = ...
    ) -> Awaitable[Reason | None]:
        """Send the event, and return what is wrong; None when it was answered well."""
        ...


QUICK_S: Final = 1.0
"""How long the controller waits for the canary that decides whether an instance gets traffic."""
EVERY_S: Final = 1.0
"""Between two canaries of one vantage point through one instance."""
MAX_RATE: Final = 50.0
"""Canaries a second of one vantage point: through more instances it sends them less often."""
PAIR_EVERY_S: Final = 0.5
"""Between two pairs of canaries of one vantage point through an instance on trial and its twin."""
PATIENCE_S: Final = 60.0
"""How long a canary is waited for: long, since the detector judges silence as it lasts, and a late answer says how
late."""
_CANARY: Final = Event("canary", "", b"null", canary=True)


def canary_through(client: CellClient, unforeseen: Unforeseen) -> Probe:
    """Make the function that sends canaries by this client; an error that nobody foresaw fails that canary alone."""

    async def send(cell: CellRecord, snapshot: Snapshot, within_s: float, event: Event = _CANARY) -> Reason | None:
        lease = snapshot.lease(cell.cell_id, cell.generation)
        if lease is None:
            return "it has no lease"
        epoch = max(cell.fence, snapshot.slot_map.epoch if snapshot.slot_map else 0)
        try:
            async with asyncio.timeout(within_s):
                async for result in client.process(lease.target(epoch), [event]):
                    if result.contact is Contact.NOT_REACHED:
                        raise NotBegunError(result.reason or "not begun")  # noqa: TRY301 - as the client's own
                    return None if result.outcome is Outcome.OK else f"{result.outcome.value}: {result.reason or ''}"
        except (NoDescriptorError, NotBegunError):
            raise
        except (CellUnavailableError, CellRefusedError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 - no fault of a client or a cell may end the controller
            return unforeseen.note("canary", error)
        return "no answer"

    return send


class CanaryTimer:
    """Sends canaries and times their answers, as far as the event loop of this process is in time itself."""

    def __init__(self, canary: Canary, lag: LoopLag, clock: Clock) -> None:
        self._canary = canary
        self._lag = lag
        self._clock = clock

    async def time(
        self, record: CellRecord, snapshot: Snapshot, pair: int = 0, within_s: float = PATIENCE_S
    ) -> CanarySample | None:
        """Send one through the instance of the record's generation and return what came of it in so many seconds.

        None where this process could not send or time it, which says nothing of the cell.
        """
        sent = self._clock.monotonic()
        try:
            why_not = await self._canary(record, snapshot, within_s)
        except (NoDescriptorError, NotBegunError):
            return None
        if self._lag.worst_s(sent) > TOO_LATE_S:
            return None
        latency_s = self._clock.monotonic() - sent if why_not is None else None
        return CanarySample(record.generation, latency_s, pair=pair)
