"""The table of all readers and of how many inputs each survived, which the end of a test run shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, cast

import pytest

SURVIVED: Final = "inputs that a reader survived"
"""The property by which a test says of a reader how many inputs it got without an escape."""


def lines(passed: Iterable[pytest.TestReport], failed: Iterable[pytest.TestReport]) -> Iterator[str]:
    """Yield a line for each reader of these reports. An escape fails its test, so each such test is one at least."""
    survived: Counter[str] = Counter()
    for report in passed:
        for name, value in report.user_properties:
            if name == SURVIVED:
                reader, count = cast("tuple[str, int]", value)
                survived[reader] += count
    escapes = sum("test_a_reader_survives" in report.nodeid for report in failed)
    if survived or escapes:
        yield f"{'reader':<26}{'inputs':>8}"
        yield from (f"{reader:<26}{count:>8}" for reader, count in sorted(survived.items()))
        yield f"{len(survived)} readers, {survived.total()} inputs, tests with an escape: {escapes}"
