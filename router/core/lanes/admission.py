"""Whether an event may go to its cell now: quarantine, suspicion, rate, concurrency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from router.core.lanes.poison import DEATHS, Poison
from router.core.lanes.rates import RateLimiter
from router.core.models import Event
from router.core.policy import NO_LIMIT, Policy, TenantLimit

BUSY_DELAY_S: Final = 1.0
"""Until an event of a key that has as many waiting as it may comes again."""


@dataclass(frozen=True, slots=True)
class Pass:
    """To the lane."""

    cap: int = 0  # how many of its key may be in flight at once; 0 for any number
    suspect: bool = False  # alone: its cell's last instance may have died of it


@dataclass(frozen=True, slots=True)
class Wait:
    """To the hold queue, for its key is over its limit."""

    delay_s: float
    cause: str  # rate, concurrency


@dataclass(frozen=True, slots=True)
class Isolate:
    """To the quarantine queue."""

    left_s: float  # of the quarantine; 0.0: until released by hand
    why: str = ""  # non-empty: the key is not in quarantine yet and has to be


_PASS: Final = Pass()
_SUSPECT: Final = Pass(suspect=True)


class Admission:
    """Decides by the policy in force and by what was seen of the key."""

    def __init__(self, waiting_share: Callable[[], int]) -> None:
        self.policy = Policy()
        self.poison = Poison()
        self._rates = RateLimiter()
        self._waiting_share = waiting_share  # how many events of one limited key may wait in a lane

    def quarantine(self, event: Event, generation: int | None, now_ms: int) -> Isolate | None:
        """Whether its key is in quarantine, or has to be. `generation`: of the instance that it would go to."""
        key = event.partition_key
        if self.policy.quarantined and (found := self.policy.in_quarantine(key, now_ms)):
            return Isolate((found.until_ms - now_ms) / 1000 if found.until_ms else 0.0)
        if event.unanswered:
            self.poison.heard(key, event.unanswered)
        if generation is not None and self.poison.suspects(event.unanswered):
            deaths, _ = self.poison.deaths(key, event.unanswered, generation)
            if deaths >= DEATHS:
                return Isolate(0.0, f"in flight at the deaths of {deaths} instances in a row, without an answer")
        return None

    def check(self, event: Event, generation: int, waiting_of: Callable[[str], int], now: float) -> Pass | Wait:
        """Whether it may join the lane, which is open to that instance. A token of its rate is taken when it may."""
        key = event.partition_key
        if self.poison.suspects(event.unanswered) and self.poison.deaths(key, event.unanswered, generation)[1]:
            return _SUSPECT
        limit = self.policy.limit_of(key)
        return _PASS if limit == NO_LIMIT else self._limited(key, limit, waiting_of(key), now)

    def _limited(self, key: str, limit: TenantLimit, waiting: int, now: float) -> Pass | Wait:
        if limit.concurrency and waiting >= max(self._waiting_share(), limit.concurrency):
            return Wait(BUSY_DELAY_S, "concurrency")
        if limit.rate_per_s and (delay_s := self._rates.admit(key, limit, now)):
            return Wait(delay_s, "rate")
        return Pass(cap=limit.concurrency)
