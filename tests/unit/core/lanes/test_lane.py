"""A lane, case by case: its window, an instance that comes back, failures and backoff, suspects."""

from __future__ import annotations

import pytest

from router.core.lanes.lane import MIN_INTERVALS, Lane, LaneLimits
from router.core.models import Target


def target(generation: int = 1, concurrency: int = 8) -> Target:
    """An instance of the lane's cell."""
    return Target("cell-0000", generation, f"127.0.0.1:{9000 + generation}", concurrency, 1)


def lane_of(count: int, *, concurrency: int = 8, now: float = 0.0) -> Lane[int]:
    """A lane with an instance, and so many events of size 1 and of one key, numbered from 0."""
    lane: Lane[int] = Lane(LaneLimits())
    lane.retarget(target(concurrency=concurrency))
    for item in range(count):
        assert lane.offer("k", item, 1, from_hold=False, now=now)
    return lane


def take(lane: Lane[int], now: float = 0.0) -> list[int]:
    """Take the next batch, without the sizes."""
    return [item for item, _ in lane.take(now)]


def test_the_window_is_the_cells_concurrency() -> None:
    """No more events are in flight at an instance than it declares; a new instance has a window of its own."""
    lane = lane_of(10, concurrency=3)
    assert take(lane) == [0, 1, 2]
    assert take(lane) == []
    lane.settled("k", 1, 1)
    assert take(lane) == [3]
    lane.retarget(target(2, concurrency=16))
    assert take(lane) == [4, 5]
    lane.settled("k", 1, 1)
    assert take(lane) == []


def test_an_instance_that_comes_back_still_has_what_was_sent_to_it() -> None:
    """An instance whose lease was away for a moment gets no more than its concurrency, and no second suspect."""
    lane = lane_of(10, concurrency=3)
    lane.offer("s", 90, 1, from_hold=False, now=0, suspect=True)
    lane.offer("s", 91, 1, from_hold=False, now=0, suspect=True)
    assert take(lane) == [90]
    assert take(lane) == [0, 1]
    lane.retarget(None)
    lane.retarget(target(concurrency=3))
    assert take(lane) == []
    lane.settled("k", 1, 1)
    assert take(lane) == [2]
    lane.settled("s", 1, 1, suspect=True)
    assert take(lane) == [91]


def test_latency_narrows_the_window_of_the_instance_that_it_was_measured_at_only() -> None:
    """Late answers of the last instance say nothing of the present one."""
    lane = lane_of(64, concurrency=64)
    for latency in [0.1] * 10 + [5.0] * 100:
        lane._in_flight_at[1] = 64  # all at once
        lane.timed(latency, 1)
    narrowed = lane.window
    assert narrowed <= 32
    for _ in range(100):
        lane.timed(500.0, 2)
    assert lane.window == narrowed
    lane.retarget(target(2, concurrency=64))
    assert lane.window == 8
    for _ in range(30):
        lane.timed(0.1, 2)
    assert lane.window == 64


def test_an_ejected_lane_sends_nothing_and_then_starts_slowly() -> None:
    """An ejected lane refuses new events; those in flight go on, and still count."""
    lane = lane_of(3, concurrency=64)
    assert take(lane) == [0, 1, 2]
    lane.eject(ejected=True)
    assert not lane.passable(0.0)
    assert not lane.offer("k", 9, 1, from_hold=False, now=0)
    lane.settled("k", 1, 1)
    assert lane.in_flight == 2
    lane.eject(ejected=False)
    assert lane.window == 8
    assert lane.offer("k", 9, 1, from_hold=False, now=0)
    assert take(lane) == [9]


def test_after_a_failure_one_event_goes_until_the_cell_answers() -> None:
    """A cell that is still dead costs one event a try, not a batch."""
    lane = lane_of(0)
    lane.failed(0.0)
    for item in range(5):
        assert lane.offer("k", item, 1, from_hold=False, now=1)
    assert take(lane, 1) == [0]
    assert take(lane, 1) == []
    lane.settled("k", 1, 1)
    lane.answered()
    assert take(lane, 1) == [1, 2, 3, 4]


def test_back_off_grows_and_a_full_answer_ends_it() -> None:
    """The path stays shut for 0.2 s, 0.4 s and so on up to 5 s, until the cell answers again."""
    lane = lane_of(0)
    pauses = []
    for number in range(7):
        now = 100.0 * number
        lane.failed(now)
        lane.failed(now + 0.1)  # another batch of the same failure
        pauses.append(next(t / 10 for t in range(1000) if lane.passable(now + t / 10)))
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    lane.answered()
    lane.failed(900.0)
    assert lane.passable(900.21)


def test_several_batches_that_fail_together_halve_the_window_once() -> None:
    """The death of an instance is one failure, however many batches were in flight."""
    lane = lane_of(0, concurrency=40)
    for _ in range(4):
        lane.failed(0.0)
    lane.answered()
    assert lane.window == 20


def test_suspects_go_one_by_one_and_hold_up_nobody() -> None:
    """While one suspect is in flight the other suspects wait, and all other events go on."""
    lane = lane_of(3)
    for item in (90, 91):
        assert lane.offer("s", item, 1, from_hold=True, now=0, suspect=True)
    assert take(lane) == [90]
    assert take(lane) == [0, 1, 2]
    assert take(lane) == []
    lane.settled("s", 1, 1, suspect=True)
    assert take(lane) == [91]


def test_a_flood_of_suspects_gives_way_to_other_cells() -> None:
    """Suspects leave one at a time, so those beyond half a share go to the hold queue, before any other event."""
    lane = lane_of(10)
    for item in range(1000, 2000):
        lane.offer("s", item, 1, from_hold=False, now=0, suspect=True)
    shed = [*lane.shed(10), *lane.shed(1000)]
    assert lane.room() == 1
    assert shed == list(range(1999, 1999 - len(shed), -1))
    assert take(lane) == [1000]


@pytest.mark.parametrize("size", [1, 10_000])
def test_new_events_leave_room_for_what_comes_from_the_hold_queue(size: int) -> None:
    """The hold queue has half a share of its own, however many new events wait, up to two shares of bytes."""
    lane: Lane[int] = Lane(LaneLimits(share_events=20, share_bytes=100_000))
    lane.retarget(target())
    for item in range(30):
        lane.offer("k", item, size, from_hold=False, now=0)
    taken = 0
    while lane.room_for_held():
        lane.offer("k", 1000, size, from_hold=True, now=0)
        taken += 1
    assert taken == (10 if size == 1 else 0)


@pytest.mark.parametrize("cushioned", [True, False])
def test_a_lane_on_trial_sends_an_eighth_of_its_places_at_once(*, cushioned: bool) -> None:
    """Its instance is measured with little to do; afterwards the window is as it was."""
    lane = lane_of(40, concurrency=16)
    lane.had(9.0)
    lane.cushion(cushioned=cushioned, tried=True)
    assert take(lane) == [0, 1]
    lane.cushion(cushioned=False, tried=False)
    assert len(take(lane)) == 14


def test_a_lane_rests_where_less_than_a_place_of_an_instance_on_trial_is_its_own() -> None:
    """Of 16 places two are used, by 12 routers: a sixth each. Another instance, or the trial's end, ends the rest."""
    lane = lane_of(40, concurrency=16)
    lane.cushion(cushioned=False, tried=True, routers=12)
    assert take(lane, now=10) == [0]
    lane.rest(2.0, 7, now=10, jitter=0.5)  # of an instance that was before
    assert lane.rests_s(10) == 0
    lane.rest(2.0, 1, now=10, jitter=0.5)
    lane.settled("k", 1, 1)
    assert lane.rests_s(10) == pytest.approx(10)
    assert take(lane, now=19.9) == []
    assert take(lane, now=20.1) == [1]
    lane.rest(2.0, 1, now=21, jitter=0.0)
    lane.cushion(cushioned=False, tried=False, routers=12)
    assert len(take(lane, now=21)) == 15


def test_a_lane_that_has_just_begun_is_not_cushioned() -> None:
    """It does not know yet what is usual."""
    lane = lane_of(40, concurrency=16)
    for _ in range(MIN_INTERVALS - 1):
        lane.had(0.0)
    lane.cushion(cushioned=True, tried=False)
    assert len(take(lane)) == 16


@pytest.mark.parametrize(
    ("usual", "routers", "window"),
    [(0.0, 1, 2), (0.5, 1, 2), (4.0, 1, 6), (9.0, 1, 12), (16.0, 1, 16), (0.5, 12, 1), (2.0, 3, 3), (16.0, 12, 16)],
)
def test_a_cushioned_lane_sends_what_its_instance_needs_if_it_is_well(usual: float, routers: int, window: int) -> None:
    """The mean number in flight and its part of the root, its part of an eighth, and no more than is declared."""
    lane = lane_of(40, concurrency=16)
    for _ in range(100):
        lane.had(usual)
    lane.cushion(cushioned=True, tried=False, routers=routers)
    for _ in range(100):
        lane.had(100.0)  # what a slow instance has in flight is not usual
    assert len(take(lane)) == window
    lane.cushion(cushioned=False, tried=False)
    assert len(take(lane)) == 16 - window
