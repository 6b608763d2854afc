"""A hostile log can't make the rules work more than in proportion to its size, and finds what a plain search finds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sigma.types import SigmaFieldReference

from cell_worker.handlers.security.correlation import Correlation, Hit
from cell_worker.handlers.security.matching import _relation, _same_as, find

START = datetime(2026, 1, 5, tzinfo=UTC)
HITS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["a", "b", "c", None])), max_size=40)


def plain_windows(hits: Sequence[Hit], span: timedelta, enough: int) -> list[tuple[int, list[int]]]:
    """Count every window anew, as the text of the rule says it. It takes the square of the hits."""
    left, found = sorted(hits, key=lambda hit: (hit.time, hit.index)), []
    while left:
        window = [hit for hit in left if hit.time - left[0].time <= span]
        count = len({hit.counted for hit in window} - {None})
        if count >= enough:
            found.append((count, [hit.index for hit in window]))
        left = left[len(window) if count >= enough else 1 :]
    return found


@given(hits=HITS, seconds=st.integers(0, 12), enough=st.integers(1, 4))
def test_windows_are_those_of_a_plain_search(hits: list[tuple[int, str | None]], seconds: int, enough: int) -> None:
    """Counting what enters and leaves the window finds the same windows as counting each window anew."""
    made = [Hit(START + timedelta(seconds=at), index, "r", v) for index, (at, v) in enumerate(hits)]
    correlation = Correlation(
        frozenset("r"), timedelta(seconds=seconds), lambda *_: (), lambda *_: None, enough, replaces=True
    )
    found = list(correlation.windows_of((), list(made)))
    assert [(each.count, [hit.index for hit in each.hits]) for each in found] == plain_windows(
        made, timedelta(seconds=seconds), enough
    )


WORDS = st.lists(st.text("ab", max_size=4), max_size=8)


@given(found=WORDS, others=WORDS, starts=st.booleans(), ends=st.booleans())
def test_fields_are_compared_as_each_with_each(found: list[str], others: list[str], starts: bool, ends: bool) -> None:
    """Whatever is prepared from one field's values, the answer is that of comparing every pair."""
    pairs = [(text, other) for text in found for other in others]
    if starts and ends:
        expected = any(other in text for text, other in pairs)
    elif starts or ends:
        expected = any(text.startswith(other) if starts else text.endswith(other) for text, other in pairs)
    else:
        expected = any(text == other for text, other in pairs)
    reference = SigmaFieldReference("others", starts_with=starts, ends_with=ends)
    assert _same_as(find("found"), reference)({"found": found, "others": others}) is expected


@pytest.mark.parametrize(("starts", "ends"), [(False, False), (True, False), (False, True)])
def test_two_long_fields_are_not_compared_each_with_each(starts: bool, ends: bool) -> None:
    """Of 2000 values each, one text is compared with few of the other's. It was with all of them."""
    compared = 0

    class Counting(str):
        __slots__ = ()

        def startswith(self, *other: Any) -> bool:
            nonlocal compared
            compared += 1
            return str.startswith(self, *other)

        def __getitem__(self, part: Any) -> str:
            return Counting(str.__getitem__(self, part))

    related = _relation(starts=starts, ends=ends)(Counting(f"{n:05}") for n in range(2000))
    compared = 0
    assert not any(related(Counting(f"x{n:05}x")) for n in range(2000))
    assert compared <= 2000
