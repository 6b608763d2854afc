"""Whether an event may go to its cell now, and what its answer says of its key: quarantine, suspicion, limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from router.core.lanes.poison import DEATHS, Poison
from router.core.lanes.rates import RateLimiter
from router.core.models import Contact, Event, HoldCause, Outcome, Reason, Result
from router.core.policy import NO_LIMIT, Policy, TenantLimit

BUSY_DELAY_S: Final = 1.0
"""How long an event stays in the hold queue when its key has as many events waiting in the lane as it may have."""
MAX_UNANSWERED: Final = 8  # generations in an event's history, which travels in a message attribute


@dataclass(frozen=True, slots=True)
class ToLane:
    """The event may join its cell's lane."""

    cap: int = 0  # how many of its key may be in flight at once; 0 for any number
    suspect: bool = False  # it is sent alone: its cell's last instance may have died of it


@dataclass(frozen=True, slots=True)
class OverLimit:
    """The event goes to the hold queue, because its key is over its limit."""

    delay_s: float
    cause: HoldCause  # RATE or CONCURRENCY


@dataclass(frozen=True, slots=True)
class ToQuarantine:
    """The event goes to the quarantine queue."""

    left_s: float  # until the quarantine ends; 0.0 when only a person can end it
    why: Reason | None = None  # given when the key is not in quarantine yet and has to be


_TO_LANE: Final = ToLane()
_ALONE: Final = ToLane(suspect=True)


class Admission:
    """Decides about events by the policy in force and by what this router has seen of their keys."""

    def __init__(self, waiting_share: Callable[[], int]) -> None:
        self.policy = Policy()
        self.poison = Poison()
        self._rates = RateLimiter()
        self._waiting_share = waiting_share  # how many events of one limited key may wait in a lane

    def quarantine(self, event: Event, generation: int | None, now_ms: int) -> ToQuarantine | None:
        """Tell whether the event's key is in quarantine or has to be; None when neither is so.

        `generation` is that of the instance which would get the event, `now_ms` the wall time.
        """
        key = event.partition_key
        if self.policy.quarantined and (found := self.policy.in_quarantine(key, now_ms)):
            return ToQuarantine((found.until_ms - now_ms) / 1000 if found.until_ms else 0.0)
        if event.unanswered:
            self.poison.heard(key, event.unanswered)
        if generation is not None and self.poison.has_history(event.unanswered):
            deaths, _ = self.poison.deaths(key, event.unanswered, generation)
            if deaths >= DEATHS:
                return ToQuarantine(0.0, f"in flight at the deaths of {deaths} instances in a row, without an answer")
        return None

    def check(self, event: Event, generation: int, waiting_of: Callable[[str], int], now: float) -> ToLane | OverLimit:
        """Tell whether the event may join the lane, which is open to the instance of that generation.

        When the key has a rate and the event may join, this takes a token of the rate. `now` is in monotonic seconds.
        """
        key = event.partition_key
        if self.poison.has_history(event.unanswered) and self.poison.deaths(key, event.unanswered, generation)[1]:
            return _ALONE
        limit = self.policy.limit_of(key)
        return _TO_LANE if limit == NO_LIMIT else self._limited(key, limit, waiting_of(key), now)

    def note(self, event: Event, generation: int, result: Result) -> Event:
        """Note what a result says of the event's key, and return the event with its history brought up to date."""
        if result.contact is Contact.NOT_REACHED:
            return event
        if result.contact is Contact.SILENT:
            self.poison.unanswered(event.partition_key, generation)
            seen = (*(g for g in event.unanswered if g != generation), generation)
            return replace(event, unanswered=seen[-MAX_UNANSWERED:])
        self.poison.answered(event.partition_key, generation)
        if result.outcome is Outcome.OK:
            self.poison.succeeded(event.partition_key)
            return event
        return replace(event, unanswered=()) if event.unanswered else event

    def why_poisonous(self, event: Event, result: Result, successes: int, max_failures: int) -> Reason | None:
        """Count a failure of the event's key; the reason to quarantine the key once too many came in a row.

        `successes` is the number of events that the cell has processed so far: a cell on which every key fails is
        itself at fault.
        """
        count = self.poison.failed(event.partition_key, event.event_id, successes)
        if count < max_failures:
            return None
        return f"failed {count} times in a row, while other keys of its cell did not: {result.reason or '':.200}"

    def _limited(self, key: str, limit: TenantLimit, waiting: int, now: float) -> ToLane | OverLimit:
        if limit.concurrency > 0 and waiting >= max(self._waiting_share(), limit.concurrency):
            return OverLimit(BUSY_DELAY_S, HoldCause.CONCURRENCY)
        if limit.rate_per_s > 0 and (delay_s := self._rates.admit(key, limit, now)):
            return OverLimit(delay_s, HoldCause.RATE)
        return ToLane(cap=max(0, limit.concurrency))
