"""What a router reports of a cell: each tenant compared with itself, bounded; learning pauses while it is sick."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.detection.samples import (
    LONGEST_TURN,
    MATURE_EVENTS,
    MATURE_S,
    MAX_KEY_CHARS,
    MAX_REPORTED,
    REPORTED_TENANTS,
    CellSample,
    CellSampler,
    tenants_told,
    told_key,
)
from router.core.detection.thresholds import MAX_PAUSE_S, MIN_LATENCY_S, MIN_TENANTS
from router.core.policy import MAX_CELLS

KEYS = [f"tenant-{number}" for number in range(8)]
latencies = st.floats(MIN_LATENCY_S, 100)


class Router:
    """A router that sends the same events of every tenant to one cell each second."""

    def __init__(self, costs: Mapping[str, float] | None = None) -> None:
        self.sampler = CellSampler()
        self.now = 1000.0
        self.costs = dict(costs or {key: 0.01 * 2**rank for rank, key in enumerate(KEYS)})

    def second(self, factor: float = 1.0, *, learning: bool = True, events: int = 1, **own: float) -> CellSample:
        """Sample one second in which all tenants take `factor` times their latency; `own` has tenants' own factors."""
        self.now += 1
        for key, cost_s in self.costs.items():
            for _ in range(events):
                self.sampler.answered(key, cost_s * own.get(key.replace("-", "_"), factor), self.now)
        return self.sampler.sample(1, self.now, learning=learning)

    def seconds(self, count: int, factor: float = 1.0, *, learning: bool = True) -> CellSample:
        """Return the last of `count` seconds' samples."""
        return [self.second(factor, learning=learning) for _ in range(count)][-1]


def deviations(sample: CellSample) -> list[float]:
    """Return the deviations of those tenants that have a baseline."""
    return [tenant.deviation for tenant in sample.tenants.values() if tenant.deviation is not None]


@given(st.lists(st.tuples(st.sampled_from(KEYS), latencies)), st.integers(0, 5))
def test_a_sample_adds_up_what_was_answered(events: list[tuple[str, float]], failures: int) -> None:
    """Events, seconds and logarithms add up, in all and for each tenant. The next sample begins at zero."""
    sampler = CellSampler()
    for key, latency_s in events:
        sampler.answered(key, latency_s, 1.0)
    for _ in range(failures):
        sampler.failed("a", 1.0)
    sample = sampler.sample(7, 2.0)
    assert (sample.generation, sample.ok, sample.events) == (7, len(events), len(events) + failures)
    assert sample.new_s == pytest.approx(sum(latency_s for _, latency_s in events))
    assert sample.log_s == pytest.approx(sum(log(latency_s) for _, latency_s in events))
    assert sum(tenant.events for tenant in sample.tenants.values()) == len(events)
    assert sum(tenant.busy_s for tenant in sample.tenants.values()) == pytest.approx(sample.new_s)
    after = sampler.sample(7, 3.0)
    assert (after.events, after.ok, after.new_s, after.tenants) == (0, 0, 0, {})


@given(st.floats(0.1, 50))
def test_every_tenant_is_compared_with_itself(factor: float) -> None:
    """When all take so many times as long, each deviates by the same, whatever its events cost."""
    router = Router()
    router.seconds(20)
    assert deviations(router.second(factor)) == pytest.approx([log(factor)] * len(KEYS), abs=0.01)


def test_a_tenant_has_a_deviation_only_once_it_has_a_baseline() -> None:
    """A baseline takes a few events and a few seconds."""
    router = Router()
    for second in range(int(MATURE_S)):
        assert deviations(router.second()) == [], second
    assert len(deviations(router.seconds(2))) == len(KEYS)
    sparse = Router()
    for _ in range(MATURE_EVENTS - 1):
        sparse.now += 60
        sparse.second()
    assert deviations(sparse.second()) == []
    assert len(deviations(sparse.second())) == len(KEYS)


def test_a_heavy_tenant_deviates_and_no_other_does() -> None:
    """Events that cost ten times as much are its own affair."""
    router = Router()
    router.seconds(30)
    sample = router.second(tenant_3=10)
    deviation = {key: tenant.deviation for key, tenant in sample.tenants.items()}
    assert deviation.pop("tenant-3") == pytest.approx(log(10), abs=0.01)
    assert list(deviation.values()) == pytest.approx([0] * 7, abs=0.01)


def test_learning_is_paused_while_the_cell_is_sick() -> None:
    """A slow cell deviates for as long as it is slow, until MAX_PAUSE_S make that its baseline."""
    router = Router()
    router.seconds(60)
    assert deviations(router.seconds(int(MAX_PAUSE_S), 3, learning=False)) == pytest.approx([log(3)] * 8, abs=0.01)
    router.seconds(3600, 3, learning=False)
    assert deviations(router.second(3)) == pytest.approx([0] * 8, abs=0.05)


def test_a_creep_of_a_minute_hides_nothing() -> None:
    """The baseline forgets too slowly to follow it."""
    router = Router()
    router.seconds(120)
    for second in range(60):
        sample = router.second(1 + 4 * second / 60)
    assert min(deviations(sample)) > log(4)


def test_of_many_tenants_the_busiest_are_remembered_and_reported() -> None:
    """The slowest tenants would make every cell look slow. The tenant that takes most time is always reported."""
    sampler = CellSampler()
    for number in range(500):
        for _ in range(1 + number // 100):
            sampler.answered(f"tenant-{number:03}", 0.01 if number >= 400 else 0.1, 1.0)
    sampler.answered("whale", 100.0, 1.0)
    sample = sampler.sample(1, 1.0, tenants=100)
    assert len(sample.tenants) == REPORTED_TENANTS + 1
    assert {key for key in sample.tenants if key < "tenant-400"} == set()
    assert "whale" in sample.tenants
    assert len(sampler._baselines) == 100


def test_the_tenant_that_was_not_seen_for_longest_is_forgotten_first() -> None:
    """A router knows only so many tenants' baselines."""
    sampler = CellSampler()
    for second, key in enumerate("abcda"):
        sampler.answered(key, 0.1, second)
        sampler.sample(1, second, tenants=3)
    assert list(sampler._baselines) == ["c", "d", "a"]


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=8), st.integers(1, 2000))
def test_baseline_shares_are_right_from_the_first_second_on(costs: list[float], seconds: int) -> None:
    """That holds for tenants that began together. A new tenant has no share."""
    router = Router({f"tenant-{rank}": cost for rank, cost in enumerate(costs)})
    router.seconds(min(seconds, 50))
    router.costs["new"] = 1.0
    sample = router.second()
    assert sample.tenants["new"].baseline_share == 0
    for key, cost in list(router.costs.items())[:-1]:
        assert sample.tenants[key].baseline_share == pytest.approx(cost / sum(costs), rel=0.01)


def test_work_counts_events_at_their_baseline_latency() -> None:
    """It does not matter how long they take now. Without a baseline, they count as they took."""
    router = Router()
    normal = router.seconds(60)
    assert normal.work_s == pytest.approx(sum(router.costs.values()))
    assert normal.new_s == pytest.approx(0, abs=1e-9)
    router.costs["new"] = 7.0
    slow = router.second(factor=5, learning=False)
    assert slow.work_s == pytest.approx(normal.work_s)
    assert slow.new_s == pytest.approx(35)
    assert router.second(events=2, learning=False).work_s == pytest.approx(2 * normal.work_s)


def test_what_is_denied_is_an_answer_and_no_failure() -> None:
    """Another instance would be denied it too, so no cell is treated for it."""
    sampler = CellSampler()
    for _ in range(9):
        sampler.denied(0.5)
    sample = sampler.sample(1, 1.0, oldest_s=1.0)
    assert (sample.events, sample.ok, sample.failures, sample.failing_tenants, sample.silent_s) == (9, 0, 0, 0, 0.5)


def test_a_row_of_failures_has_its_length_its_tenants_and_its_age() -> None:
    """A broken batch is one failure of all tenants in it. A success or another instance ends the row."""
    sampler = CellSampler()
    sampler.answered("a", 0.1, 0.0)
    sampler.failed("a", 0.5)
    sampler.broke(["a", "b", "c"])
    sample = sampler.sample(1, 1.0)
    assert (sample.failures, sample.failing_tenants, sample.failing_s) == (2, 3, 0)
    sampler.failed("d", 1.5)
    sample = sampler.sample(1, 2.0)
    assert (sample.failures, sample.failing_tenants, sample.failing_s) == (3, 4, 1)
    sampler.replaced()
    sampler.failed("e", 2.5)
    sample = sampler.sample(2, 3.0)
    assert (sample.failures, sample.failing_tenants, sample.failing_s) == (1, 1, 0)
    sampler.answered("a", 0.1, 3.5)
    sample = sampler.sample(2, 4.0)
    assert (sample.failures, sample.failing_tenants, sample.failing_s) == (0, 0, 0)


def test_silence_is_only_while_something_is_in_flight() -> None:
    """It lasts no longer than the oldest event in flight."""
    sampler = CellSampler()
    sampler.answered("a", 0.1, 10.0)
    assert sampler.sample(1, 20.0).silent_s == 0
    assert sampler.sample(1, 20.0, oldest_s=3).silent_s == 3
    assert sampler.sample(1, 20.0, oldest_s=30).silent_s == 10


def test_latencies_below_half_a_millisecond_count_as_half_a_millisecond() -> None:
    """The logarithm of a shorter one would be noise, or not exist."""
    sampler = CellSampler()
    sampler.answered("a", 0.0, 1.0)
    sampler.answered("a", -0.001, 1.0)
    assert exp(sampler.sample(1, 1.0).log_s / 2) == pytest.approx(MIN_LATENCY_S)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, MAX_CELLS), st.integers(0, 10**6))
def test_a_report_has_room_for_every_cell_in_turn(cells: int, number: int) -> None:
    """Each is told once in a turn of a third of the window, with as many tenants as the rules need, and few in all."""
    turns = [[tenants_told(place, cells, each) for place in range(cells)] for each in range(number, number + 60)]
    assert max(sum(turn) for turn in turns) <= max(MAX_REPORTED + REPORTED_TENANTS, MIN_TENANTS * cells)
    told = [[turn[place] for turn in turns] for place in (0, cells // 2, cells - 1)]
    for each in told:
        often = sum(1 for count in each if count)
        assert often >= len(turns) // LONGEST_TURN
        assert len(turns) % often == 0, "evenly"
        assert {count for count in each if count} <= set(range(MIN_TENANTS, REPORTED_TENANTS + 1))
    if cells * REPORTED_TENANTS <= MAX_REPORTED:
        assert {count for each in told for count in each} == {REPORTED_TENANTS}, "as long as there is room for all"


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(KEYS), latencies)), min_size=1, max_size=6),
    st.lists(st.tuples(st.sampled_from(KEYS), latencies)),
)
def test_what_was_not_told_of_tenants_is_told_later(
    untold: list[list[tuple[str, float]]], last: list[tuple[str, float]]
) -> None:
    """No event is lost and none counts twice. What a cell does as a whole is told in each interval all the same."""
    sampler, told = CellSampler(), []
    for second, events in enumerate([*untold, last]):
        for key, latency_s in events:
            sampler.answered(key, latency_s, second)
        told.append(sampler.sample(1, second, told=REPORTED_TENANTS if second == len(untold) else 0))
    assert [sample.ok for sample in told] == [len(events) for events in (*untold, last)]
    assert [len(sample.tenants) for sample in told[:-1]] == [0] * len(untold)
    every = [event for events in (*untold, last) for event in events]
    assert sum(tenant.events for tenant in told[-1].tenants.values()) == len(every)
    assert sum(tenant.busy_s for tenant in told[-1].tenants.values()) == pytest.approx(sum(each for _, each in every))
    assert sampler.sample(1, 99).tenants == {}


def test_what_was_seen_of_one_instance_is_not_told_of_the_next() -> None:
    """Figures that waited for their turn are dropped when another generation has the cell."""
    router = Router()
    router.seconds(30)
    router.sampler.answered(KEYS[0], 9.0, router.now)
    assert router.sampler.sample(1, router.now, told=0).ok == 1
    after = router.sampler.sample(2, router.now + 1)
    assert (after.generation, after.tenants) == (2, {})


def test_the_same_is_learned_in_turns() -> None:
    """A router whose cells take turns knows the same deviations as one that tells of all in each interval."""
    often, seldom = Router(), Router()
    often.seconds(60)
    for second in range(60):
        seldom.now += 1
        for key, cost_s in seldom.costs.items():
            seldom.sampler.answered(key, cost_s, seldom.now)
        seldom.sampler.sample(1, seldom.now, told=8 * (second % LONGEST_TURN == LONGEST_TURN - 1))
    one, other = often.second(3), seldom.second(3)
    assert deviations(other) == pytest.approx(deviations(one))
    assert other.work_s == pytest.approx(one.work_s)
    shares = [[tenant.baseline_share for tenant in sample.tenants.values()] for sample in (one, other)]
    assert shares[0] == pytest.approx(shares[1], rel=0.01)


def test_a_cell_is_idle_only_when_there_is_nothing_to_tell() -> None:
    """Then routers leave it out of their reports. A row of failures is told again and again."""
    sampler = CellSampler()
    assert sampler.sample(1, 0.0).idle
    assert not sampler.sample(1, 1.0, waiting_tenants=1).idle
    sampler.answered("a", 0.1, 1.5)
    assert not sampler.sample(1, 2.0, told=0).idle
    assert not sampler.sample(1, 3.0).idle, "the tenant's figures wait"
    assert sampler.sample(1, 4.0).idle
    sampler.broke(["a"])
    assert not sampler.sample(1, 5.0).idle
    assert not sampler.sample(1, 6.0).idle
    assert CellSampler().sample(1, 1.0, oldest_s=0.5).idle is False


@given(st.text(max_size=200), st.text(max_size=200))
def test_a_long_key_is_told_short(one: str, other: str) -> None:
    """A report stays short whatever keys are, and keys that differ are told apart."""
    long = "k" * 100
    for key in (one, long + one):
        assert len(told_key(key)) <= MAX_KEY_CHARS
    assert (told_key(long + one) == told_key(long + other)) == (one == other)
    assert told_key(one[:MAX_KEY_CHARS]) == one[:MAX_KEY_CHARS]
