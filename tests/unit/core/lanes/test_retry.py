"""What each outcome of an event leads to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.core.lanes.retry import RetryPolicy, Settle, ToDeadLetters, ToHoldQueue, decide
from router.core.models import DeadLetterReason, Event, Outcome, Result

POLICY = RetryPolicy(max_attempts=3, base_delay_s=2, max_delay_s=10)


def event(attempt: int) -> Event:
    """An event on its attempt number `attempt`."""
    return Event("e", "k", b"{}", attempt)


def test_ok_settles() -> None:
    """After `ok` the event is settled."""
    assert decide(POLICY, event(1), Result(0, Outcome.OK), receives=1, jitter=0.5) == Settle()


def test_rejected_is_dead_at_once() -> None:
    """A rejected event can never succeed, so it is not tried again."""
    assert decide(POLICY, event(1), Result(0, Outcome.REJECTED, "corrupt"), receives=1, jitter=0.5) == ToDeadLetters(
        DeadLetterReason.REJECTED, "corrupt"
    )


def test_failed_counts_and_dies_at_the_last_attempt() -> None:
    """A failed event gets two more attempts, and then goes to the dead-letter queue."""
    result = Result(0, Outcome.FAILED, "boom")
    assert decide(POLICY, event(1), result, receives=1, jitter=0.5) == ToHoldQueue(event(2), 1)
    assert decide(POLICY, event(2), result, receives=1, jitter=0.5) == ToHoldQueue(event(3), 2)
    assert decide(POLICY, event(3), result, receives=1, jitter=0.5) == ToDeadLetters(
        DeadLetterReason.MAX_ATTEMPTS, "boom"
    )


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_infrastructure_never_counts(attempt: int, jitter: float) -> None:
    """However often it happens, the event is held unchanged, for no longer than the policy says."""
    decision = decide(POLICY, event(attempt), Result(0, Outcome.RETRY), receives=1, jitter=jitter)
    assert isinstance(decision, ToHoldQueue)
    assert decision.event == event(attempt)
    assert 0 <= decision.delay_s <= POLICY.max_delay_s


def test_infrastructure_that_stays_away_is_asked_less_and_less() -> None:
    """The longest delay doubles each time that the message comes, up to the maximum."""
    retry = Result(0, Outcome.RETRY)
    delays = [decide(POLICY, event(1), retry, receives=n, jitter=0.999) for n in (1, 2, 3, 9, 10_000)]
    assert delays == [ToHoldQueue(event(1), seconds) for seconds in (2, 4, 8, 10, 10)]
