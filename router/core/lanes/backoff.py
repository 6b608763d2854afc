"""Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

The ceiling doubles with each failure in a row. Full jitter draws the wait evenly between nothing and that ceiling, so
that many who failed together don't try again together.
"""

from __future__ import annotations

from typing import Final

MAX_DOUBLINGS: Final = 16  # beyond any ratio of the longest wait to the first; keeps the power from overflowing
NO_JITTER: Final = 1.0


def backoff(first: float, longest: float, failures: int, jitter: float = NO_JITTER) -> float:
    """How long to wait after so many failures in a row (1 or more), in the unit of `first` and `longest`.

    The wait is `first` doubled for every failure after the first one, at most `longest`, times `jitter`: uniform in
    [0, 1) for full jitter, NO_JITTER for the ceiling itself.
    """
    return min(longest, first * 2.0 ** min(failures - 1, MAX_DOUBLINGS)) * jitter
