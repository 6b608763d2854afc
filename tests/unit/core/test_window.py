"""The adaptive window: within its bounds always, narrow while the cell queues, wide again afterwards."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.core.window import Window


def answers(window: Window, latency_s: float, count: int) -> None:
    """So many answers while the window is full."""
    for _ in range(count):
        window.answered(latency_s, window.size)


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 2000)) | st.just(None), max_size=200),
)
def test_it_stays_between_one_and_the_ceiling(ceiling: int, events: list[tuple[float, int] | None]) -> None:
    """Whatever the latencies, the load and the failures."""
    window = Window(ceiling)
    for event in events:
        if event is None:
            window.failed()
        else:
            for _ in range(10):
                window.answered(*event)
        assert 1 <= window.size <= ceiling


def test_a_steady_latency_keeps_it_open() -> None:
    """Whatever it is."""
    for latency_s in (0.0, 0.001, 30.0):
        window = Window(64)
        answers(window, latency_s, 1000)
        assert window.size == 64


def test_it_narrows_when_latency_grows_and_opens_when_it_is_back() -> None:
    """Ten times the latency: half of it or less within 100 answers."""
    window = Window(64)
    answers(window, 0.01, 500)
    answers(window, 0.1, 100)
    assert window.size <= 32
    answers(window, 0.01, 500)
    assert window.size == 64


def test_a_cell_of_which_little_is_asked_says_nothing() -> None:
    """Its latency has other reasons than its queue."""
    window = Window(64)
    answers(window, 0.01, 500)
    for _ in range(500):
        window.answered(1.0, 3)
    assert window.size == 64


def test_a_failure_halves_it() -> None:
    """Down to one."""
    window = Window(64)
    sizes = []
    for _ in range(8):
        window.failed()
        sizes.append(window.size)
    assert sizes == [32, 16, 8, 4, 2, 1, 1, 1]


def test_routers_that_share_a_cell_give_way_alike() -> None:
    """Four that have each known the cell alone give way when it queues, all alike; none is squeezed out."""
    capacity, base_s = 16, 0.05
    windows = [Window(capacity) for _ in range(4)]
    for window in windows:
        answers(window, base_s, 500)
    totals = []
    for _ in range(30):
        totals.append(sum(window.size for window in windows))
        latency_s = base_s * max(1.0, totals[-1] / capacity)
        for window in windows:
            answers(window, latency_s, 10)
    assert totals[0] == 4 * capacity
    assert min(totals) <= 0.9 * totals[0]
    assert max(window.size for window in windows) - min(window.size for window in windows) <= 1
