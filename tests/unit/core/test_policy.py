"""The policy: quarantines and limits of keys, its form in the registry, and the leader's ruling on a proposed one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.policy import (
    MAX_KEYS,
    NO_LIMIT,
    NO_POLICY,
    REMEMBERED_MS,
    Policy,
    Quarantine,
    Ruling,
    TenantLimit,
    judge,
    to_blob,
)

keys = st.text(max_size=5)
limits = st.builds(
    TenantLimit,
    st.floats(0, 1e6) | st.integers(0, 1000).map(float),
    st.integers(1, 1000),
    st.integers(0, 1000),
)
quarantines = st.builds(Quarantine, st.text(max_size=20), st.integers(0, 2**53), st.integers(0, 2**53))
policies = st.builds(
    Policy, st.integers(0, 2**53), limits, st.dictionaries(keys, limits), st.dictionaries(keys, quarantines)
)

SLOW = TenantLimit(rate_per_s=1.0)
ALONE = TenantLimit(concurrency=1)


def from_blob(blob: bytes) -> Policy:
    """Decode a policy as the registry's reader does."""
    return msgspec.json.decode(blob, type=Policy)


@given(policies)
def test_the_registry_gives_back_what_it_got(policy: Policy) -> None:
    """Every key, number and text comes back as it was, whatever it is made of."""
    assert from_blob(to_blob(policy)) == policy


@pytest.mark.parametrize("blob", [b"", b"{", b"[]", b'{"version": "one"}', b'{"limits": {"k": 3}}', b"\xff"])
def test_anything_else_is_refused(blob: bytes) -> None:
    """Anything that is no policy raises a decoder's error."""
    with pytest.raises(msgspec.DecodeError):
        from_blob(blob)


def test_a_policy_of_an_older_or_newer_router_is_understood() -> None:
    """A missing field has its default, and an unknown one is left out: routers are not all replaced at once."""
    assert from_blob(b"{}") == NO_POLICY
    assert from_blob(b'{"version": 3, "later": {}, "limits": {"k": {"concurrency": 1, "later": 2}}}') == Policy(
        3, limits={"k": ALONE}
    )


@given(st.integers(1, 2**53), st.integers(-1000, 1000))
def test_a_quarantine_lasts_to_the_millisecond(until_ms: int, after_ms: int) -> None:
    """It holds up to one millisecond before its end, and not at its end."""
    quarantine = Quarantine("why", 0, until_ms)
    policy = Policy(quarantined={"k": quarantine})
    assert policy.in_quarantine("k", until_ms + after_ms) == (quarantine if after_ms < 0 else None)


def test_a_quarantine_without_end_lasts() -> None:
    """It holds until somebody releases the key, and holds for no other key."""
    policy = Policy(quarantined={"k": Quarantine("why", 5)})
    assert policy.in_quarantine("k", 2**60) == Quarantine("why", 5)
    assert policy.in_quarantine("other", 6) is None


def test_a_keys_own_limit_counts_instead_of_the_default() -> None:
    """Also where its own limit allows more than the default, or everything."""
    policy = Policy(default=SLOW, limits={"alone": ALONE, "free": NO_LIMIT})
    assert [policy.limit_of(key) for key in ("alone", "free", "any")] == [ALONE, NO_LIMIT, SLOW]


def test_a_limit_is_given_changed_and_taken_away() -> None:
    """One key's limit changes, while other keys and the default keep theirs."""
    policy = Policy(3, SLOW, {"other": SLOW}, {"bad": Quarantine("why", 0)})
    given_ = policy.with_limit("k", ALONE)
    assert given_ == Policy(3, SLOW, {"other": SLOW, "k": ALONE}, policy.quarantined)
    assert given_.with_limit("k", SLOW).limits == {"other": SLOW, "k": SLOW}
    assert given_.with_limit("k", None) == policy
    assert policy.with_limit("unknown", None) == policy


def test_the_default_is_changed_and_taken_away() -> None:
    """No key's own limit changes with it, and a key may have any name, an empty one too."""
    policy = Policy(limits={"k": ALONE})
    assert policy.with_limit(None, SLOW) == Policy(default=SLOW, limits={"k": ALONE})
    assert policy.with_limit(None, SLOW).with_limit(None, None) == policy
    assert policy.with_limit("", SLOW) == Policy(limits={"k": ALONE, "": SLOW})


def test_a_key_is_quarantined_and_released() -> None:
    """The latest quarantine counts, and limits stay as they are."""
    policy = Policy(3, SLOW, {"k": ALONE}).with_quarantine("k", Quarantine("one", 1), 10)
    assert policy == Policy(3, SLOW, {"k": ALONE}, {"k": Quarantine("one", 1)})
    policy = policy.with_quarantine("k", Quarantine("two", 2, 99), 10)
    assert policy.quarantined == {"k": Quarantine("two", 2, 99)}
    assert policy.with_quarantine("k", None, 10) == Policy(3, SLOW, {"k": ALONE})
    assert NO_POLICY.with_quarantine("unknown", None, 10) == NO_POLICY


def test_a_decision_takes_along_the_quarantines_that_are_over() -> None:
    """Otherwise the policy would grow for ever; quarantines that last stay in it."""
    policy = Policy(
        quarantined={"over": Quarantine("", 0, 10), "lasts": Quarantine("", 0, 11), "ever": Quarantine("", 0)}
    )
    assert set(policy.with_quarantine("k", Quarantine("", 10), 10).quarantined) == {"lasts", "ever", "k"}
    assert set(policy.with_quarantine("unknown", None, 10).quarantined) == {"lasts", "ever"}


def test_what_a_key_killed_is_remembered_for_a_day_after_its_quarantine() -> None:
    """Until a person releases the key; without an end it is remembered as long as the quarantine lasts."""
    killer = Quarantine("", 0, 1000, (3, 7))
    policy = Policy(quarantined={"k": killer, "ever": Quarantine("", 0, 0, (4,))})
    later = policy.with_quarantine("other", Quarantine("", 2000), 2000)
    assert set(later.quarantined) == {"k", "ever", "other"}
    assert later.in_quarantine("k", 2000) is None
    assert [later.killed_by("k", now_ms) for now_ms in (0, 999 + REMEMBERED_MS)] == [(3, 7)] * 2
    assert later.killed_by("k", 1000 + REMEMBERED_MS) == later.killed_by("unknown", 0) == ()
    assert later.killed_by("ever", 2**50) == (4,)
    assert later.with_quarantine("k", None, 2000).killed_by("k", 2000) == ()
    assert set(later.with_quarantine("x", None, 1000 + REMEMBERED_MS).quarantined) == {"ever", "other"}


def test_what_is_only_remembered_gives_way_to_quarantines() -> None:
    """A policy that is full of kills long past still takes a quarantine."""
    past = {f"key-{number}": Quarantine("", 0, 10, (1,)) for number in range(MAX_KEYS)}
    assert set(Policy(quarantined=past).with_quarantine("k", Quarantine("", 20), 20).quarantined) == {"k"}


@given(policies, keys, limits | st.none(), quarantines | st.none(), st.integers(0, 2**53))
def test_a_policy_never_changes(
    policy: Policy, key: str, limit: TenantLimit | None, quarantine: Quarantine | None, now_ms: int
) -> None:
    """A reader may keep a policy: every decision makes another one."""
    before = to_blob(policy)
    policy.with_limit(key, limit)
    policy.with_limit(None, limit)
    policy.with_quarantine(key, quarantine, now_ms)
    assert to_blob(policy) == before
    assert Policy() == NO_POLICY


CELLS = ("cell-0000", "cell-0001")


def rule(wanted: Policy, current: Policy, *, can_launch: bool = True) -> tuple[Ruling, Policy]:
    """The leader's ruling where there are two cells before and after, and the policy that is then in force."""
    generations = dict.fromkeys(CELLS, 2)
    return judge("p", wanted, current, CELLS, CELLS, can_launch=can_launch, generations=generations)


def test_a_proposal_on_the_current_version_is_accepted_as_the_next_version() -> None:
    """The policy in force is the wanted one, and only its version is another."""
    current = Policy(3, SLOW)
    assert rule(current.with_limit("k", ALONE), current) == (
        Ruling("p", accepted=True),
        Policy(4, SLOW, {"k": ALONE}),
    )


def test_a_proposal_on_an_older_version_is_refused_without_a_reason() -> None:
    """Nothing is wrong with it: whoever proposed it makes the change again on the newest version."""
    current = Policy(3)
    assert rule(Policy(2).with_limit("k", ALONE), current) == (Ruling("p", accepted=False), current)


def test_a_proposal_is_refused_with_the_reasons_that_it_brings_only() -> None:
    """What is wrong with the current policy already does not count against it."""
    current = Policy(3).with_pin("old", "cell-0009")
    ruling, policy = rule(current.with_pin("new", "cell-0009"), current)
    assert (ruling.accepted, len(ruling.reasons), policy) == (False, 1, current)
    assert "key 'new' is pinned to cell-0009" in ruling.reasons[0]
    assert rule(current.with_limit("k", ALONE), current)[0].accepted


def test_a_replacement_is_refused_where_the_controllers_can_launch_nothing() -> None:
    """An eviction is accepted: what starts the workers there starts the next one."""
    replaced, evicted = (NO_POLICY.with_order("cell-0001", 2, evict=evict) for evict in (False, True))
    assert rule(replaced, NO_POLICY)[0].accepted
    assert "none can be launched" in rule(replaced, NO_POLICY, can_launch=False)[0].reasons[0]
    assert rule(evicted, NO_POLICY, can_launch=False)[0].accepted
