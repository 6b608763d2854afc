"""How the number of cells follows the load: never past its bounds, never on little evidence, and without flapping."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.scaling.decision import BAND, FAILED_PAUSE_S, decided
from router.core.scaling.seen import MAX_GAP_S, CellShares, LoadReading, LoadSeen, LoadWindow
from router.core.scaling.wanted import MIN_AFTER_S, Scaling, why_bad_scaling
from tests.support.scaling_week import Leader, bare, week_of

SCALING = Scaling(2, 8)
CALM = LoadSeen(
    whole_s=1000,
    floor=1.0,
    sure_floor=1.0,
    used=0.5,
    sure=0.5,
    places=0.5,
    cpu=0.3,
    behind=False,
    peak=0.5,
    was_behind=False,
)
TICK_S = 5.0

shares = st.floats(0, 1)
scalings = st.builds(
    lambda least, more, target, after, longer: Scaling(least, least + more, target, 0.0, after, after + longer),
    st.integers(1, 20),
    st.integers(0, 20),
    st.floats(0.1, 0.95),
    st.floats(MIN_AFTER_S, 300),
    st.floats(0, 300),
)


def reading(used: float, *, behind: bool = False) -> LoadReading:
    """All of it is CPU, so that nothing doubts it."""
    return LoadReading({"each": CellShares(0.0, used, 0.0)}, behind)


def ran(scaling: Scaling, cells: int, demands: list[float], each_s: float = 60.0) -> list[tuple[float, int]]:
    """Let so many cells' worth of demand come, each for a while; return when the number of cells was changed to what.

    Each reading is of what the cells can do; what is more waits. A change takes no time here, and empties the window.
    """
    window, changes, now, backlog = LoadWindow(), [(0.0, cells)], 0.0, 0.0
    for demand in demands:
        for _ in range(round(each_s / TICK_S)):
            now += TICK_S
            backlog = max(0.0, backlog + (demand - cells) * TICK_S)
            used = 1.0 if backlog else min(1.0, demand / cells)
            window.note(reading(used, behind=backlog > 60 * cells), now, scaling.in_after_s)
            seen = window.seen(scaling.out_after_s, scaling.in_after_s)
            assert seen is not None
            if change := decided(scaling, cells, cells, seen, None).change:
                cells += change
                changes.append((now, cells))
                window.forget()
    return changes


@settings(deadline=None, max_examples=60)
@given(scalings, st.integers(0, 20), st.lists(st.floats(0, 30), min_size=1, max_size=30))
def test_no_load_brings_it_past_its_bounds_or_to_two_steps_at_once(
    scaling: Scaling, more: int, demands: list[float]
) -> None:
    """Between any two changes lies the whole time for which the load is watched, and each is a step of one."""
    cells = min(scaling.min_cells + more, scaling.max_cells)
    changes = ran(scaling, cells, demands)
    assert all(scaling.min_cells <= count <= scaling.max_cells for _, count in changes)
    for (before, count), (then, other) in pairwise(changes):
        assert abs(other - count) == 1
        assert then - before >= (scaling.out_after_s if other > count else scaling.in_after_s)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 10), st.floats(0.3, 12), st.lists(st.floats(BAND, 1), min_size=20, max_size=60))
def test_a_load_within_the_band_never_turns_it_round(cells: int, most: float, parts: list[float]) -> None:
    """Whatever it does within a fifth, the number of cells goes one way and stays there."""
    scaling = Scaling(1, 40, 0.6, 0.0, 60, 120)
    counts = [count for _, count in ran(scaling, cells, [most * part for part in parts])]
    ways = {other - count for count, other in pairwise(counts)}
    assert len(ways) <= 1
    assert counts[-1] >= min(parts[-10:]) * most  # and so they can do what comes


@given(shares, shares, st.booleans(), st.integers(2, 8), st.floats(0, 179))
def test_nothing_is_decided_before_a_whole_window_was_seen(
    used: float, peak: float, behind: bool, cells: int, whole_s: float
) -> None:
    """However high or low the load is."""
    seen = replace(CALM, whole_s=whole_s, used=used, sure=used, peak=peak, behind=behind, was_behind=behind)
    assert decided(SCALING, cells, cells, seen, None).change == 0


@pytest.mark.parametrize(
    ("seen", "change", "says"),
    [
        (CALM, 0, "one cell fewer would be"),
        (replace(CALM, used=0.61), 1, "the target is 60%"),
        (replace(CALM, used=0.9, floor=0.6), 0, "one cell fewer"),
        (replace(CALM, used=0.5, behind=True), 1, "wait for too long"),
        (replace(CALM, used=0.4, behind=True), 0, "one cell fewer"),
        (replace(CALM, used=0.3, peak=0.35), -1, "one cell fewer is 47% in use at most"),
        (replace(CALM, used=0.3, peak=0.37), 0, "must stay below 48%"),
        (replace(CALM, used=0.3, peak=0.35, was_behind=True), 0, "events have waited"),
        (replace(CALM, used=0.3, peak=0.35, whole_s=899), 0, "for 1 s"),
        (replace(CALM, used=0.9, failed_s=FAILED_PAUSE_S - 1), 0, "came to nothing"),
        (replace(CALM, used=0.9, failed_s=FAILED_PAUSE_S), 1, "the target is"),
    ],
)
def test_the_rule_and_the_reason_that_it_gives(seen: LoadSeen, change: int, says: str) -> None:
    """Each limit from both sides, with four cells of two to eight."""
    found = decided(SCALING, 4, 4, seen, None)
    assert (found.change, found.short) == (change, False)
    assert says in found.why


def test_busy_places_say_nothing_while_all_cells_are_slow() -> None:
    """A slow dependency fills the places of every cell; more cells would only press it harder. CPU still counts."""
    full = replace(CALM, used=1.0, sure=0.2, places=1.0)
    assert decided(SCALING, 4, 4, full, "a dependency that they share").change == 0
    assert decided(SCALING, 4, 4, replace(full, sure=0.9), "a dependency that they share").change == 1
    assert decided(SCALING, 4, 4, replace(CALM, used=0.1, sure=0.1, peak=0.1), "shared").change == 0


def test_who_needs_more_than_there_may_be_is_told() -> None:
    """At the maximum nothing is changed, and the decision says that it is short."""
    found = decided(SCALING, 8, 8, replace(CALM, used=0.9), None)
    assert (found.change, found.short) == (0, True)
    assert "more cells are needed than the 8" in found.why


def test_a_configuration_outside_the_bounds_is_brought_back_into_them() -> None:
    """Step by step, whatever the load is."""
    assert decided(SCALING, 1, 1, replace(CALM, used=0.0), None).change == 1
    assert decided(SCALING, 9, 9, CALM, None).change == -1


def test_what_goes_up_and_down_within_a_step_is_its_mean() -> None:
    """Events that end together leave a second with all of their work and others with none: no second counts alone."""
    window = LoadWindow()
    for now in range(60):
        window.note(LoadReading({"c": CellShares(1.2 * (now % 2), 0.3, 0.0)}), float(now), 900)
    seen = window.seen(180, 900)
    assert seen is not None
    assert (round(seen.used, 6), round(seen.peak, 6), round(seen.cpu, 6)) == (0.6, 0.6, 0.3)


def test_a_gap_in_what_is_seen_begins_the_window_anew() -> None:
    """What was seen before it says nothing about the time in it; a clock that goes back is a gap too."""
    for now in (MAX_GAP_S + 1, -1.0):
        window = LoadWindow()
        window.note(reading(0.9), 0.0, 900)
        window.note(reading(0.9), now, 900)
        seen = window.seen(180, 900)
        assert seen is not None
        assert seen.whole_s == 0


@given(scalings)
def test_what_a_person_can_want_is_within_bounds(scaling: Scaling) -> None:
    """What is made by the bounds is good; a minimum above the maximum, or no number at all, is not."""
    assert not list(why_bad_scaling(scaling, 1000))
    assert list(why_bad_scaling(replace(scaling, min_cells=scaling.max_cells + 1), 1000))
    for bad in (
        replace(scaling, target=nan),
        replace(scaling, cell_rate=nan),
        replace(scaling, out_after_s=nan),
        replace(scaling, in_after_s=nan),
    ):
        assert list(why_bad_scaling(bad, 1000))


def test_a_week_of_load_brings_no_flap() -> None:
    """Days, a weekend, growth, long and short spikes: nothing turns round without a reason, and the cells suffice."""
    week, other = week_of(Leader(), 2), week_of(bare, 2)
    assert week.flaps == 0
    assert other.flaps > 100  # what it takes for nothing to flap
    assert week.over_s < 1200
    assert 40 < len(week.changes) < 120
    assert sum(week.ran) < 1.5 * sum(week.needed)
