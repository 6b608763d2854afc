"""What happens to an event after its cell has answered or has not: settled, held for later, or dead-lettered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from router.core.lanes.backoff import backoff
from router.core.models import DeadLetterReason, Event, Outcome, Result

LONE_RETRIES: Final = 20
"""So many lone retries an event may have (see neighbours.py), if they also last for LONE_S; then each is a failure."""
LONE_S: Final = 6 * 3600
"""Longer than outages last that hit one key in ten or fewer. What is dead-lettered all the same can be redriven."""
DENIED_RETRIES: Final = 12
"""So many denials of its own an event may have (see denials.py), if they also last for DENIED_S; the same then. They
take about ten minutes, so that no slip of a minute counts where routers' clocks are an hour apart."""
DENIED_S: Final = 3600
"""Longer than it takes people to mend a policy, also one that only a single tenant needs."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how late an event is tried again.

    Only `failed` counts as an attempt; failures of the infrastructure never dead-letter an event.
    """

    max_attempts: int = 5
    base_delay_s: float = 1.0
    max_delay_s: float = 300.0  # at most 900, the longest delay that SQS knows


@dataclass(frozen=True, slots=True)
class Settle:
    """The event is done and may leave its queue."""


_SETTLE: Final = Settle()


@dataclass(frozen=True, slots=True)
class ToHoldQueue:
    """The event goes to its cell's hold queue, to come back after the delay."""

    event: Event
    delay_s: int


@dataclass(frozen=True, slots=True)
class ToDeadLetters:
    """The event goes to the dead-letter queue, for people."""

    reason: DeadLetterReason
    error: str


def counted(event: Event, result: Result, now_s: int) -> tuple[Event, Result]:
    """Count a lone retry or an own denial; the result is a failure when there were too many. `now_s` is wall time."""
    count, since_s = event.retries or (0, now_s)
    event = replace(event, retries=(count + 1, since_s))
    most, least_s = (DENIED_RETRIES, DENIED_S) if result.denied else (LONE_RETRIES, LONE_S)
    if count < most or now_s - since_s < least_s:
        return event, result
    how_often = f"{count + 1} times in {(now_s - since_s) / 3600:.0f} h"
    if result.denied:
        why = f"denied what it needs {how_often} while others of its cell were not, so no shared policy is to blame"
    else:
        why = f"put off {how_often} while its cell processed other keys, so infrastructure is not to blame"
    reason = f"{why}: {result.reason or ''}"
    return event, replace(result, outcome=Outcome.FAILED, reason=reason)


def decide(
    policy: RetryPolicy, event: Event, result: Result, *, receives: int, jitter: float
) -> Settle | ToHoldQueue | ToDeadLetters:
    """Decide what to do with an event by its result.

    `receives` says how often the event's message was received so far; `jitter` is uniform in [0, 1).
    """
    match result.outcome:
        case Outcome.OK:
            return _SETTLE
        case Outcome.REJECTED:
            return ToDeadLetters(DeadLetterReason.REJECTED, result.reason or "")
        case Outcome.FAILED if event.attempt >= policy.max_attempts:
            return ToDeadLetters(DeadLetterReason.MAX_ATTEMPTS, result.reason or "")
        case Outcome.FAILED:
            return ToHoldQueue(replace(event, attempt=event.attempt + 1), delay_s(policy, event.attempt, jitter))
        case Outcome.RETRY:
            return ToHoldQueue(event, delay_s(policy, max(event.attempt, receives, *event.retries[:1]), jitter))


def delay_s(policy: RetryPolicy, tries: int, jitter: float) -> int:
    """Return the delay in whole seconds, as SQS wants them, after so many tries; `jitter` is uniform in [0, 1)."""
    return round(backoff(policy.base_delay_s, policy.max_delay_s, tries, jitter))
