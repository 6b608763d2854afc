"""The policy as a value, and what admission makes of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.core.admission import BUSY_DELAY_S, Admission, Isolate, Pass, Wait
from router.core.models import Event
from router.core.policy import NO_LIMIT, NO_POLICY, Policy, Quarantine, TenantLimit, from_blob, to_blob

keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
a_limit = st.builds(TenantLimit, st.floats(0, 1e9, allow_nan=False), st.integers(1, 10**6), st.integers(0, 10**6))
a_quarantine = st.builds(Quarantine, keys, st.integers(0, 2**53), st.integers(0, 2**53))
a_policy = st.builds(
    Policy, st.integers(0, 2**53), a_limit, st.dictionaries(keys, a_limit), st.dictionaries(keys, a_quarantine)
)
EVENT = Event("e", "k", b"{}")


@given(a_policy)
def test_the_registry_gives_back_what_it_was_given(policy: Policy) -> None:
    """Whatever the keys are."""
    assert from_blob(to_blob(policy)) == policy


def test_a_quarantine_ends_to_the_millisecond() -> None:
    """And one without an end doesn't."""
    policy = NO_POLICY.with_quarantine("k", Quarantine("w", 0, 1000), 0).with_quarantine("j", Quarantine("w", 0), 0)
    assert policy.in_quarantine("k", 999)
    assert not policy.in_quarantine("k", 1000)
    assert policy.in_quarantine("j", 10**15)
    assert not policy.in_quarantine("i", 0)


@given(a_policy, keys, a_limit, a_quarantine, st.integers(0, 2**53))
def test_a_change_leaves_the_old_policy_as_it_was(
    policy: Policy, key: str, limit: TenantLimit, quarantine: Quarantine, now_ms: int
) -> None:
    """And changes only what it says, but for quarantines that are over."""
    before = to_blob(policy)
    assert policy.with_limit(key, limit).limit_of(key) == limit
    assert policy.with_limit(key, None).limit_of(key) == policy.default
    assert policy.with_limit(None, limit).default == limit
    assert policy.with_limit(None, None).default == NO_LIMIT
    after = policy.with_quarantine(key, quarantine, now_ms)
    assert after.quarantined[key] == quarantine
    lasting = {k for k in policy.quarantined if policy.in_quarantine(k, now_ms)}
    assert after.quarantined.keys() == lasting | {key}
    assert policy.with_quarantine(key, None, now_ms).quarantined.keys() == lasting - {key}
    assert to_blob(policy) == before


def test_plain_events_pass() -> None:
    """Nothing is decided about their keys."""
    admission = Admission(lambda: 10)
    assert admission.quarantine(EVENT, 1, 0) is None
    assert admission.check(EVENT, 1, lambda _: 1000, 0.0) == Pass()


def test_a_key_in_quarantine_is_isolated_as_long_as_that_lasts() -> None:
    """With what is left of it."""
    admission = Admission(lambda: 10)
    admission.policy = NO_POLICY.with_quarantine("k", Quarantine("w", 0, 5000), 0)
    assert admission.quarantine(EVENT, 1, 2000) == Isolate(3.0)
    assert admission.quarantine(EVENT, None, 2000) == Isolate(3.0)
    assert admission.quarantine(EVENT, 1, 5000) is None
    admission.policy = NO_POLICY.with_quarantine("k", Quarantine("w", 0), 0)
    assert admission.quarantine(EVENT, 1, 2000) == Isolate(0.0)


def test_one_death_makes_a_suspect_and_two_a_sentence() -> None:
    """By the event's own history as by the key's."""
    admission = Admission(lambda: 10)
    event = Event("e", "k", b"{}", unanswered=(3,))
    assert admission.quarantine(event, 4, 0) is None
    assert admission.check(event, 4, lambda _: 0, 0.0) == Pass(suspect=True)
    assert admission.check(Event("f", "k", b"{}"), 4, lambda _: 0, 0.0) == Pass(suspect=True)
    assert admission.check(Event("g", "other", b"{}"), 4, lambda _: 0, 0.0) == Pass()
    sentence = admission.quarantine(Event("e", "k", b"{}", unanswered=(3, 4)), 5, 0)
    assert sentence is not None
    assert "2 instances" in sentence.why
    assert admission.quarantine(Event("e", "k", b"{}", unanswered=(3, 4)), None, 0) is None


def test_what_is_over_a_limit_waits() -> None:
    """Over its rate as long as the rate says; with enough waiting already, for a second. Its own limit counts first."""
    admission = Admission(lambda: 10)
    admission.policy = NO_POLICY.with_limit(None, TenantLimit(1, 1)).with_limit("k", TenantLimit(0, 1, 3))
    assert admission.check(EVENT, 1, lambda _: 9, 0.0) == Pass(cap=3)
    assert admission.check(EVENT, 1, lambda _: 10, 0.0) == Wait(BUSY_DELAY_S, "concurrency")
    other = Event("e", "other", b"{}")
    assert admission.check(other, 1, lambda _: 0, 0.0) == Pass()
    late = admission.check(other, 1, lambda _: 0, 0.0)
    assert isinstance(late, Wait)
    assert (late.cause, late.delay_s > 0) == ("rate", True)
