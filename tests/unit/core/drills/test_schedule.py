"""When a repeated drill is due: once in each period of the calendar, inside its window, whenever it is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.drills.schedule import DrillWindow, Every, due_ms, window_of

OFFICE = DrillWindow(600, 960)


def ms(text: str) -> int:
    """Return a time of 2026, as `11-30 09:00`, in ms since 1970."""
    return round(datetime.fromisoformat(f"2026-{text}").replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("every", "window", "last", "now", "due"),
    [
        (Every.WEEK, OFFICE, None, "11-29 08:00", "11-29 10:00"),  # a Sunday
        (Every.WEEK, OFFICE, None, "11-29 12:34", "11-29 12:34"),
        (Every.WEEK, OFFICE, None, "11-29 16:00", "11-30 10:00"),
        (Every.WEEK, OFFICE, "11-29 15:59", "11-29 16:01", "11-30 10:00"),  # Monday is another week
        (Every.WEEK, OFFICE, "11-30 10:00", "11-30 10:01", "12-07 10:00"),
        (Every.WEEK, OFFICE, "11-30 10:00", "12-09 11:00", "12-09 11:00"),  # it was not there on Monday
        (Every.DAY, OFFICE, "11-30 15:00", "12-01 09:00", "12-01 10:00"),
        (Every.MONTH, OFFICE, "11-02 10:00", "11-30 12:00", "12-01 10:00"),
        (Every.DAY, DrillWindow(1320, 240), "11-29 22:00", "11-30 03:00", "11-30 22:00"),  # over midnight: the same day
        (Every.DAY, DrillWindow(1320, 240), "11-28 23:00", "11-30 03:00", "11-30 03:00"),
        (Every.WEEK, DrillWindow(), "11-29 23:59", "11-30 00:00", "11-30 00:00"),
    ],
)
def test_it_is_due_once_in_each_period(every: Every, window: DrillWindow, last: str | None, now: str, due: str) -> None:
    """The examples of the how-to, and the edges of days, weeks, months and windows."""
    assert due_ms(every, window, ms(last) if last else None, ms(now)) == ms(due)


@given(
    every=st.sampled_from(Every),
    opens=st.integers(0, 1439),
    closes=st.integers(0, 1440),
    now=st.integers(1_577_836_800_000, 2_208_988_800_000),
)
def test_whoever_asks_again_and_again_gets_each_period_once(every: Every, opens: int, closes: int, now: int) -> None:
    """Whatever the window: each drill lies in it, and from one to the next it is neither earlier nor twice as long."""
    window, at = DrillWindow(opens, closes), now
    last, longest = None, {Every.DAY: 2, Every.WEEK: 14, Every.MONTH: 62}[every]
    for _ in range(5):
        due = due_ms(every, window, last, at)
        begun = datetime.fromtimestamp(due / 1000, UTC)
        minute = begun.hour * 60 + begun.minute
        assert due >= at
        assert (minute - opens) % 1440 < window.minutes
        if last is not None:
            assert timedelta(0) < timedelta(milliseconds=due - last) <= timedelta(days=longest)
        last, at = due, due + 1


@pytest.mark.parametrize(
    "text", ["", "10-16", "25:00-26:00", "10:00", "10:00-16:60", "10:00-16:00 ", "\uff110:00-16:00"]
)
def test_what_is_no_window_is_refused(text: str) -> None:
    """The error says how one is written."""
    with pytest.raises(ValueError, match="as 10:00-16:00"):
        window_of(text)
    assert window_of("10:00-16:00") == OFFICE
    assert window_of("00:00-24:00") == DrillWindow()
