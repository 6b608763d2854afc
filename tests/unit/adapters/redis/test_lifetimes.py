"""How long what lies in Redis lives on, by a clock that never jumps."""

from __future__ import annotations

from router.adapters.redis.lifetimes import LONGEST_MS, Lifetimes

HOUR = 3_600_000  # ms


def test_an_entry_ends_as_the_clocks_that_agree_say() -> None:
    """What shows no more signs of life has less left at each look; one that is gone is forgotten."""
    lifetimes = Lifetimes()
    assert lifetimes.left(1000, 1000, {"r": (1, 3000), "s": (1, 9000)}) == {"r": 2000, "s": 8000}
    assert lifetimes.left(2500, 2500, {"r": (2, 4500)}) == {"r": 2000}
    assert lifetimes.left(5000, 5000, {"r": (2, 4500)}) == {"r": -500}


def test_a_clock_that_is_set_changes_nothing_about_what_is_known() -> None:
    """An entry of a dead router ends in its time though the clock went back, one of a live router lives on."""
    for jump in (-HOUR, HOUR):
        lifetimes = Lifetimes()
        lifetimes.left(HOUR, 0, {"gone": (1, HOUR + 2000), "lives": (1, HOUR + 2000)})
        left = lifetimes.left(HOUR + jump + 1000, 1000, {"gone": (1, HOUR + 2000), "lives": (2, HOUR + jump + 2900)})
        assert left == {"gone": 1000, "lives": 1900}
        left = lifetimes.left(HOUR + jump + 2000, 2000, {"gone": (1, HOUR + 2000), "lives": (3, HOUR + jump + 3900)})
        assert left == {"gone": 0, "lives": 1900}


def test_an_entry_renewed_just_before_the_clock_went_forward_keeps_what_it_had() -> None:
    """It looks as if it had ended long ago, and has shown a sign of life all the same."""
    lifetimes = Lifetimes()
    lifetimes.left(0, 0, {"r": (1, 2000)})
    assert lifetimes.left(HOUR + 1000, 1000, {"r": (2, 2900)}) == {"r": 1000}


def test_an_end_far_ahead_counts_for_a_minute() -> None:
    """Whoever first reads it can't know that the clock was set back since it was written."""
    lifetimes = Lifetimes()
    assert lifetimes.left(0, 500, {"r": (1, HOUR)}) == {"r": LONGEST_MS}
    assert lifetimes.left(LONGEST_MS, 500 + LONGEST_MS, {"r": (1, HOUR)}) == {"r": 0}
