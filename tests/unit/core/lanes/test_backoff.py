"""Exponential backoff: it doubles, stops at the longest wait, and is spread by the jitter."""

from __future__ import annotations

import pytest

from router.core.lanes.backoff import backoff


def test_the_wait_doubles_with_each_failure_up_to_the_longest() -> None:
    """Without jitter the wait is its own ceiling."""
    assert [backoff(0.5, 3, failures) for failures in range(1, 6)] == [0.5, 1, 2, 3, 3]


@pytest.mark.parametrize(("jitter", "wait"), [(0.0, 0.0), (0.25, 1.0), (0.999, 3.996)])
def test_jitter_spreads_the_wait_from_nothing_to_the_ceiling(jitter: float, wait: float) -> None:
    """Full jitter draws evenly between zero and the ceiling, here 4."""
    assert backoff(1, 60, 3, jitter) == pytest.approx(wait)


def test_any_number_of_failures_is_taken() -> None:
    """A very long outage must not overflow the power of two."""
    assert backoff(0.1, 5, 10**9) == 5
