"""What a router reports of a cell: each tenant beside itself, bounded, frozen while the cell is suspect."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.detection.samples import (
    LEAST_S,
    MATURE_EVENTS,
    MATURE_S,
    PATIENCE_S,
    REPORTED_TENANTS,
    CellSample,
    CellWatch,
)

KEYS = [f"tenant-{number}" for number in range(8)]
latencies = st.floats(LEAST_S, 100)


class Router:
    """One that sends every tenant the same each second, to one cell."""

    def __init__(self, usual: Mapping[str, float] | None = None) -> None:
        self.watch = CellWatch()
        self.now = 1000.0
        self.usual = dict(usual or {key: 0.01 * 2**rank for rank, key in enumerate(KEYS)})

    def second(self, factor: float = 1.0, *, learning: bool = True, events: int = 1, **own: float) -> CellSample:
        """All tenants at so many times their latency; `own` are single ones' factors."""
        self.now += 1
        for key, usual_s in self.usual.items():
            for _ in range(events):
                self.watch.answered(key, usual_s * own.get(key.replace("-", "_"), factor), self.now)
        return self.watch.sample(1, self.now, learning=learning)

    def seconds(self, count: int, factor: float = 1.0, *, learning: bool = True) -> CellSample:
        """The last of so many."""
        return [self.second(factor, learning=learning) for _ in range(count)][-1]


def offs(sample: CellSample) -> list[float]:
    """Of those tenants whose usual latency is known."""
    return [tenant.off for tenant in sample.tenants.values() if tenant.off is not None]


@given(st.lists(st.tuples(st.sampled_from(KEYS), latencies)), st.integers(0, 5))
def test_a_sample_adds_up_what_was_answered(events: list[tuple[str, float]], failures: int) -> None:
    """Number, seconds and logarithms, of all and of each tenant; the next sample begins at nothing."""
    watch = CellWatch()
    for key, latency_s in events:
        watch.answered(key, latency_s, 1.0)
    for _ in range(failures):
        watch.failed("a", 1.0)
    sample = watch.sample(7, 2.0)
    assert (sample.generation, sample.ok, sample.events) == (7, len(events), len(events) + failures)
    assert sample.new_s == pytest.approx(sum(latency_s for _, latency_s in events))
    assert sample.log_s == pytest.approx(sum(log(latency_s) for _, latency_s in events))
    assert sum(tenant.events for tenant in sample.tenants.values()) == len(events)
    assert sum(tenant.busy_s for tenant in sample.tenants.values()) == pytest.approx(sample.new_s)
    after = watch.sample(7, 3.0)
    assert (after.events, after.ok, after.new_s, after.tenants) == (0, 0, 0, {})


@given(st.floats(0.1, 50))
def test_every_tenant_is_compared_with_itself(factor: float) -> None:
    """Whatever it costs: when all take so many times as long, each is off by the same."""
    router = Router()
    router.seconds(20)
    assert offs(router.second(factor)) == pytest.approx([log(factor)] * len(KEYS), abs=0.01)


def test_a_tenant_is_off_only_when_its_usual_latency_is_known() -> None:
    """That takes a few events and a few seconds."""
    router = Router()
    for second in range(int(MATURE_S)):
        assert offs(router.second()) == [], second
    assert len(offs(router.seconds(2))) == len(KEYS)
    sparse = Router()
    for _ in range(MATURE_EVENTS - 1):
        sparse.now += 60
        sparse.second()
    assert offs(sparse.second()) == []
    assert len(offs(sparse.second())) == len(KEYS)


def test_a_heavy_tenant_is_off_and_no_other() -> None:
    """Its events cost ten times as much."""
    router = Router()
    router.seconds(30)
    sample = router.second(tenant_3=10)
    off = {key: tenant.off for key, tenant in sample.tenants.items()}
    assert off.pop("tenant-3") == pytest.approx(log(10), abs=0.01)
    assert list(off.values()) == pytest.approx([0] * 7, abs=0.01)


def test_what_is_seen_while_the_cell_is_suspect_is_not_usual() -> None:
    """However long it is slow, it is still known to be; until it has been so for so long that it is usual."""
    router = Router()
    router.seconds(60)
    assert offs(router.seconds(int(PATIENCE_S), 3, learning=False)) == pytest.approx([log(3)] * 8, abs=0.01)
    router.seconds(3600, 3, learning=False)
    assert offs(router.second(3)) == pytest.approx([0] * 8, abs=0.05)


def test_a_creep_of_a_minute_hides_nothing() -> None:
    """What was usual a minute ago nearly is what is known."""
    router = Router()
    router.seconds(120)
    for second in range(60):
        sample = router.second(1 + 4 * second / 60)
    assert min(offs(sample)) > log(4)


def test_of_many_tenants_the_busiest_are_remembered_and_reported() -> None:
    """Not the slowest: that would make every cell look slow. Only the one that takes most time is among them always."""
    watch = CellWatch()
    for number in range(500):
        for _ in range(1 + number // 100):
            watch.answered(f"tenant-{number:03}", 0.01 if number >= 400 else 0.1, 1.0)
    watch.answered("whale", 100.0, 1.0)
    sample = watch.sample(1, 1.0, tenants=100)
    assert len(sample.tenants) == REPORTED_TENANTS + 1
    assert {key for key in sample.tenants if key < "tenant-400"} == set()
    assert "whale" in sample.tenants
    assert len(watch._usual) == 100


def test_the_tenant_that_was_not_seen_for_longest_is_forgotten_first() -> None:
    """When there are more than may be known."""
    watch = CellWatch()
    for second, key in enumerate("abcda"):
        watch.answered(key, 0.1, second)
        watch.sample(1, second, tenants=3)
    assert list(watch._usual) == ["c", "d", "a"]


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=8), st.integers(1, 2000))
def test_the_usual_shares_are_right_from_the_first_second_on(costs: list[float], seconds: int) -> None:
    """Of tenants that began together; a new one has none."""
    router = Router({f"tenant-{rank}": cost for rank, cost in enumerate(costs)})
    router.seconds(min(seconds, 50))
    router.usual["new"] = 1.0
    sample = router.second()
    assert sample.tenants["new"].usual_share == 0
    for key, cost in list(router.usual.items())[:-1]:
        assert sample.tenants[key].usual_share == pytest.approx(cost / sum(costs), rel=0.01)


def test_work_is_what_events_usually_take() -> None:
    """However long they take now; of a tenant of which nothing is known yet, it is what they took."""
    router = Router()
    usual = router.seconds(60)
    assert usual.work_s == pytest.approx(sum(router.usual.values()))
    assert usual.new_s == pytest.approx(0, abs=1e-9)
    router.usual["new"] = 7.0
    slow = router.second(factor=5, learning=False)
    assert slow.work_s == pytest.approx(usual.work_s)
    assert slow.new_s == pytest.approx(35)
    assert router.second(events=2, learning=False).work_s == pytest.approx(2 * usual.work_s)


def test_a_row_of_failures_has_its_length_its_tenants_and_its_age() -> None:
    """A broken batch is one failure of all in it; a success ends the row, another instance begins its own."""
    watch = CellWatch()
    watch.answered("a", 0.1, 0.0)
    watch.failed("a", 0.5)
    watch.broke(["a", "b", "c"])
    sample = watch.sample(1, 1.0)
    assert (sample.failing, sample.failing_tenants, sample.failing_s) == (2, 3, 0)
    watch.failed("d", 1.5)
    sample = watch.sample(1, 2.0)
    assert (sample.failing, sample.failing_tenants, sample.failing_s) == (3, 4, 1)
    watch.replaced()
    watch.failed("e", 2.5)
    sample = watch.sample(2, 3.0)
    assert (sample.failing, sample.failing_tenants, sample.failing_s) == (1, 1, 0)
    watch.answered("a", 0.1, 3.5)
    sample = watch.sample(2, 4.0)
    assert (sample.failing, sample.failing_tenants, sample.failing_s) == (0, 0, 0)


def test_silence_is_only_while_something_is_in_flight() -> None:
    """And no longer than that is."""
    watch = CellWatch()
    watch.answered("a", 0.1, 10.0)
    assert watch.sample(1, 20.0).silent_s == 0
    assert watch.sample(1, 20.0, oldest_s=3).silent_s == 3
    assert watch.sample(1, 20.0, oldest_s=30).silent_s == 10


def test_an_answer_faster_than_can_be_told_is_as_good_as_any() -> None:
    """Its logarithm would be noise, or none."""
    watch = CellWatch()
    watch.answered("a", 0.0, 1.0)
    watch.answered("a", -0.001, 1.0)
    assert exp(watch.sample(1, 1.0).log_s / 2) == pytest.approx(LEAST_S)
