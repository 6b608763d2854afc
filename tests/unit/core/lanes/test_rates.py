"""The rate limiter compared with a token bucket, and what becomes of the events that it sends away."""

from __future__ import annotations

import heapq
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.lanes import rates as rates_module
from router.core.lanes.rates import LONGEST_S, MAX_KEYS, RateLimiter
from router.core.policy import MIN_RATE, TenantLimit

gaps = st.lists(st.integers(0, 256).map(lambda n: n / 64), min_size=1, max_size=80)
"""Seconds between events; like the rates, exact in binary."""
rates = st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0])
bursts = st.integers(1, 10)


def times(gaps_s: list[float]) -> list[float]:
    """The times at which the events come."""
    now, found = 1000.0, []
    for gap in gaps_s:
        now += gap
        found.append(now)
    return found


@given(gaps, rates, bursts)
def test_it_admits_what_a_bucket_of_tokens_does(gaps_s: list[float], rate: float, burst: int) -> None:
    """The bucket is full at first and filled at the rate; an event that passes takes a token, another takes none."""
    limiter, tokens, last = RateLimiter(), float(burst), 0.0
    for now in times(gaps_s):
        tokens, last = min(burst, tokens + (now - last) * rate), now
        expected = tokens >= 1
        assert (limiter.admit("k", TenantLimit(rate, burst), now) == 0.0) == expected
        tokens -= expected


@given(st.lists(st.floats(0, 5), max_size=100), st.floats(0.01, 1000), bursts)
def test_no_interval_sees_more_than_the_burst_and_the_rate(gaps_s: list[float], rate: float, burst: int) -> None:
    """In any stretch of t seconds at most burst + rate * t + 1 events pass."""
    limiter, limit = RateLimiter(), TenantLimit(rate, burst)
    admitted = [now for now in times(gaps_s) if limiter.admit("k", limit, now) == 0.0]
    for begin, first in enumerate(admitted):
        for end, last in enumerate(admitted[begin:], start=1):
            assert end <= burst + rate * (last - first) + 1


@given(st.lists(st.floats(1, 3), max_size=100), st.floats(0.01, 1000), bursts, st.floats(0, 1e7))
def test_a_key_under_its_rate_never_waits(factors: list[float], rate: float, burst: int, start: float) -> None:
    """Rounding does no harm, also not after months, when a clock's floats are coarse."""
    limiter, now = RateLimiter(), start
    for factor in factors:
        now += factor * (1 / rate + 1e-8)
        assert limiter.admit("k", TenantLimit(rate, burst), now) == 0.0


@given(st.floats(0.05, 0.99) | st.just(1.0), bursts, st.integers(2, 40))
def test_who_waits_comes_back_one_after_the_other_at_the_rate(rate: float, burst: int, waiting: int) -> None:
    """Events that come at once are told different times; at one a second or less, no two the same second."""
    limiter, limit = RateLimiter(), TenantLimit(rate, burst)
    assert [limiter.admit("k", limit, 50.0) for _ in range(burst)] == [0.0] * burst
    delays = [limiter.admit("k", limit, 50.0) for _ in range(waiting)]
    assert 0 < delays[0] <= 2.001 / rate
    assert all(0.999 / rate <= later - sooner <= 1.001 / rate for sooner, later in pairwise(delays))
    assert len({ceil(delay) for delay in delays}) == waiting


def drain(limit: TenantLimit, count: int, rounded: Callable[[float], float], fresh_s: float = 0.0) -> list[float]:
    """Let so many events come at once, or one every `fresh_s`, and each again when it was told; when they passed."""
    limiter = RateLimiter()
    coming = [(number * fresh_s, number) for number in range(count)]
    passed: list[float] = []
    for _ in range(20 * count):
        if not coming:
            break
        now, number = heapq.heappop(coming)
        if delay := limiter.admit("k", limit, now):
            heapq.heappush(coming, (now + rounded(delay), number))
        else:
            passed.append(now)
    assert not coming
    return passed


def exactly(delay_s: float) -> float:
    """An event that comes again exactly when it was told to passes."""
    return delay_s


def as_sqs_does(delay_s: float) -> float:
    """The hold queue rounds delays to whole seconds, and takes at most a quarter of an hour."""
    return min(900, ceil(delay_s))


@pytest.mark.parametrize("rounded", [exactly, as_sqs_does])
@pytest.mark.parametrize(
    ("rate", "burst", "count"), [(1, 1, 500), (0.5, 1, 1000), (10, 10, 20_000), (7.3, 8, 10_000), (1, 10, 3000)]
)
def test_all_that_waits_passes_at_the_rate(
    rate: float, burst: int, count: int, rounded: Callable[[float], float]
) -> None:
    """Every event passes and no token is wasted, also when more wait than can pass in the longest delay."""
    passed = drain(TenantLimit(rate, burst), count, rounded)
    assert len(passed) == count
    assert 0.999 * (count - burst) <= rate * passed[-1] <= 1.05 * count


@pytest.mark.parametrize("overload", [1.5, 5])
def test_those_that_wait_pass_too_while_new_ones_come(overload: float) -> None:
    """Under a load of several times the rate, the rate is used in full, and in the end all have passed."""
    limit, count = TenantLimit(10, 10), 5000
    passed = drain(limit, count, as_sqs_does, fresh_s=1 / (10 * overload))
    assert 10 * passed[-1] <= 1.05 * count


def test_everybody_is_told_a_time_that_sqs_can_keep() -> None:
    """However many wait, none is told more than the longest delay, and as many come early as late."""
    limiter, limit = RateLimiter(), TenantLimit(1, 1)
    limiter.admit("k", limit, 0.0)
    delays = [limiter.admit("k", limit, 0.0) for _ in range(5000)]
    assert max(delays) <= LONGEST_S
    counts = [sum(second < delay <= second + 100 for delay in delays) for second in range(0, 900, 100)]
    assert max(counts) <= 1.3 * min(counts)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2)), max_size=80), rates, bursts)
def test_keys_have_nothing_to_do_with_each_other(arrivals: list[tuple[str, float]], rate: float, burst: int) -> None:
    """Each key is answered as if it were alone."""
    limit, now = TenantLimit(rate, burst), 0.0
    together, alone = RateLimiter(), {key: RateLimiter() for key in "abc"}
    for key, gap in arrivals:
        now += gap
        assert together.admit(key, limit, now) == alone[key].admit(key, limit, now)


def test_a_million_keys_cost_no_more_than_those_that_are_remembered() -> None:
    """With ever new keys of any length and a rate at which no bucket is ever full, memory is bounded."""
    limiter, limit = RateLimiter(), TenantLimit(MIN_RATE, 1)
    tracemalloc.start()
    try:
        for number in range(3 * MAX_KEYS):
            limiter.admit(f"{number:0>1000}", limit, number / 5000)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(limiter) <= MAX_KEYS
    assert used < 64 * 1024 * 1024


def test_keys_over_their_rate_are_forgotten_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of keys that come once pushes out others that came once, and none that waits."""
    monkeypatch.setattr(rates_module, "MAX_KEYS", 50)
    limiter, limit = RateLimiter(), TenantLimit(0.01, 1)
    told = [limiter.admit("busy", limit, 0.0) for _ in range(8)]
    for number in range(5000):
        limiter.admit(f"once-{number}", limit, number / 100)
        assert len(limiter) <= 50
    assert limiter.admit("busy", limit, 50.0) > told[-1] - 50.0


def test_keys_that_are_full_again_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgetting forgets neither a token just taken nor a time that an event was told, while there is room."""
    monkeypatch.setattr(rates_module, "MAX_KEYS", 4)
    limiter, limit = RateLimiter(), TenantLimit(1, 5)
    for _ in range(5):
        assert limiter.admit("a", limit, 0.0) == 0.0
    told = [limiter.admit("a", limit, 0.0) for _ in range(10)]
    for number in range(200):
        assert limiter.admit(f"new-{number}", limit, number / 100) == 0.0
        assert len(limiter) <= 4
    for _ in range(5):
        assert limiter.admit("a", limit, 6.0) == 0.0
    assert 6.0 + limiter.admit("a", limit, 6.0) >= max(told) + 1
