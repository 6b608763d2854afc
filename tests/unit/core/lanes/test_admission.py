"""Every answer that an event can get at the door of its lane."""

from __future__ import annotations

import pytest

from router.core.lanes.admission import BUSY_DELAY_S, Admission, OverLimit, ToLane, ToQuarantine
from router.core.models import Event, HoldCause
from router.core.policy import NO_LIMIT, Policy, Quarantine, TenantLimit

SHARE = 10
"""How many events of one limited key may wait in a lane."""


def admission(policy: Policy | None = None) -> Admission:
    """One with that policy in force."""
    found = Admission(lambda: SHARE)
    found.policy = policy or Policy()
    return found


def event(key: str = "k", unanswered: tuple[int, ...] = ()) -> Event:
    """One of the key, with that history."""
    return Event("e", key, b"{}", unanswered=unanswered)


def check(at: Admission, what: Event, *, waiting: int = 0, now: float = 0.0) -> ToLane | OverLimit:
    """Whether it may join the lane to generation 3, where so many of its key wait, and any number of others."""
    return at.check(what, 3, lambda key: waiting if key == what.partition_key else 1000, now)


def test_without_a_decision_everything_passes() -> None:
    """Nobody is limited, suspected or quarantined by himself, however much waits."""
    at = admission()
    for _ in range(100):
        assert at.quarantine(event(), 3, 0) is None
        assert check(at, event(), waiting=10_000) == ToLane(cap=0, suspect=False)


def test_a_key_in_quarantine_is_isolated_for_the_rest_of_it() -> None:
    """Told how long that is, and not decided anew; when the time is up it passes, as other keys do all along."""
    at = admission(Policy(quarantined={"k": Quarantine("why", 0, 5000)}))
    assert at.quarantine(event(), 3, 1500) == ToQuarantine(3.5)
    assert at.quarantine(event(), None, 4999) == ToQuarantine(0.001)
    assert at.quarantine(event(), 3, 5000) is None
    assert at.quarantine(event("other"), 3, 1500) is None


def test_a_key_in_quarantine_without_end_is_isolated_until_it_is_released() -> None:
    """0 stands for that."""
    at = admission(Policy(quarantined={"k": Quarantine("why", 0)}))
    assert at.quarantine(event(), 3, 2**50) == ToQuarantine(0.0, why=None)


def test_two_deaths_isolate_the_key_and_say_why() -> None:
    """Whether this router saw them, or the event carries what others saw; before a third instance gets it."""
    at = admission()
    at.poison.unanswered("seen", 1)
    at.poison.unanswered("seen", 2)
    for found in (at.quarantine(event("seen"), 3, 0), at.quarantine(event("told", (1, 2)), 3, 0)):
        assert found == ToQuarantine(0.0, "in flight at the deaths of 2 instances in a row, without an answer")
    at.poison.unanswered("half", 1)
    assert at.quarantine(event("half", (2,)), 3, 0) is not None
    assert at.quarantine(event("half"), 3, 0) is not None


def test_an_instance_is_not_dead_as_long_as_it_is_the_one_to_send_to() -> None:
    """It may just have been slow to answer; and without an instance, nothing is known."""
    at = admission()
    at.poison.unanswered("k", 2)
    at.poison.unanswered("k", 3)
    assert at.quarantine(event(), 3, 0) is None
    assert at.quarantine(event(), None, 0) is None
    assert isinstance(at.quarantine(event(), 4, 0), ToQuarantine)


def test_what_an_event_tells_is_remembered_of_its_key() -> None:
    """Two events of a key, in flight at one death each, are as bad as one at both."""
    at = admission()
    assert at.quarantine(event(unanswered=(1,)), 3, 0) is None
    assert at.quarantine(event(unanswered=(2,)), 3, 0) is not None


def test_what_an_event_tells_is_remembered_also_while_there_is_no_instance() -> None:
    """It comes from the hold queue only once."""
    at = admission()
    assert at.quarantine(event(unanswered=(2,)), None, 0) is None
    assert check(at, event()) == ToLane(suspect=True)


def test_one_death_makes_a_suspect() -> None:
    """Of the key, whoever saw it; other keys go on as ever."""
    at = admission()
    at.poison.unanswered("k", 2)
    assert at.quarantine(event(), 3, 0) is None
    assert check(at, event()) == ToLane(suspect=True)
    assert check(at, event("other")) == ToLane()
    assert check(at, event("told", (2,))) == ToLane(suspect=True)


def test_an_answer_clears_the_key_and_not_the_event_that_was_there() -> None:
    """That one is still sent alone."""
    at = admission()
    at.poison.unanswered("k", 2)
    at.poison.answered("k", 3)
    assert at.quarantine(event(), 3, 0) is None
    assert check(at, event()) == ToLane()
    assert at.quarantine(event(unanswered=(2,)), 3, 0) is None
    assert check(at, event(unanswered=(2,))) == ToLane(suspect=True)
    assert isinstance(at.quarantine(event(unanswered=(1, 2)), 3, 0), ToQuarantine)


def test_a_suspect_takes_no_token_and_meets_no_limit() -> None:
    """It goes alone anyway, and the sooner it is known to be innocent, the better."""
    at = admission(Policy(default=TenantLimit(rate_per_s=1, concurrency=1)))
    for _ in range(5):
        assert check(at, event(unanswered=(2,)), waiting=1000) == ToLane(suspect=True)
    assert check(at, event()) == ToLane(cap=1)


def test_over_its_rate_a_key_waits_until_it_may_come_again() -> None:
    """And passes then; others have a rate of their own."""
    at = admission(Policy(default=TenantLimit(rate_per_s=2, burst=3)))
    assert [check(at, event()) for _ in range(3)] == [ToLane()] * 3
    found = check(at, event())
    assert isinstance(found, OverLimit)
    assert found.cause is HoldCause.RATE
    assert 0.5 <= found.delay_s <= 1
    assert check(at, event("other")) == ToLane()
    assert check(at, event(), now=found.delay_s) == ToLane()


@pytest.mark.parametrize(("concurrency", "may_wait"), [(3, SHARE), (40, 40)])
def test_a_capped_key_waits_elsewhere_when_it_has_much_waiting_here(concurrency: int, may_wait: int) -> None:
    """Beyond its part of the lane, or what it may have in flight, if that is more; the cap goes with what passes."""
    at = admission(Policy(default=TenantLimit(concurrency=concurrency)))
    assert check(at, event(), waiting=may_wait - 1) == ToLane(cap=concurrency)
    assert check(at, event(), waiting=may_wait) == OverLimit(BUSY_DELAY_S, HoldCause.CONCURRENCY)


def test_a_key_with_a_rate_only_may_have_any_number_waiting() -> None:
    """What its rate lets through need not be held back twice."""
    at = admission(Policy(default=TenantLimit(rate_per_s=1)))
    assert check(at, event(), waiting=1000) == ToLane()


def test_who_waits_for_its_concurrency_keeps_its_token() -> None:
    """Else it would have to pay for each try."""
    at = admission(Policy(default=TenantLimit(rate_per_s=1, burst=1, concurrency=2)))
    for _ in range(5):
        assert check(at, event(), waiting=SHARE) == OverLimit(BUSY_DELAY_S, HoldCause.CONCURRENCY)
    assert check(at, event()) == ToLane(cap=2)
    assert check(at, event()) == OverLimit(2.0, HoldCause.RATE)


def test_a_keys_own_limit_counts_instead_of_the_default() -> None:
    """Stricter or milder, or none at all."""
    own = {"strict": TenantLimit(rate_per_s=1), "free": NO_LIMIT}
    at = admission(Policy(default=TenantLimit(rate_per_s=1, burst=5, concurrency=7), limits=own))
    assert isinstance([check(at, event("strict")) for _ in range(2)][-1], OverLimit)
    assert [check(at, event("free"), waiting=1000) for _ in range(100)] == [ToLane()] * 100
    assert [check(at, event("any")) for _ in range(6)][:5] == [ToLane(cap=7)] * 5
    assert isinstance(check(at, event("any")), OverLimit)


def test_another_policy_is_in_force_at_once() -> None:
    """For the next event, whatever was decided before."""
    at = admission(Policy(default=TenantLimit(rate_per_s=0.001)))
    check(at, event())
    assert isinstance(check(at, event()), OverLimit)
    at.policy = Policy()
    assert check(at, event()) == ToLane()
    at.policy = Policy(quarantined={"k": Quarantine("why", 0)})
    assert at.quarantine(event(), 3, 0) == ToQuarantine(0.0)
