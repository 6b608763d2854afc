"""What routers count of a stress run, how it is put together, and where the knee is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.load.findings import (
    Figures,
    PhaseFound,
    PhaseSent,
    RouterSaid,
    Totals,
    found,
    knee_of,
    limit_of,
)
from router.core.load.latencies import Latencies
from router.core.load.marks import MAX_PHASES, Mark, read_mark
from router.core.load.tallies import MAX_RUNS, MAX_TENANTS, REST, RunTallies
from router.core.models import Outcome
from router.core.telemetry import EventTimed

LOW = 10.0  # the p99 of the lowest load, in milliseconds


@given(st.text(max_size=40) | st.from_regex(r"[0-9a-z:]{1,40}"))
def test_any_text_is_a_mark_or_none(text: str) -> None:
    """Anybody may send one; what is read as a mark is written as the same."""
    mark = read_mark(text)
    assert mark is None or read_mark(mark.text) == mark
    assert read_mark(f"run:{MAX_PHASES}:1") is None
    assert read_mark("run:3:1700000000000") == Mark("run", 3, 1_700_000_000_000)


@given(st.lists(st.floats(1, 1e8), min_size=1, max_size=50), st.sampled_from((0.5, 0.9, 0.99)))
def test_a_quantile_is_right_within_a_bucket(times: list[float], q: float) -> None:
    """Whichever routers have counted the events."""
    counted, other = Latencies(), Latencies()
    for number, ms in enumerate(times):
        (counted if number % 2 else other).add(ms)
    counted.merge(Latencies(other.buckets.items()))
    assert counted.count == len(times)
    rank = next(n for n in range(1, len(times) + 1) if n >= q * len(times))
    assert counted.quantile(q) == pytest.approx(sorted(times)[rank - 1], rel=0.026)


def timed(phase: int, key: str, took_ms: int, *, run: str = "r", **more: object) -> EventTimed:
    """A marked event that its cell has answered."""
    event = EventTimed("cell-0001", key, Mark(run, phase, 1000).text, 1000 + took_ms, Outcome.OK, duplicate=False)
    return msgspec.structs.replace(event, **more)


def said(tallies: RunTallies, run: str = "r") -> RouterSaid:
    """What a router says of a run, through JSON as it is sent."""
    return msgspec.json.decode(msgspec.json.encode(tallies.view(run)), type=RouterSaid)


def test_what_two_routers_counted_is_one_report() -> None:
    """By phase, cell and tenant. What was done before, or failed, has no latency."""
    one, two = RunTallies(), RunTallies()
    for tallies, took_ms in ((one, 10), (two, 1000)):
        for _ in range(10):
            tallies.note(timed(0, "acme", took_ms))
    two.note(timed(0, "slow", 5000))
    two.note(timed(0, "acme", 9, duplicate=True))
    two.note(timed(0, "acme", 9, outcome=Outcome.FAILED))
    two.note(timed(0, "acme", 9, mark="no mark"))
    totals = Totals([said(one), said(two)])
    assert (totals.done, totals.again, totals.failures) == ({0: 21}, {0: 1}, {0: 1})
    (phase,) = found([PhaseSent("steady", 1, 1, 21, 0, 0, 0, 0)], totals, slowest=1)
    assert phase.took.count == phase.cells["cell-0001"].count == 21
    assert phase.took.p50 == pytest.approx(1000, rel=0.03)
    assert list(phase.slowest) == ["slow"]
    assert (phase.again, phase.failures) == (1, 1)


def test_what_a_router_remembers_is_bounded() -> None:
    """However many runs and tenants there are, since anybody may send marks."""
    tallies = RunTallies()
    for number in range(MAX_RUNS + 3):
        tallies.note(timed(0, "a", 1, run=f"r{number}"))
    assert [bool(said(tallies, f"r{number}").done) for number in range(MAX_RUNS + 3)] == [False] * 3 + [True] * MAX_RUNS
    for number in range(MAX_TENANTS + 100):
        tallies.note(timed(0, f"t{number}", 1))
    rows = {name: sum(count for _, count in buckets) for _, name, buckets in said(tallies).tenants}
    assert len(rows) == MAX_TENANTS + 1
    assert rows[REST] == 100


def phase(rate: float, p99: float, *, grown: int = 0, count: int = 1000, late: float = 0.0) -> PhaseFound:
    """A phase of a ramp."""
    sent = PhaseSent(f"{rate}", rate, 10, 1000, 0, late, 0, grown)
    return PhaseFound(sent, Figures(count, p99 / 2, p99, p99, p99), 0, 0, {}, {})


@pytest.mark.parametrize(
    ("third", "why"),
    [
        (phase(300, limit_of(LOW) + 1), "p99 was"),
        (phase(300, LOW, grown=100), "the backlog grew from 0 to 100 events"),
        (phase(300, LOW, count=0), "nothing was done"),
        (phase(300, limit_of(LOW) + 1, late=500), "the queue took events too late"),
    ],
)
def test_the_knee_is_the_highest_load_before_the_first_that_is_not_borne(third: PhaseFound, why: str) -> None:
    """A later phase that happens to be well again doesn't count."""
    knee = knee_of([phase(100, LOW), phase(200, limit_of(LOW)), third, phase(400, LOW)])
    assert knee.rate == 200
    assert "at 300 events a second" in knee.why
    assert why in knee.why


def test_a_run_that_bears_all_of_it_or_nothing_says_so() -> None:
    """The knee is then above the highest load, or below the lowest."""
    assert knee_of([phase(100, LOW), phase(200, LOW)]).rate == 200
    assert "or above" in knee_of([phase(100, LOW)]).why
    assert knee_of([phase(100, LOW, grown=500)]).rate == 0
