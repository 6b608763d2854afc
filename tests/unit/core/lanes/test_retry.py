"""What each outcome of an event leads to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from router.core.lanes.retry import (
    DENIED_RETRIES,
    DENIED_S,
    LONE_RETRIES,
    LONE_S,
    RetryPolicy,
    Settle,
    ToDeadLetters,
    ToHoldQueue,
    counted,
    decide,
)
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


def test_lone_retries_become_failures_after_so_many_and_so_long() -> None:
    """Twenty within an hour don't, nor two within a day; each one from then on does, with a reason that says why."""
    retry, at = Result(0, Outcome.RETRY, "no such host"), event(1)
    for minute in range(LONE_RETRIES + 5):
        at, result = counted(at, retry, 60 * minute)
        assert result == retry
    assert at.retries == (LONE_RETRIES + 5, 0)
    few, _ = counted(event(1), retry, 0)
    assert counted(few, retry, 24 * 3600)[1] == retry
    for later in range(3):
        at, result = counted(at, retry, LONE_S + later)
        assert result.outcome is Outcome.FAILED
        assert result.reason == (
            f"put off {LONE_RETRIES + 6 + later} times in 6 h while its cell processed other keys, "
            "so infrastructure is not to blame: no such host"
        )


def test_a_lone_retry_that_is_written_anew_waits_no_less() -> None:
    """Its message's receive count begins anew; its own count goes on."""
    retry = Result(0, Outcome.RETRY)
    delays = [
        decide(POLICY, replace(event(1), retries=(count, 0)), retry, receives=1, jitter=0.999) for count in (1, 2, 3, 9)
    ]
    assert [decision.delay_s for decision in delays if isinstance(decision, ToHoldQueue)] == [2, 4, 8, 10]


def test_own_denials_become_failures_after_so_many_and_so_long() -> None:
    """Many within a minute don't, as in a slip of a policy; nor does a second one after a day."""
    denied, at = Result(0, Outcome.RETRY, "AccessDenied", denied=True), event(1)
    for second in range(60):
        at, result = counted(at, denied, second)
        assert result == denied
    few, _ = counted(event(1), denied, 0)
    assert counted(few, denied, 24 * 3600)[1] == denied
    for _ in range(DENIED_RETRIES):
        few, result = counted(few, denied, DENIED_S)
    assert result == Result(
        0,
        Outcome.FAILED,
        f"denied what it needs {DENIED_RETRIES + 1} times in 1 h while others of its cell were not, "
        "so no shared policy is to blame: AccessDenied",
        denied=True,
    )
