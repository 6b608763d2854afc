"""What happens to an event after its cell has answered or has not: settled, held for later, or dead-lettered."""

from __future__ import annotations

from dataclasses import dataclass, replace

from router.core.lanes.backoff import backoff
from router.core.models import DeadLetterReason, Event, Outcome, Result


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


def decide(
    policy: RetryPolicy, event: Event, result: Result, *, receives: int, jitter: float
) -> Settle | ToHoldQueue | ToDeadLetters:
    """Decide what to do with an event by its result.

    `receives` says how often the event's message was received so far; `jitter` is uniform in [0, 1).
    """
    match result.outcome:
        case Outcome.OK:
            return Settle()
        case Outcome.REJECTED:
            return ToDeadLetters(DeadLetterReason.REJECTED, result.reason or "")
        case Outcome.FAILED if event.attempt >= policy.max_attempts:
            return ToDeadLetters(DeadLetterReason.MAX_ATTEMPTS, result.reason or "")
        case Outcome.FAILED:
            return ToHoldQueue(replace(event, attempt=event.attempt + 1), delay_s(policy, event.attempt, jitter))
        case Outcome.RETRY:
            return ToHoldQueue(event, delay_s(policy, max(event.attempt, receives), jitter))


def delay_s(policy: RetryPolicy, tries: int, jitter: float) -> int:
    """Return the delay in whole seconds, as SQS wants them, after so many tries; `jitter` is uniform in [0, 1)."""
    return round(backoff(policy.base_delay_s, policy.max_delay_s, tries, jitter))
