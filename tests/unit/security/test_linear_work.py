"""A hostile log can't make the rules work more than in proportion to its size, and finds what a plain search finds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sigma.types import SigmaFieldReference

from cell_worker.handlers.security.correlation import MAX_KEY_CHARS, Correlation, Hit, _key
from cell_worker.handlers.security.matching import _relation, _same_as, find
from tests.unit.security.test_correlations import at, counts, evaluate

START = datetime(2026, 1, 5, tzinfo=UTC)
HITS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["a", "b", "c", None])), max_size=40)


def plain_windows(hits: Sequence[Hit], span: timedelta, enough: int) -> list[tuple[int, list[int]]]:
    """Count every window anew, as the text of the rule says it. It takes the square of the hits."""
    left, found = sorted(hits, key=lambda hit: (hit.time, hit.index)), []
    while left:
        window = [hit for hit in left if hit.time - left[0].time <= span]
        count = len({hit.record["v"] for hit in window} - {None})
        if count >= enough:
            found.append((count, [hit.index for hit in window]))
        left = left[len(window) if count >= enough else 1 :]
    return found


@given(hits=HITS, seconds=st.integers(0, 12), enough=st.integers(1, 4))
def test_windows_are_those_of_a_plain_search(hits: list[tuple[int, str | None]], seconds: int, enough: int) -> None:
    """Counting what enters and leaves the window finds the same windows as counting each window anew."""
    made = [Hit(START + timedelta(seconds=at), index, "r", {"v": v}) for index, (at, v) in enumerate(hits)]
    correlation = Correlation(
        frozenset("r"), timedelta(seconds=seconds), lambda hit: (), lambda hit: hit.record["v"], enough, replaces=True
    )
    found = correlation._windows_of((), list(made))
    assert [(each.count, [hit.index for hit in each.hits]) for each in found] == plain_windows(
        made, timedelta(seconds=seconds), enough
    )


@pytest.mark.parametrize("kind", ["value_count", "event_count", "temporal"])
def test_each_record_is_counted_once(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as many records of one secret are twice the keys. They were four times: 4000 records took 10 s of CPU."""
    asked = 0

    def counting(values: Any) -> str:
        nonlocal asked
        asked += 1
        return _key(values)

    monkeypatch.setattr("cell_worker.handlers.security.correlation._key", counting)
    change: dict[str, Any] = {"type": kind, "condition": {"gte": 3} | ({"field": "v"} if kind == "value_count" else {})}
    change |= {"rules": ["base", "other"]} if kind == "temporal" else {}
    used = []
    for number in (200, 400):
        asked = 0
        evaluate(tmp_path, [at(0, v="same") for _ in range(number)], timespan="1h", **change)
        used.append(asked)
    assert used == ([400, 800] if kind == "value_count" else [200, 400])


def test_long_values_are_counted_by_their_digests(tmp_path: Path) -> None:
    """A text of any length is a key of bounded length, and two of them are still different."""
    long = "x" * 100_000
    assert len(_key([long])) <= MAX_KEY_CHARS
    condition = {"field": "v", "gte": 3}
    records = [at(second, user=long, v=long + str(second)) for second in range(3)]
    ((_, count, size),) = counts(evaluate(tmp_path, records, type="value_count", condition=condition))
    assert (count, size) == (3, 3)


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
