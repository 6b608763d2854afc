"""Watches whether AWS denies what events need, and tells once when that is everybody's trouble, and once when no more.

`core.lanes.denials` judges. Cells note what they were denied in their answers, an inbox what the payload bucket denies.
"""

from __future__ import annotations

from typing import Final

from router.core.lanes.denials import Denials
from router.core.models import Reason
from router.core.telemetry import AccessDenied
from router.ports import Clock, Observer

JUDGE_EVERY_S: Final = 1.0
PAYLOADS: Final = "the payload bucket"


class AccessWatch:
    """What one router is denied. Of an event's own trouble its retries tell, and in the end its dead letter."""

    def __init__(self, clock: Clock, observer: Observer) -> None:
        self._clock = clock
        self._observer = observer
        self._denials = Denials()
        self._told = False
        self.served = self._denials.served
        self.own = self._denials.own

    def denied(self, place: str, key: str, event_id: str, why: Reason | None) -> None:
        """Note that an event of the key was denied what it needs, at a cell or at `PAYLOADS`."""
        self._denials.denied(place, key, event_id, why or "", self._clock.monotonic())

    def at_standstill(self) -> bool:
        """Whether so much is denied, and nothing else done, that little should be taken in."""
        return self._denials.at_standstill(self._clock.monotonic())

    async def run(self) -> None:
        """Judge again and again, until cancelled."""
        while True:
            await self._clock.sleep(JUDGE_EVERY_S)
            why = self._denials.why_shared(self._clock.monotonic())
            if (why is not None) is not self._told:
                self._told = why is not None
                self._observer.observe(AccessDenied(why))
