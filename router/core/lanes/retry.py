"""What happens to an event after its cell has answered, or has not: settled, held for later, or dead-lettered.

The delay grows exponentially with full jitter (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog 2015).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from router.core.lanes.backoff import backoff
from router.core.models import Event, Outcome, Result


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Only `failed` counts as an attempt; infrastructure failures never dead-letter an event."""

    max_attempts: int = 5
    base_delay_s: float = 1.0
    max_delay_s: float = 300.0  # at most 900, the longest delay that SQS knows


@dataclass(frozen=True, slots=True)
class Settle:
    """Done: the event may leave its queue."""


@dataclass(frozen=True, slots=True)
class Hold:
    """To the cell's hold queue, to come back after the delay."""

    event: Event
    delay_s: int


@dataclass(frozen=True, slots=True)
class ToDeadLetters:
    """To the dead-letter queue, for people."""

    reason: str  # one word: rejected, max_attempts
    error: str


def decide(
    policy: RetryPolicy, event: Event, result: Result, *, receives: int, jitter: float
) -> Settle | Hold | ToDeadLetters:
    """What to do next. `receives`: how often its message was received so far; `jitter`: uniform in [0, 1)."""
    match result.outcome:
        case Outcome.OK:
            return Settle()
        case Outcome.REJECTED:
            return ToDeadLetters("rejected", result.reason)
        case Outcome.FAILED if event.attempt >= policy.max_attempts:
            return ToDeadLetters("max_attempts", result.reason)
        case Outcome.FAILED:
            return Hold(replace(event, attempt=event.attempt + 1), delay_s(policy, event.attempt, jitter))
        case Outcome.RETRY:
            return Hold(event, delay_s(policy, max(event.attempt, receives), jitter))


def delay_s(policy: RetryPolicy, tries: int, jitter: float) -> int:
    """A delay in whole seconds, as SQS wants them, after so many tries. `jitter`: uniform in [0, 1)."""
    return round(backoff(policy.base_delay_s, policy.max_delay_s, tries, jitter))
