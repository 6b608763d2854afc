"""A lane's pace: never more than the rate in any time but for a burst, and never less while something waits."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.lanes.lane import Lane, LaneLimits
from router.core.lanes.pace import BURST_S, STEP_S, CellPace
from router.core.models import Target

rates = st.floats(0.01, 10_000)


@given(rates, st.lists(st.floats(0, 3), min_size=1, max_size=30), st.lists(st.integers(0, 50), min_size=30))
def test_in_no_time_do_more_leave_than_the_rate_and_one_burst(
    rate: float, pauses: list[float], wanted: list[int]
) -> None:
    """Whenever one asks, and however much one wants."""
    pace, times = CellPace(rate), list(accumulate(pauses, initial=1e6))
    sent: list[int] = []
    for now, most in zip(times, wanted, strict=False):
        sent.append(min(most, pace.room(now)))
        pace.sent(sent[-1], now)
    for begun in range(len(sent)):
        for ended in range(begun, len(sent)):
            passed_s = times[ended] - times[begun]
            assert sum(sent[begun : ended + 1]) <= max(1.0, rate * BURST_S) + rate * passed_s + 1e-3


@given(rates)
def test_whoever_waits_as_told_gets_the_whole_rate(rate: float) -> None:
    """Each wait ends with something that may leave; together they are the rate, but for what makes the next step."""
    pace, now, sent = CellPace(rate), 1e6, 0
    pace.sent(pace.room(now), now)
    begun = now
    for _ in range(100):
        wait_s = pace.wait_s(now)
        assert wait_s > 0
        now += wait_s + 1e-6
        assert pace.wait_s(now) == 0
        room = pace.room(now)
        assert room >= 1
        pace.sent(room, now)
        sent += room
    assert sent >= rate * (now - begun) - max(1.0, rate * STEP_S) - 1


def lane_with(items: int) -> Lane[int]:
    """A lane to an instance with many places, with so many items of one key."""
    lane: Lane[int] = Lane(LaneLimits(share_events=10_000))
    lane.retarget(Target("cell-0000", 1, "127.0.0.1:9001", 10_000, 1))
    for number in range(items):
        assert lane.offer("k", number, 1, from_hold=False, now=0.0)
    return lane


def taken(lane: Lane[int], now: float) -> int:
    """Take all that may leave now."""
    count = 0
    while batch := lane.take(now):
        count += len(batch)
    return count


def test_a_lane_sends_at_its_pace_until_the_policy_takes_it_away() -> None:
    """What waits for it is told from what waits for a place; a lane that is empty waits for nothing."""
    lane = lane_with(500)
    lane.pace(100.0)
    assert (taken(lane, 0.0), lane.paced(0.0)) == (100, True)
    assert lane.rests_s(0.0) == pytest.approx(STEP_S)
    assert (taken(lane, 0.5), taken(lane, 0.51), taken(lane, 1.0)) == (50, 0, 50)
    lane.pace(10.0)  # nine more routers have come
    assert taken(lane, 2.0) == 10
    assert lane.rests_s(2.0) == pytest.approx(0.1)
    lane.pace(0.0)
    assert (lane.paced(2.0), lane.rests_s(2.0), taken(lane, 2.0)) == (False, 0.0, 290)
    lane.pace(1.0)
    assert (taken(lane, 3.0), lane.paced(3.0), lane.rests_s(3.0)) == (0, False, 0.0)
