"""Who is to blame, and who isn't."""

from __future__ import annotations

import pytest

from router.core import poison
from router.core.poison import Poison


def test_nobody_is_a_suspect_as_long_as_all_answer() -> None:
    """And asking costs nothing."""
    keys = Poison()
    keys.answered("k", 1)
    keys.succeeded("k")
    assert not keys.suspects(())
    assert keys.deaths("k", (), 5) == (0, False)


def test_a_death_counts_once_the_next_instance_is_there() -> None:
    """Until then it may be that only the answer was lost."""
    keys = Poison()
    keys.unanswered("k", 3)
    assert keys.deaths("k", (), 3) == (0, True)
    assert keys.deaths("k", (), 4) == (1, True)
    keys.unanswered("k", 4)
    assert keys.deaths("k", (), 5) == (2, True)
    assert keys.deaths("other", (), 5) == (0, False)


def test_an_answer_clears_the_key_but_not_another_event_of_it() -> None:
    """One bad event among good ones of its key has its own history."""
    keys = Poison()
    keys.unanswered("k", 1)
    keys.unanswered("other", 1)
    keys.answered("k", 2)
    assert keys.deaths("k", (), 3) == (0, False)
    assert keys.deaths("k", (1, 2), 3) == (2, True)


def test_what_other_routers_saw_counts_unless_it_was_answered_since() -> None:
    """`heard` of an event's history."""
    keys = Poison()
    keys.heard("k", (1,))
    keys.unanswered("k", 2)
    assert keys.deaths("k", (), 3) == (2, True)
    keys.answered("k", 3)
    keys.unanswered("other", 3)
    keys.heard("k", (1, 2, 3))
    assert keys.deaths("k", (), 9)[0] <= 3
    keys.answered("k", 4)
    keys.heard("k", (1, 2, 3))
    assert keys.deaths("k", (), 9) == (0, False)


def test_failures_in_a_row_of_several_events_blame_the_key() -> None:
    """While others of its cell succeed."""
    keys = Poison()
    assert [keys.failed("k", event, 10 + n) for n, event in enumerate("aab")] == [0, 0, 3]


def test_one_event_that_always_fails_blames_itself_only() -> None:
    """It is dead-lettered; the key goes on."""
    keys = Poison()
    assert [keys.failed("k", "a", n) for n in range(5)] == [0] * 5


def test_a_success_forgives_and_forget_forgets() -> None:
    """Only what is in a row counts."""
    keys = Poison()
    keys.failed("k", "a", 0)
    keys.succeeded("k")
    assert keys.failed("k", "b", 5) == 0
    assert keys.failed("k", "c", 6) == 2
    keys.unanswered("k", 1)
    keys.forget("k")
    assert keys.failed("k", "d", 7) == 0
    assert keys.deaths("k", (), 9) == (0, False)


def test_where_nobody_succeeds_no_key_is_blamed() -> None:
    """It is the cell then."""
    keys = Poison()
    assert [keys.failed("k", str(n), 10) for n in range(9)] == [0] * 9


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest suspects are forgotten first."""
    monkeypatch.setattr(poison, "MAX_KEYS", 10)
    keys = Poison()
    for number in range(100):
        keys.unanswered(f"k{number}", 1)
        keys.failed(f"k{number}", "e", 0)
        keys.answered(f"a{number}", 1)
    assert (len(keys._unanswered), len(keys._failures), len(keys._cleared)) == (10, 10, 10)
    assert keys.deaths("k99", (), 2) == (1, True)
    assert keys.deaths("k0", (), 2) == (0, False)
