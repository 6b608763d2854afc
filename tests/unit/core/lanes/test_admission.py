"""Every answer that admission can give about an event."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from router.core.lanes.admission import BUSY_DELAY_S, MAX_UNANSWERED, Admission, OverLimit, ToLane, ToQuarantine
from router.core.models import Contact, Event, HoldCause, Outcome, Result
from router.core.policy import NO_LIMIT, Policy, Quarantine, TenantLimit

SHARE = 10
"""How many events of one limited key may wait in a lane."""


def admission(policy: Policy | None = None) -> Admission:
    """An Admission with that policy in force."""
    found = Admission(lambda: SHARE)
    found.policy = policy or Policy()
    return found


def event(key: str = "k", unanswered: tuple[int, ...] = ()) -> Event:
    """An event of the key, with that history."""
    return Event("e", key, b"{}", unanswered=unanswered)


def check(at: Admission, what: Event, *, waiting: int = 0, now: float = 0.0) -> ToLane | OverLimit:
    """Ask whether the event may join the lane to generation 3, where `waiting` events of its key wait."""
    return at.check(what, 3, lambda key: waiting if key == what.partition_key else 1000, now)


def test_without_a_decision_everything_passes() -> None:
    """A key that nothing is known of is never limited, suspected or quarantined, however many events wait."""
    at = admission()
    for _ in range(100):
        assert at.quarantine(event(), 3, 0) is None
        assert check(at, event(), waiting=10_000) == ToLane(cap=0, suspect=False)


def test_a_key_in_quarantine_is_isolated_for_the_rest_of_it() -> None:
    """The answer says how long the quarantine still lasts; after that the key passes, as other keys always do."""
    at = admission(Policy(quarantined={"k": Quarantine("why", 0, 5000)}))
    assert at.quarantine(event(), 3, 1500) == ToQuarantine(3.5)
    assert at.quarantine(event(), None, 4999) == ToQuarantine(0.001)
    assert at.quarantine(event(), 3, 5000) is None
    assert at.quarantine(event("other"), 3, 1500) is None


def test_a_key_in_quarantine_without_end_is_isolated_until_it_is_released() -> None:
    """A quarantine without an end is told as 0 seconds."""
    at = admission(Policy(quarantined={"k": Quarantine("why", 0)}))
    assert at.quarantine(event(), 3, 2**50) == ToQuarantine(0.0, why=None)


def test_two_deaths_isolate_the_key_and_say_why() -> None:
    """Whether this router saw the deaths or the event carries them, no third instance gets the key."""
    at = admission()
    at.poison.unanswered("seen", 1)
    at.poison.unanswered("seen", 2)
    for found in (at.quarantine(event("seen"), 3, 0), at.quarantine(event("told", (1, 2)), 3, 0)):
        assert found is not None
        assert found.why == "in flight at the deaths of 2 instances, without an answer: generations 1, 2"
        assert (found.killed, found.guilty) == ((1, 2), False)
    at.poison.unanswered("half", 1)
    assert at.quarantine(event("half", (2,)), 3, 0) is not None
    assert at.quarantine(event("half"), 3, 0) is not None


def test_after_its_quarantine_one_more_death_isolates_the_key_and_the_fourth_condemns_the_event() -> None:
    """The history before the quarantine counts; an event that is there for the first time is not to blame yet."""
    at = admission()
    for generation, guilty in ((3, False), (4, True)):
        what = replace(event(), killed=tuple(range(1, generation)), unanswered=(generation,))
        found = at.quarantine(what, generation + 1, 0)
        assert found is not None
        assert (found.killed, found.by_event, found.guilty) == (tuple(range(1, generation + 1)),) * 2 + (guilty,)
        assert at.quarantine(replace(what, unanswered=()), generation, 0) is None
        at.poison.forget("k")
    at.poison.unanswered("k", 9)
    other = at.quarantine(replace(event(), killed=(1, 2, 3)), 10, 0)
    assert other == ToQuarantine(0.0, other.why if other else "", (1, 2, 3, 9))


def test_an_event_is_not_condemned_for_what_another_event_of_its_key_killed() -> None:
    """The key waits the longer for it, and what the event itself killed is counted from the first."""
    at = admission(Policy(quarantined={"k": Quarantine("", 0, 10, (1, 2, 3, 4, 5))}))
    found = at.quarantine(event(unanswered=(6, 7)), 8, 20)
    assert found is not None
    assert (found.killed, found.by_event, found.guilty) == ((1, 2, 3, 4, 5, 6, 7), (6, 7), False)


def test_a_key_that_was_answered_since_its_quarantine_begins_anew() -> None:
    """Of a neighbour's ten kills, each in flight at some: the innocent key never waits longer than at first."""
    quarantined = {"k": Quarantine("why", 0, 20_000, killed=(1, 2))}
    found = []
    for answered in (False, True):
        at = admission(Policy(quarantined=quarantined))
        if answered:
            at.note(event(), 3, Result(0, Outcome.OK))
        for generation in (4, 5):
            at.note(event(), generation, Result(0, Outcome.RETRY, contact=Contact.SILENT))
        found.append(at.quarantine(event(), 6, 30_000))
    assert [one.killed for one in found if one is not None] == [(1, 2, 4, 5), (4, 5)]


def test_an_event_that_may_have_killed_goes_alone_and_an_answer_clears_it() -> None:
    """Also when no router remembers anything of its key."""
    at = admission()
    what = replace(event(), killed=(1, 2))
    assert check(at, what) == ToLane(suspect=True)
    assert at.note(what, 3, Result(0, Outcome.FAILED)).killed == ()
    assert at.note(what, 3, Result(0, Outcome.RETRY, contact=Contact.SILENT)).killed == (1, 2)


def test_events_that_may_have_killed_come_out_of_quarantine_one_by_one() -> None:
    """Within half its length after its end, each at another moment, and after the next quarantine at another one."""
    at = admission(Policy(quarantined={"k": Quarantine("why", 0, 100_000, (1,))}))
    left = []
    for killed in ((1,), (1, 2)):
        for name in "abcdef":
            found = at.quarantine(replace(event(), event_id=name, killed=killed), 3, 0)
            assert found is not None
            left.append(found.left_s)
    assert all(100 <= each <= 150 for each in left)
    assert len(set(left)) == 12
    assert at.quarantine(event(), 3, 100_000) is None


def test_two_keys_events_of_one_id_come_out_of_quarantine_at_two_moments() -> None:
    """Tenants that each count from 1 share ids: their events would be tried together, and die together, again."""
    at = admission(Policy(quarantined={key: Quarantine("why", 0, 100_000, (1,)) for key in ("a", "b")}))
    found = [at.quarantine(replace(event(key), killed=(1,)), 3, 0) for key in ("a", "b")]
    assert len({each.left_s for each in found if each is not None}) == 2


def test_an_event_whose_message_carries_no_history_is_reminded_of_it() -> None:
    """Only the event that killed the last instance, and only until a later one has answered it."""
    first = admission()
    for generation in (1, 2):
        first.note(event(), generation, Result(0, Outcome.RETRY, contact=Contact.SILENT))
    found = first.quarantine(event(unanswered=(1, 2)), 3, 0)
    assert found is not None
    at = admission(Policy(quarantined={"k": Quarantine("", 0, 10, found.killed, found.event, found.by_event)}))
    assert at.reminded(event(), 20).killed == (1, 2)
    assert at.reminded(replace(event(), event_id="another"), 20).killed == ()
    assert at.reminded(event("other"), 20).killed == ()
    at.note(at.reminded(event(), 20), 3, Result(0, Outcome.FAILED))
    assert at.reminded(event(), 20).killed == ()


def test_an_instance_is_not_dead_as_long_as_it_is_the_one_to_send_to() -> None:
    """The present instance may just be slow to answer; and without an instance, nothing can be decided."""
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
    """An event comes from the hold queue only once, so its history is noted even while its cell has no instance."""
    at = admission()
    assert at.quarantine(event(unanswered=(2,)), None, 0) is None
    assert check(at, event()) == ToLane(suspect=True)


def test_one_death_makes_a_suspect() -> None:
    """All events of the key go alone, whoever saw the death; other keys are not affected."""
    at = admission()
    at.poison.unanswered("k", 2)
    assert at.quarantine(event(), 3, 0) is None
    assert check(at, event()) == ToLane(suspect=True)
    assert check(at, event("other")) == ToLane()
    assert check(at, event("told", (2,))) == ToLane(suspect=True)


def test_an_answer_clears_the_key_and_not_the_event_that_was_there() -> None:
    """An answer to another event clears the key, but the event with a history is still sent alone."""
    at = admission()
    at.poison.unanswered("k", 2)
    at.poison.answered("k", 3)
    assert at.quarantine(event(), 3, 0) is None
    assert check(at, event()) == ToLane()
    assert at.quarantine(event(unanswered=(2,)), 3, 0) is None
    assert check(at, event(unanswered=(2,))) == ToLane(suspect=True)
    assert isinstance(at.quarantine(event(unanswered=(1, 2)), 3, 0), ToQuarantine)


def test_a_suspect_takes_no_token_and_meets_no_limit() -> None:
    """A suspect goes alone anyway, and the sooner it is cleared, the better."""
    at = admission(Policy(default=TenantLimit(rate_per_s=1, concurrency=1)))
    for _ in range(5):
        assert check(at, event(unanswered=(2,)), waiting=1000) == ToLane(suspect=True)
    assert check(at, event()) == ToLane(cap=1)


def test_over_its_rate_a_key_waits_until_it_may_come_again() -> None:
    """After the delay the event passes; other keys have rates of their own."""
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
    """A limited key may wait up to its part of the lane, or up to its concurrency if that is more."""
    at = admission(Policy(default=TenantLimit(concurrency=concurrency)))
    assert check(at, event(), waiting=may_wait - 1) == ToLane(cap=concurrency)
    assert check(at, event(), waiting=may_wait) == OverLimit(BUSY_DELAY_S, HoldCause.CONCURRENCY)


def test_a_key_with_a_rate_only_may_have_any_number_waiting() -> None:
    """A key with a rate alone may have any number of events waiting."""
    at = admission(Policy(default=TenantLimit(rate_per_s=1)))
    assert check(at, event(), waiting=1000) == ToLane()


def test_who_waits_for_its_concurrency_keeps_its_token() -> None:
    """Otherwise an event would pay a token for each try."""
    at = admission(Policy(default=TenantLimit(rate_per_s=1, burst=1, concurrency=2)))
    for _ in range(5):
        assert check(at, event(), waiting=SHARE) == OverLimit(BUSY_DELAY_S, HoldCause.CONCURRENCY)
    assert check(at, event()) == ToLane(cap=2)
    assert check(at, event()) == OverLimit(2.0, HoldCause.RATE)


def test_a_keys_own_limit_counts_instead_of_the_default() -> None:
    """A limit of its own may be stricter or milder than the default, or no limit at all."""
    own = {"strict": TenantLimit(rate_per_s=1), "free": NO_LIMIT}
    at = admission(Policy(default=TenantLimit(rate_per_s=1, burst=5, concurrency=7), limits=own))
    assert isinstance([check(at, event("strict")) for _ in range(2)][-1], OverLimit)
    assert [check(at, event("free"), waiting=1000) for _ in range(100)] == [ToLane()] * 100
    assert [check(at, event("any")) for _ in range(6)][:5] == [ToLane(cap=7)] * 5
    assert isinstance(check(at, event("any")), OverLimit)


def test_another_policy_is_in_force_at_once() -> None:
    """A changed policy decides about the next event, whatever the old one had decided."""
    at = admission(Policy(default=TenantLimit(rate_per_s=0.001)))
    check(at, event())
    assert isinstance(check(at, event()), OverLimit)
    at.policy = Policy()
    assert check(at, event()) == ToLane()
    at.policy = Policy(quarantined={"k": Quarantine("why", 0)})
    assert at.quarantine(event(), 3, 0) == ToQuarantine(0.0)


def test_an_event_without_an_answer_keeps_the_last_generations_that_were_silent() -> None:
    """Each generation is in the history once, and only so many are, since it travels in a message attribute."""
    at, found = admission(Policy()), event()
    for generation in [*range(1, MAX_UNANSWERED + 3), MAX_UNANSWERED + 2]:
        found = at.note(found, generation, Result(0, Outcome.RETRY, contact=Contact.SILENT))
    assert found.unanswered == tuple(range(3, MAX_UNANSWERED + 3))


def test_an_event_that_reached_no_instance_says_nothing_of_its_key() -> None:
    """Neither the event's history nor the key's changes."""
    at = admission(Policy())
    told = event(unanswered=(2,))
    assert at.note(told, 3, Result(0, Outcome.RETRY, contact=Contact.NOT_REACHED)) is told
    assert check(at, event()) == ToLane()


def test_an_answer_ends_the_events_own_history() -> None:
    """What the instance survived once is no longer held against the event."""
    at = admission(Policy())
    assert at.note(event(unanswered=(2,)), 3, Result(0, Outcome.FAILED, "boom")).unanswered == ()


def test_a_key_that_fails_too_often_in_a_row_is_poisonous_and_the_reason_says_so() -> None:
    """The reason counts the failures and quotes the last one; before, there is none."""
    at, failed = admission(Policy()), Result(0, Outcome.FAILED, "boom")
    others = [Event(f"e{number}", "k", b"{}") for number in range(3)]
    whys = [at.why_poisonous(each, failed, successes, 3) for successes, each in enumerate(others)]
    assert whys == [None, None, "failed 3 times in a row, while other keys of its cell did not: boom"]


def test_a_flood_of_keys_forgets_no_limit_that_a_person_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys under the default limit are forgotten when there are too many; those with a limit of their own are not."""
    monkeypatch.setattr("router.core.lanes.rates.MAX_KEYS", 50)
    slow = TenantLimit(rate_per_s=0.001)
    at = admission(Policy(default=slow, limits={"k": slow}))
    assert check(at, event()) == ToLane()
    for number in range(500):
        assert check(at, event(f"once-{number}"), now=number / 100) == ToLane()
    assert isinstance(check(at, event(), now=10.0), OverLimit)
