"""The window: sums that forget exactly, a mean that no single tenant moves, rows of failures, canaries, work."""

from __future__ import annotations

from dataclasses import astuple, replace
from itertools import pairwise
from math import log, sqrt
from statistics import median

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.detection.baseline import Baseline
from router.core.detection.canaries import CanaryWindow
from router.core.detection.samples import CellSample, TenantSample
from router.core.detection.statistics import LeaveOneOutMedians, capped_weights, interquartile_mean
from router.core.detection.thresholds import WORK_SIGMA, WORK_VARIATION
from router.core.detection.window import SampleWindow

BASELINE = Baseline(rate=5.0, work=1.0, learned_s=600.0)
weights = st.lists(st.floats(0.01, 1000), min_size=1, max_size=40)
tenant_samples = st.builds(
    TenantSample,
    events=st.integers(1, 20),
    busy_s=st.floats(0.15, 1500),
    baseline_share=st.floats(0, 1),
    deviation=st.none() | st.floats(-10, 10),
)
samples = st.builds(
    CellSample,
    generation=st.just(1),
    ok=st.integers(0, 20),
    log_s=st.floats(-50, 50),
    tenants=st.dictionaries(st.sampled_from("abcdefgh"), tenant_samples, max_size=5),
).map(lambda each: each if each.ok else msgspec.structs.replace(each, log_s=0.0))  # what had no answer took no time


@given(weights, st.floats(0.01, 0.99))
def test_no_weight_is_more_than_its_share_of_all(values: list[float], most: float) -> None:
    """Where there are too few weights for that, all become equal. No weight grows, and their order stays."""
    cut = capped_weights(values, most)
    assert all(new <= old for new, old in zip(cut, values, strict=True))
    assert max(cut) <= most * sum(cut) * (1 + 1e-9) or max(cut) == pytest.approx(min(cut))
    assert all(one[0] <= other[0] for one, other in pairwise(sorted(zip(cut, values, strict=True), key=lambda w: w[1])))


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=30), st.sampled_from([-1, 1]), st.floats(1, 100))
def test_one_extreme_value_among_five_moves_the_interquartile_mean_no_further_however_extreme(
    values: list[float], sign: int, extreme: float
) -> None:
    """The mean is the same for any extreme value, and lies within the range of the others."""
    found = interquartile_mean(sorted([*values, sign * extreme]), [1.0] * (len(values) + 1))
    assert found == pytest.approx(
        interquartile_mean(sorted([*values, sign * 1e6]), [1.0] * (len(values) + 1)), abs=1e-6
    )
    assert min(values) - 1e-9 <= found <= max(values) + 1e-9


@given(st.lists(st.none() | st.floats(-5, 5) | st.integers(-2, 2).map(float), min_size=1, max_size=12))
def test_a_leave_one_out_median_is_the_median_of_all_other_values(values: list[float | None]) -> None:
    """It equals the median computed anew. A cell without a value leaves none out."""
    medians = LeaveOneOutMedians(values)
    for index, own in enumerate(values):
        others = [value for value in values[:index] + values[index + 1 :] if value is not None]
        assert medians.without(own) == (median(others) if others else None)


@given(st.lists(samples, max_size=6), st.lists(samples, max_size=6))
def test_what_is_forgotten_leaves_no_trace(old: list[CellSample], new: list[CellSample]) -> None:
    """A window from which old samples were subtracted equals a window that never had them."""
    window, fresh = SampleWindow(), SampleWindow()
    for number, sample in enumerate(old):
        window.add(f"router-{number}", sample, 10.0)
    for number, sample in enumerate(new):
        window.add(f"router-{number}", sample, 20.0)
        fresh.add(f"router-{number}", sample, 20.0)
    window.forget_before(10.0)
    approximately = [(pytest.approx(deviation, abs=1e-6), events) for deviation, events in fresh.deviations()]
    assert sorted(events for _, events in window.deviations()) == sorted(events for _, events in approximately)
    assert [deviation for deviation, _ in window.deviations()] == [deviation for deviation, _ in approximately]
    assert window.latency_s() == pytest.approx(fresh.latency_s(), rel=1e-6)
    assert window.rate_ratio(BASELINE) == pytest.approx(fresh.rate_ratio(BASELINE))
    loads = [astuple(each.load(0.0, {}))[1:] for each in (window, fresh)]
    assert loads[0] == pytest.approx(loads[1], abs=1e-6)


def test_a_row_of_failures_counts_while_no_router_gets_a_success() -> None:
    """A success of another router since the row began, or of any just now, shows that the cell works."""
    row = CellSample(1, events=2, failures=7, failing_tenants=4, failing_s=5.0)
    window = SampleWindow()
    window.add("a", row, 10.0)
    assert window.failures(10.5) == (7, 4)
    window.add("b", CellSample(1, events=1, ok=1), 3.0)
    assert window.failures(10.5) == (7, 4), "before the row began"
    window.add("b", CellSample(1, events=1, ok=1), 8.0)
    assert window.failures(10.5) == (0, 0)
    assert window.failures(20.0) == (0, 0), "long ago"


def test_a_row_counts_though_it_began_in_the_second_of_the_last_success() -> None:
    """That happens when an instance breaks in the middle of its work."""
    window = SampleWindow()
    window.add("a", CellSample(1, events=9, ok=7, failures=2, failing_tenants=2), 10.0)
    assert window.failures(10.5) == (0, 0)
    window.add("a", CellSample(1, events=4, failures=6, failing_tenants=4, failing_s=1.0), 11.0)
    window.add("a", CellSample(1, events=4, failures=10, failing_tenants=4, failing_s=2.0), 12.0)
    assert window.failures(12.0) == (10, 4)


def test_a_canary_under_way_counts_once_it_has_waited_longer_than_any_other_took() -> None:
    """Before that it does not change the median."""
    canaries = CanaryWindow()
    assert canaries.median_s(10.0) is None
    canaries.recent.extend([(8.0, 0.1), (9.0, 0.3)])
    canaries.waiting_since = 9.9
    assert canaries.median_s(10.0) == pytest.approx(0.2)
    assert canaries.median_s(12.0) == pytest.approx(0.3)
    assert canaries.median_s(12.0, since=8.0) == pytest.approx(1.2)


def test_slowness_of_the_cell_is_taken_out_of_its_work() -> None:
    """Work at baseline latencies is not inflated in a slow cell. The work of new tenants is, as much as the others'."""

    def window_of(work_s: float, new_s: float = 0.0) -> SampleWindow:
        window = SampleWindow()
        for second in range(15):
            window.add("a", CellSample(1, 200, 200, 0.0, work_s, new_s), float(second))
        return window

    baseline = Baseline(rate=200.0, work=20.0, learned_s=600.0)
    certain = 1 - WORK_SIGMA * WORK_VARIATION / sqrt(15 * 200)
    assert window_of(20.0).work_ratio(baseline, log(3.0), 0.0) == pytest.approx(certain)
    assert window_of(40.0).work_ratio(baseline, log(3.0), 0.0) == pytest.approx(2 * certain)
    assert window_of(20.0, 60.0).work_ratio(baseline, log(3.0), 0.0) == pytest.approx(2 * certain)
    assert window_of(20.0, 20.0).work_ratio(baseline, -1.0, 0.0) == pytest.approx(2 * certain)
    learned_slow = -log(2.0)
    assert window_of(40.0).work_ratio(baseline, log(1.5), learned_slow) == pytest.approx(certain)
    assert window_of(20.0, 60.0).work_ratio(baseline, log(1.5), learned_slow) == pytest.approx(1.5 * certain)
    assert window_of(20.0).work_ratio(baseline, log(3.0), log(2.0)) == pytest.approx(certain)
    assert window_of(0.5).work_ratio(baseline, 0.0, 0.0) == 0, "too little to be in anybody's way"
    young = replace(baseline, learned_s=50.0)
    assert window_of(40.0).work_ratio(young, 0.0, 0.0) == 0, "too little is known"
    assert window_of(40.0).rate_ratio(young) == 0, "too little is known"
