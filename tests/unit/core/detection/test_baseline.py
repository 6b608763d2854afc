"""A cell's baseline is a mean at first and forgets later on; that of its canary changes only slowly."""

from __future__ import annotations

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.detection.baseline import Baseline, WorkDone
from router.core.detection.thresholds import CANARY_MEMORY_S, MEMORY_S, MIN_LEARNED_S


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 100), st.floats(0.1, 5)), min_size=1, max_size=50))
def test_the_baseline_is_the_mean_of_all_work_until_its_memory_is_full(seconds: list[tuple[int, float, float]]) -> None:
    """From then on it forgets what is old."""
    baseline = Baseline()
    for ok, work_s, step_s in seconds:
        baseline = baseline.with_work(WorkDone(0.0, step_s, ok, work_s))
    total_s = sum(step_s for _, _, step_s in seconds)
    assert baseline.learned_s == pytest.approx(total_s)
    assert baseline.rate == pytest.approx(sum(ok for ok, _, _ in seconds) / total_s)
    assert baseline.work == pytest.approx(sum(work_s for _, work_s, _ in seconds) / total_s)
    for _ in range(10_000):
        baseline = baseline.with_work(WorkDone(0.0, 1.0, 7, 3.0))
    assert baseline.learned_s == MEMORY_S
    assert [baseline.rate, baseline.work] == pytest.approx([7, 3], abs=1e-3)


def test_a_canarys_time_is_a_mean_for_a_minute_and_then_changes_slowly() -> None:
    """The first canary may be far off. Later on it falls in ten minutes, and rises in hours, or once it has lasted."""
    baseline = Baseline()
    for second in range(int(MIN_LEARNED_S)):
        baseline = baseline.with_canary(0.06 if second % 2 == 0 else 0.02, 1.0)
    assert baseline.canary_s == pytest.approx(0.04, rel=0.03)
    usual_s = baseline.canary_s or 0.0
    rising = lasting = falling = baseline
    for _ in range(60):
        rising = rising.with_canary(2 * usual_s, 1.0)
        lasting = lasting.with_canary(2 * usual_s, 1.0, lasting=True)
        falling = falling.with_canary(usual_s / 2, 1.0)
    assert rising.canary_s == pytest.approx(usual_s * (1 + 60 / CANARY_MEMORY_S), rel=1e-3)
    assert lasting.canary_s == pytest.approx(usual_s * (2 - exp(-60 / MEMORY_S)), rel=1e-3)
    assert falling.canary_s == pytest.approx(usual_s * (1 + exp(-60 / MEMORY_S)) / 2, rel=1e-3)


def test_the_baseline_is_known_after_a_minute() -> None:
    """Nothing may be measured by it before that."""
    baseline = Baseline()
    baseline = baseline.with_work(WorkDone(0.0, MIN_LEARNED_S - 1, 100, 10.0))
    assert not baseline.known
    baseline = baseline.with_work(WorkDone(0.0, 1.0, 100, 10.0))
    assert baseline.known
