"""The window: open while latency is what it was, narrower while a cell queues what it gets, and open again."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.lanes.concurrency import SAMPLES, ConcurrencyWindow

NORMAL_S = 0.05


def answer(window: ConcurrencyWindow, latency_s: float, count: int, *, in_flight: int | None = None) -> int:
    """Give the window so many answers of that latency, by default with the window full; return its size afterwards."""
    for _ in range(count):
        window.answered(latency_s, window.size if in_flight is None else in_flight)
    return window.size


def used_to(latency_s: float, ceiling: int) -> ConcurrencyWindow:
    """A window that has seen that latency for a long time."""
    window = ConcurrencyWindow(ceiling)
    answer(window, latency_s, 1000)
    return window


steps = st.tuples(st.floats(0, 1e6) | st.just(0.0), st.integers(0, 2000), st.booleans())


@given(st.integers(1, 1000), st.lists(steps, max_size=60), st.integers(1, SAMPLES))
def test_it_stays_between_one_and_the_ceiling(
    ceiling: int, history: list[tuple[float, int, bool]], repeat: int
) -> None:
    """The window stays in its bounds whatever latencies, loads and failures it is told of."""
    window = ConcurrencyWindow(ceiling)
    assert window.size == ceiling
    for latency_s, in_flight, failed in history:
        answer(window, latency_s, repeat, in_flight=in_flight)
        if failed:
            window.failed()
        assert 1 <= window.size <= ceiling


@given(st.integers(1, 1000), st.floats(1e-6, 1e3), st.floats(0.75, 1.5))
def test_a_latency_that_stays_what_it_is_keeps_it_open(ceiling: int, latency_s: float, factor: float) -> None:
    """A steady latency, however long, is not overload; nor is a small change of it."""
    window = ConcurrencyWindow(ceiling)
    for _ in range(10):
        assert answer(window, latency_s, 50) == ceiling
        assert answer(window, factor * latency_s, 50) == ceiling


@pytest.mark.parametrize("ceiling", [50, 100, 1000])
def test_latency_times_ten_halves_it_within_a_hundred_answers(ceiling: int) -> None:
    """A latency that grows means that the cell queues: what is sent beyond its capacity only waits there."""
    assert answer(used_to(NORMAL_S, ceiling), 10 * NORMAL_S, 100) <= ceiling // 2


@pytest.mark.parametrize("ceiling", [8, 16])
def test_a_small_window_narrows_more_slowly(ceiling: int) -> None:
    """A small window narrows at least to three quarters: a few events in flight are no flood."""
    assert answer(used_to(NORMAL_S, ceiling), 10 * NORMAL_S, 100) <= 0.75 * ceiling


@pytest.mark.parametrize("ceiling", [8, 16, 100, 1000])
@pytest.mark.parametrize("bad", [100, 400, 5000])
def test_it_opens_fully_again_when_latency_is_back(ceiling: int, bad: int) -> None:
    """This holds after a short bad time, and after one so long that it has become the long-run latency."""
    window = used_to(NORMAL_S, ceiling)
    answer(window, 10 * NORMAL_S, bad)
    assert answer(window, NORMAL_S, 5 * ceiling + 500) == ceiling


def test_a_cell_that_has_become_slower_for_good_gets_its_window_back() -> None:
    """A cell whose handlers now take longer for good is not overloaded: its long-run latency adapts."""
    assert answer(used_to(NORMAL_S, 100), 10 * NORMAL_S, 2000) == 100


def test_a_single_slow_event_changes_nothing() -> None:
    """One slow answer says nothing of the cell; it takes several in a row."""
    window = used_to(NORMAL_S, 100)
    for _ in range(20):
        window.answered(1.9 * SAMPLES * NORMAL_S, 100)
        assert answer(window, 0.01 * NORMAL_S, SAMPLES - 1) == 100


@given(st.floats(0, 1e3), st.integers(0, 49))
def test_while_little_is_asked_of_a_cell_its_latency_changes_nothing(latency_s: float, in_flight: int) -> None:
    """With little in flight the cell is slow for another reason, which a narrower window would not mend."""
    window = used_to(NORMAL_S, 100)
    assert answer(window, latency_s, 500, in_flight=in_flight) == 100
    window.failed()
    assert answer(window, latency_s, 500, in_flight=in_flight // 2) == 50


def test_each_failure_halves_it_down_to_one() -> None:
    """The answers after a failure open the window again, a little at a time."""
    window = used_to(NORMAL_S, 100)
    sizes = []
    for _ in range(9):
        window.failed()
        sizes.append(window.size)
    assert sizes == [50, 25, 12, 6, 3, 1, 1, 1, 1]
    assert answer(window, NORMAL_S, SAMPLES * 10) < 10
    assert answer(window, NORMAL_S, 1000) == 100


def shared(ceiling: int, capacity: int, answers: int) -> list[ConcurrencyWindow]:
    """Two routers' windows after so many answers from a cell that queues what it has no capacity for.

    Both know its latency from a quiet time, and suddenly have endless work for it.
    """
    windows = [used_to(NORMAL_S, ceiling), used_to(NORMAL_S, ceiling)]
    in_flight = [0, 0]
    ends: list[tuple[float, int, int, float]] = []
    now, sent = 0.0, 0
    for _ in range(answers):
        for router, window in enumerate(windows):
            while in_flight[router] < window.size:
                in_flight[router] += 1
                sent += 1
                latency_s = NORMAL_S * max(1.0, sum(in_flight) / capacity)
                heapq.heappush(ends, (now + latency_s, sent, router, latency_s))
        now, _, router, latency_s = heapq.heappop(ends)
        windows[router].answered(latency_s, in_flight[router])
        in_flight[router] -= 1
    return windows


@pytest.mark.parametrize(("ceiling", "capacity", "answers"), [(100, 40, 400), (200, 40, 600), (100, 20, 400)])
def test_two_routers_that_flood_a_cell_both_give_way(ceiling: int, capacity: int, answers: int) -> None:
    """Two routers that know nothing of each other settle at similar windows, far below what both are allowed."""
    first, second = (window.size for window in shared(ceiling, capacity, answers))
    assert 2 / 3 <= first / second <= 3 / 2
    assert capacity <= first + second <= 0.6 * 2 * ceiling


def test_a_slow_start_doubles_until_it_is_open() -> None:
    """The window begins at an eighth and doubles with each step, also while little is in flight."""
    window = ConcurrencyWindow(64, slow_start=True)
    sizes = [window.size] + [answer(window, NORMAL_S, SAMPLES, in_flight=1) for _ in range(4)]
    assert sizes == [8, 16, 32, 64, 64]


def test_a_slow_start_ends_where_latency_grows_or_a_batch_fails() -> None:
    """After the slow start has ended, the window grows no faster than usual."""
    late = ConcurrencyWindow(640, slow_start=True)
    answer(late, NORMAL_S, SAMPLES)
    assert answer(late, 100 * NORMAL_S, SAMPLES) <= 160
    assert answer(late, NORMAL_S, SAMPLES) < 200
    failed = ConcurrencyWindow(640, slow_start=True)
    answer(failed, NORMAL_S, 2 * SAMPLES)
    failed.failed()
    assert failed.size == 160
    assert answer(failed, NORMAL_S, SAMPLES) < 200
