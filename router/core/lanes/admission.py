"""Whether an event may go to its cell now, and what its answer says of its key: quarantine, suspicion, limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from msgspec.structs import replace

from router.core.lanes.poison import DEATHS, Poison
from router.core.lanes.rates import RateLimiter
from router.core.models import Contact, Event, HoldCause, Outcome, Reason, Result
from router.core.policy import MAX_KILLED, NO_LIMIT, Policy, TenantLimit

BUSY_DELAY_S: Final = 1.0
"""How long an event stays in the hold queue when its key has as many events waiting in the lane as it may have."""
MAX_UNANSWERED: Final = 8  # generations in an event's history, which travels in a message attribute
MAX_KILLS: Final = 4
"""How many instances an event may kill. The first may be chance, the second makes its key wait, and two more, each
after a quarantine, are proof."""
SPREAD: Final = 0.5
"""Events that may have killed come out of quarantine during so much of its length after its end."""


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
    killed: tuple[int, ...] = ()  # generations that the key killed so far, lowest first
    event: str = ""  # a digest of the event's id, if it killed the last of them
    by_event: tuple[int, ...] = ()  # those that this event killed
    guilty: bool = False  # it killed so many that it shall kill no more


_TO_LANE: Final = ToLane()
_ALONE: Final = ToLane(suspect=True)


class Admission:
    """Decides about events by the policy in force and by what this router has seen of their keys."""

    def __init__(self, waiting_share: Callable[[], int], max_kills: int = MAX_KILLS) -> None:
        self.policy = Policy()
        self.poison = Poison()
        self._rates = RateLimiter()  # of keys with limits of their own, which are too few to be forgotten
        self._default_rates = RateLimiter()
        self._max_kills = max_kills
        self._waiting_share = waiting_share  # how many events of one limited key may wait in a lane

    def quarantine(self, event: Event, generation: int | None, now_ms: int) -> ToQuarantine | None:
        """Tell whether the event's key is in quarantine or has to be; None when neither is so.

        `generation` is that of the instance which would get the event, `now_ms` the wall time.
        """
        key = event.partition_key
        if self.policy.quarantined and (left_s := self._left_s(event, now_ms)) is not None:
            return ToQuarantine(left_s)
        if event.unanswered:
            self.poison.heard(key, event.unanswered)
        if generation is not None and self.poison.has_history(event.unanswered):
            return self._condemned(event, generation, now_ms)
        return None

    def reminded(self, event: Event, now_ms: int) -> Event:
        """Give an event whose message can't carry its history what its key's quarantine tells of it.

        Not when its key was answered since.
        """
        key = event.partition_key
        if not self.policy.killed_by(key, now_ms):
            return event
        found = self.policy.quarantined[key]
        if found.event != _digest(event) or self.poison.cleared(key, found.by_event):
            return event
        return replace(event, killed=tuple(sorted({*event.killed, *found.by_event})))

    def check(self, event: Event, generation: int, waiting_of: Callable[[str], int], now: float) -> ToLane | OverLimit:
        """Tell whether the event may join the lane, which is open to the instance of that generation.

        When the key has a rate and the event may join, this takes a token of the rate. `now` is in monotonic seconds.
        """
        key = event.partition_key
        if event.killed:
            return _ALONE
        if self.poison.has_history(event.unanswered) and self.poison.deaths(key, event.unanswered, generation)[1]:
            return _ALONE
        limit = self.policy.limit_of(key)
        # Nearly every key has no limit: comparing the limits' members would take longer than all the rest here.
        if limit is NO_LIMIT or limit == NO_LIMIT:
            return _TO_LANE
        return self._limited(key, limit, waiting_of(key), now)

    def note(self, event: Event, generation: int, result: Result) -> Event:
        """Note what a result says of the event's key, and return the event with its history brought up to date."""
        if result.contact is not Contact.ANSWERED:
            return self._silent(event, generation) if result.contact is Contact.SILENT else event
        killed = bool(event.killed) or event.partition_key in self.policy.quarantined
        self.poison.answered(event.partition_key, generation, killed=killed)
        if result.outcome is Outcome.OK:
            self.poison.succeeded(event.partition_key)
            return event
        return replace(event, unanswered=(), killed=()) if event.unanswered or event.killed else event

    def why_poisonous(self, event: Event, result: Result, successes: int, max_failures: int) -> Reason | None:
        """Count a failure of the event's key; the reason to quarantine the key once too many came in a row.

        `successes` is the number of events that the cell has processed so far: a cell on which every key fails is
        itself at fault.
        """
        count = self.poison.failed(event.partition_key, event.event_id, successes)
        if count < max_failures:
            return None
        return f"failed {count} times in a row, while other keys of its cell did not: {result.reason or '':.200}"

    def _silent(self, event: Event, generation: int) -> Event:
        self.poison.unanswered(event.partition_key, generation)
        seen = (*(g for g in event.unanswered if g != generation), generation)
        return replace(event, unanswered=seen[-MAX_UNANSWERED:])

    def _left_s(self, event: Event, now_ms: int) -> float | None:
        """How long the event's key stays in quarantine, 0.0 for any time; None when it is in none.

        An event that may have killed stays for up to half as long again, each for another time and in each quarantine
        for another one: so routers, which don't know of each other's suspects, don't try two of them at once again and
        again, and an innocent one isn't in flight at every death that another causes.
        """
        found = self.policy.quarantined.get(event.partition_key)
        if found is None or not found.until_ms:
            return None if found is None else 0.0
        until_ms = found.until_ms
        if event.killed:
            until_ms += round((until_ms - found.since_ms) * SPREAD * _lot(event))
        return (until_ms - now_ms) / 1000 if now_ms < until_ms else None

    def _condemned(self, event: Event, generation: int, now_ms: int) -> ToQuarantine | None:
        """Tell whether the event's key has to be in quarantine for the instances before `generation`."""
        known = {*event.killed, *self._killed_by(event.partition_key, now_ms)}
        deaths, _ = self.poison.deaths(event.partition_key, event.unanswered, generation, known)
        if len(deaths) < (1 if event.killed else DEATHS):
            return None
        killed = tuple(sorted({*known, *deaths}))[-MAX_KILLED:]
        why = f"in flight at the deaths of {len(killed)} instances, without an answer: {_generations(killed)}"
        if set(deaths).isdisjoint(event.unanswered):
            return ToQuarantine(0.0, why, killed)
        own = into_quarantine(event, generation).killed
        return ToQuarantine(0.0, why, killed, _digest(event), own, guilty=len(own) >= self._max_kills)

    def _killed_by(self, key: str, now_ms: int) -> tuple[int, ...]:
        """Return what the key's last quarantine says that it killed; nothing when it was answered since.

        Who only happened to be there at two deaths is answered between them, and must not wait ever longer.
        """
        killed = self.policy.killed_by(key, now_ms)
        return () if killed and self.poison.cleared(key, killed) else killed

    def _limited(self, key: str, limit: TenantLimit, waiting: int, now: float) -> ToLane | OverLimit:
        if limit.concurrency > 0 and waiting >= max(self._waiting_share(), limit.concurrency):
            return OverLimit(BUSY_DELAY_S, HoldCause.CONCURRENCY)
        rates = self._rates if key in self.policy.limits else self._default_rates
        if limit.rate_per_s > 0 and (delay_s := rates.admit(key, limit, now)):
            return OverLimit(delay_s, HoldCause.RATE)
        return ToLane(cap=max(0, limit.concurrency))


def into_quarantine(event: Event, generation: int | None) -> Event:
    """Return the event as it goes into quarantine: the instances that died with it in flight stay known as such.

    `generation` is that of the cell's present instance, which has not died; None without one.
    """
    died = {g for g in event.unanswered if generation is not None and g < generation}
    if not died:
        return event
    left = tuple(g for g in event.unanswered if g not in died)
    return replace(event, unanswered=left, killed=tuple(sorted(died.union(event.killed)))[-MAX_UNANSWERED:])


def why_dead(event: Event) -> Reason:
    """Say why an event that has killed as many instances as it may is dead-lettered, after `into_quarantine`."""
    return (
        f"killed its cell {len(event.killed)} times: {_generations(event.killed)} died with it in flight, and none "
        "answered it. It exits, crashes or blocks the worker: mend the handler, then redrive the event"
    )


def _generations(killed: tuple[int, ...]) -> str:
    return f"generation{'s' * (len(killed) > 1)} {', '.join(map(str, killed))}"


def _lot(event: Event) -> float:
    """A number in [0, 1) that is the same on every router, and another one after each quarantine."""
    return crc32(repr((event.partition_key, event.event_id, event.killed)).encode()) / 2**32


def _digest(event: Event) -> str:
    return f"{crc32(event.event_id.encode()):08x}"
