"""When a retry is the event's own, and when it is an outage."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from router.core.lanes.neighbours import MAX_KEYS, MIN_OTHERS, PERIOD_S, Neighbours
from router.core.models import Outcome


def after(done: Iterable[str], put_off: Iterable[str], *, periods: int = 2) -> Neighbours:
    """A cell that answered so in each of so many periods, the last of which is not over."""
    neighbours = Neighbours()
    for period in range(periods):
        for key in done:
            neighbours.note(key, Outcome.OK, period * PERIOD_S + 1)
        for key in put_off:
            neighbours.note(key, Outcome.RETRY, period * PERIOD_S + 2)
    return neighbours


GOOD = [f"good-{number}" for number in range(30)]


def test_one_key_that_is_put_off_among_many_that_are_not_is_alone() -> None:
    """Also when others of its own events are processed, and when up to a tenth of the keys have such events."""
    assert after(GOOD, ["bad"]).lone("bad")
    assert after([*GOOD, "bad"], ["bad"]).lone("bad")
    assert after(GOOD, ["bad", "worse", "worst"]).lone("bad")
    assert after(GOOD[:MIN_OTHERS], ["bad"]).lone("bad")


def test_an_outage_is_none_of_its_events_fault() -> None:
    """Of everything, of what every tenth event needs, of a cell that just started, or that has too few keys to tell."""
    assert not after([], GOOD).lone(GOOD[0])
    assert not after(GOOD, GOOD).lone(GOOD[0])
    assert not after(GOOD, GOOD[:4]).lone(GOOD[0])
    assert not after(GOOD, ["bad"], periods=1).lone("bad")
    assert not after(GOOD[: MIN_OTHERS - 1], ["bad"]).lone("bad")
    assert not after([*GOOD[: MIN_OTHERS - 1], "bad"], ["bad"]).lone("bad")


def test_what_was_before_a_pause_says_nothing() -> None:
    """A cell without events for a while may come back into an outage."""
    neighbours = after(GOOD, ["bad"])
    neighbours.note("bad", Outcome.RETRY, 10 * PERIOD_S)
    assert not neighbours.lone("bad")


def test_when_an_outage_begins_its_events_are_soon_no_longer_alone() -> None:
    """The first few may be counted once, before there are enough of them."""
    neighbours = after(GOOD, [])
    lone = []
    for key in GOOD:
        neighbours.note(key, Outcome.RETRY, PERIOD_S + 3)
        lone.append(neighbours.lone(key))
    assert sum(lone) == 3
    neighbours.note("other", Outcome.RETRY, 2 * PERIOD_S + 3)
    assert not neighbours.lone("other")


@given(st.integers(0, 3 * MAX_KEYS))
def test_a_flood_of_keys_is_remembered_in_part(count: int) -> None:
    """Whoever is put off under ever new keys fills no router."""
    neighbours = after(GOOD, (f"bad-{number}" for number in range(count)), periods=1)
    assert len(neighbours._put_off) == min(count, MAX_KEYS)
