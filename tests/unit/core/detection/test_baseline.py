"""What is usual for a cell: a mean at first, then what forgets; a canary's time isn't soon forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.detection.baseline import LEAST_LEARNED_S, Baseline, Done

MEMORY_S = 600.0


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 100), st.floats(0.1, 5)), min_size=1, max_size=50))
def test_what_is_usual_is_the_mean_of_what_there_was(seconds: list[tuple[int, float, float]]) -> None:
    """At first; from when all it remembers is full, it forgets."""
    usual = Baseline()
    for ok, work_s, step_s in seconds:
        usual = usual.with_done(Done(0.0, step_s, ok, work_s), MEMORY_S)
    total_s = sum(step_s for _, _, step_s in seconds)
    assert usual.learned_s == pytest.approx(total_s)
    assert usual.rate == pytest.approx(sum(ok for ok, _, _ in seconds) / total_s)
    assert usual.work == pytest.approx(sum(work_s for _, work_s, _ in seconds) / total_s)
    for _ in range(10_000):
        usual = usual.with_done(Done(0.0, 1.0, 7, 3.0), MEMORY_S)
    assert usual.learned_s == MEMORY_S
    assert [usual.rate, usual.work] == pytest.approx([7, 3], abs=1e-3)


def test_a_canarys_time_is_a_mean_for_a_minute_and_then_changes_slowly() -> None:
    """The first one may be far off; a quarter of a minute that is slow later on may not become usual."""
    usual = Baseline()
    for second in range(int(LEAST_LEARNED_S)):
        usual = usual.with_canary(0.06 if second % 2 == 0 else 0.02, 1.0, MEMORY_S)
    assert usual.canary_s == pytest.approx(0.04, rel=0.03)
    for _ in range(15):
        usual = usual.with_canary(0.08, 1.0, MEMORY_S)
    assert usual.canary_s == pytest.approx(0.04 + 0.04 * 15 / MEMORY_S, rel=0.03)


def test_what_is_usual_is_known_after_a_minute() -> None:
    """Before that it is no measure."""
    usual = Baseline()
    usual = usual.with_done(Done(0.0, LEAST_LEARNED_S - 1, 100, 10.0), MEMORY_S)
    assert not usual.known
    usual = usual.with_done(Done(0.0, 1.0, 100, 10.0), MEMORY_S)
    assert usual.known
