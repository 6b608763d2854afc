"""The detector finds sick cells by their tenants, canaries, silence and failures, and convicts no healthy one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.detection.assessment import SICK, Verdict
from router.core.detection.detector import Detector
from router.core.detection.samples import CellSample, RouterSample, TenantSample
from router.core.detection.thresholds import CONFIRM_S, WINDOW_S
from tests.support.sampled_cells import CANARY_S, LATENCY_S, VICTIM, Fleet


def idle(failing: int = 0, tenants: int = 0) -> CellSample:
    """Return the sample of a cell that has answered nothing well."""
    return CellSample(1, failures=failing, failing_tenants=tenants)


def test_a_cell_that_gets_three_times_as_slow_is_found_within_20_seconds() -> None:
    """It is watched first. The assessment has the evidence, and the other cells are healthy."""
    fleet = Fleet()
    assert fleet.seconds(60).verdict is Verdict.HEALTHY
    fleet.log_factor[VICTIM], fleet.canary_s[VICTIM] = log(3), 0.03
    verdicts = [fleet.seconds(1).verdict for _ in range(20)]
    assert verdicts == sorted(verdicts, key=[Verdict.HEALTHY, Verdict.WATCHED, Verdict.SLOW].index)
    assert verdicts.count(Verdict.WATCHED) == CONFIRM_S
    found = fleet.found[VICTIM]
    assert found.verdict is Verdict.SLOW
    assert found.shift == pytest.approx(log(3))
    assert "3.0 times the other cells'" in (found.rule or "")
    assert fleet.found["cell-1"].verdict is Verdict.HEALTHY


@pytest.mark.parametrize(("factor", "stall_s"), [(3, 10), (8, 6), (1000, 6)])
def test_a_stall_that_is_over_convicts_nobody(factor: float, stall_s: int) -> None:
    """The window still shows it, but what is over does not count; the next stall begins anew."""
    fleet = Fleet()
    fleet.seconds(60)
    seen = set()
    for _ in range(3):
        fleet.log_factor[VICTIM], fleet.canary_s[VICTIM] = log(factor), factor * CANARY_S
        seen |= {fleet.seconds(1).verdict for _ in range(stall_s)}
        fleet.log_factor[VICTIM], fleet.canary_s[VICTIM] = 0.0, CANARY_S
        seen |= {fleet.seconds(1).verdict for _ in range(20)}
    assert seen == {Verdict.HEALTHY, Verdict.WATCHED}


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 5), st.integers(3, 8))
def test_what_slows_all_cells_makes_none_slow(factor: float, cells: int) -> None:
    """Whatever the factor, no cell is slower than the others."""
    fleet = Fleet(cells)
    fleet.seconds(60)
    fleet.log_factor = dict.fromkeys(fleet.generations, factor)
    for _ in range(25):
        fleet.seconds(1)
        assert fleet.verdicts() == {Verdict.HEALTHY}


@settings(max_examples=30, deadline=None)
@given(st.floats(-10, 10), st.integers(1, 1000), st.integers(5, 40), st.floats(0, 1))
def test_one_tenant_convicts_no_cell(deviation: float, events: int, tenants: int, share: float) -> None:
    """Of five or more tenants, one may deviate as far and send as much as it likes."""
    fleet = Fleet(tenants=tenants)
    whale = TenantSample(events, events * LATENCY_S, share, deviation)
    fleet.own = lambda cell_id, tenant: whale if (cell_id, tenant) == (VICTIM, 0) else None
    for _ in range(30):
        assert fleet.seconds(1).verdict not in SICK


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=6, max_size=6), st.floats(-1.5, 1.5))
def test_two_routers_are_as_one_that_saw_all(events: list[tuple[int, int]], deviation: float) -> None:
    """The same events give the same evidence, reported by one router or by two."""

    def split(part: Callable[[tuple[int, int]], int]) -> CellSample:
        counts = [part(each) for each in events]
        tenants = {
            f"tenant-{rank}": TenantSample(count, count * 0.1, 0.2, deviation + rank / 10)
            for rank, count in enumerate(counts)
            if count
        }
        ok = sum(counts)
        return CellSample(1, ok, ok, ok * log(0.1), ok * 0.1, tenants=tenants)

    one, two = Detector(), Detector()
    for detector in (one, two):
        detector.admitted({VICTIM: 1})
    one.sampled("a", RouterSample(1, 0, {VICTIM: split(sum)}), 1)
    two.sampled("a", RouterSample(1, 0, {VICTIM: split(lambda each: each[0])}), 1)
    two.sampled("b", RouterSample(1, 0, {VICTIM: split(lambda each: each[1])}), 1)
    alone, merged = one.assess(2)[VICTIM], two.assess(2)[VICTIM]
    assert (merged.tenants, merged.verdict) == (alone.tenants, alone.verdict)
    assert merged.deviation == pytest.approx(alone.deviation)
    assert merged.standard_error == pytest.approx(alone.standard_error)
    assert merged.latency_s == pytest.approx(alone.latency_s)


def test_no_interval_counts_twice_and_no_other_generation_at_all() -> None:
    """The leader reads twice as often as routers write, and an old instance may still answer."""
    fleet = Fleet()
    sample = RouterSample(1, 0, {VICTIM: fleet.sample(VICTIM)})
    fleet.detector.sampled("a", sample, 1)
    once = fleet.detector.assess(1)[VICTIM]
    fleet.detector.sampled("a", sample, 1)
    fleet.generations[VICTIM] = 2
    fleet.detector.sampled("a", RouterSample(2, 0, {VICTIM: fleet.sample(VICTIM)}), 1)
    fleet.detector.canary_answered(VICTIM, 2, 9.0, 1)
    assert fleet.detector.assess(1)[VICTIM] == once
    assert once.tenants == 10


def test_another_instance_begins_with_nothing_against_it() -> None:
    """It inherits no samples, no canaries and no slow time. Only the cell's baseline stays."""
    fleet = Fleet()
    fleet.seconds(60)
    fleet.log_factor[VICTIM] = log(5)
    assert fleet.seconds(25).verdict is Verdict.SLOW
    fleet.log_factor[VICTIM], fleet.generations[VICTIM] = 0.0, 2
    fleet.detector.admitted({"cell-1": 1, "cell-2": 1})
    fleet.detector.admitted(fleet.generations)
    found = fleet.seconds(1)
    assert (found.verdict, found.lasted_s) == (Verdict.HEALTHY, 0)
    assert found.baseline.canary_s == pytest.approx(CANARY_S)


def test_milliseconds_are_not_worth_a_replacement() -> None:
    """A cell ten times as slow may still be fast."""
    fleet = Fleet()
    log_factor = log(10)
    for _ in range(60):
        tenants = {f"tenant-{tenant}": TenantSample(1, 0.01, 0.1, log_factor) for tenant in range(10)}
        fast = CellSample(1, 10, 10, 10 * log(0.01), tenants=tenants)
        assert fleet.seconds(1, cell_0=fast).verdict is Verdict.HEALTHY


def test_few_events_that_agree_by_chance_convict_nobody_unless_the_canary_says_the_same() -> None:
    """Five tenants with one event each are too few for so small a difference; a canary of 3 ms is a second witness."""
    fleet = Fleet(canary_s=dict.fromkeys(["cell-0", "cell-1", "cell-2"], 0.003))
    fleet.seconds(60)
    tenants = {f"tenant-{tenant}": TenantSample(1, 0.3, 0.1, log(3)) for tenant in range(5)}
    few = CellSample(1, 5, 5, 5 * log(0.3), tenants=tenants)
    fleet.seconds(WINDOW_S, cell_0=idle())
    fleet.seconds(1, cell_0=few)
    assert fleet.seconds(10, cell_0=idle()).verdict is Verdict.WATCHED
    fleet.canary_s[VICTIM] = 0.009
    fleet.seconds(3, cell_0=idle())
    fleet.seconds(1, cell_0=few)
    assert fleet.seconds(8, cell_0=idle()).verdict is Verdict.SLOW


def test_fewer_tenants_neither_convict_nor_acquit() -> None:
    """A cell that was over the limit stays watched while hardly anybody sends."""
    fleet = Fleet()
    fleet.seconds(60)
    fleet.log_factor[VICTIM] = log(4)
    assert fleet.seconds(10).verdict is Verdict.WATCHED
    two = {f"tenant-{tenant}": TenantSample(1, 0.4, 0.1, log(4)) for tenant in range(2)}
    assert fleet.seconds(20, cell_0=CellSample(1, 2, 2, 2 * log(0.4), tenants=two)).verdict is Verdict.WATCHED
    fleet = Fleet(tenants=4)
    fleet.log_factor[VICTIM] = log(4)
    assert fleet.seconds(60).verdict is Verdict.HEALTHY


def test_two_cells_are_compared_with_themselves_too() -> None:
    """One that gets slow is found; that the other got faster is nothing against it; two that do are slow together."""
    for factors, expected in [
        ((log(3), 0.0), Verdict.SLOW),
        ((0.0, -2.0), Verdict.HEALTHY),
        ((log(3), log(3)), Verdict.HEALTHY),
    ]:
        fleet = Fleet(cells=2)
        fleet.seconds(60)
        fleet.log_factor = dict(zip(fleet.generations, factors, strict=True))
        assert fleet.seconds(30).verdict is expected, factors


def test_nothing_known_of_the_others_convicts_nobody() -> None:
    """All cells may be slow."""
    fleet = Fleet(canary_s=dict.fromkeys(["cell-0", "cell-1", "cell-2"]))
    fleet.log_factor[VICTIM] = log(3)
    assert fleet.seconds(60, cell_1=idle(), cell_2=idle()).verdict is Verdict.HEALTHY


def test_a_canary_finds_a_slow_cell_that_has_no_traffic() -> None:
    """The canary must exceed its baseline and the others', by 25 ms at least."""
    fleet = Fleet(canary_s=dict.fromkeys(["cell-0", "cell-1", "cell-2"], 0.01))
    nothing = {"cell_0": idle(), "cell_1": idle(), "cell_2": idle()}
    fleet.seconds(600, **nothing)
    fleet.canary_s[VICTIM] = 0.034
    assert fleet.seconds(20, **nothing).verdict is Verdict.HEALTHY
    fleet.canary_s[VICTIM] = 0.04
    found = fleet.seconds(20, **nothing)
    assert (found.verdict, found.rule) == (
        Verdict.SLOW,
        "its canary takes 40 ms, 3.7 times the others' and its usual one",
    )


def test_a_cell_is_not_slow_while_the_only_other_one_starts_again_and_its_machine_starves() -> None:
    """What it shows is watched as long as nothing can be compared with it, and for CONFIRM_S after that."""
    fleet = Fleet(cells=2, canary_s=dict.fromkeys(["cell-0", "cell-1"], 0.022))
    fleet.seconds(600)
    del fleet.generations["cell-1"]
    fleet.detector.admitted(fleet.generations, 2)
    fleet.canary_s[VICTIM] = 0.057
    assert [fleet.seconds(1).verdict for _ in range(30)].count(Verdict.WATCHED) >= 20
    assert "its canary takes 57 ms, 2.6 times" in (fleet.found[VICTIM].rule or "")
    fleet.generations["cell-1"] = 2
    fleet.detector.admitted(fleet.generations, 2)
    fleet.canary_s[VICTIM] = 0.022
    assert {fleet.seconds(1).verdict for _ in range(30)} <= {Verdict.WATCHED, Verdict.HEALTHY}
    assert fleet.found[VICTIM].verdict is Verdict.HEALTHY
    fleet.canary_s[VICTIM] = 0.057
    assert fleet.seconds(20).verdict is Verdict.SLOW  # the other one is there, and is faster


def test_the_only_cell_of_all_is_slow_by_its_own_baseline() -> None:
    """Nobody replaces it for that, and people see it."""
    fleet = Fleet(cells=1)
    fleet.seconds(600)
    fleet.canary_s[VICTIM] = 0.2
    assert fleet.seconds(20).verdict is Verdict.SLOW


def test_a_cell_that_always_was_slower_than_the_others_is_not_slow() -> None:
    """Its canary convicts it only once its own baseline is known."""
    fleet = Fleet(canary_s={VICTIM: 0.2})
    for _ in range(90):
        assert fleet.seconds(1).verdict is Verdict.HEALTHY
    fleet.canary_s[VICTIM] = 0.6
    assert fleet.seconds(20).verdict is Verdict.SLOW


def test_what_a_slow_cell_shows_does_not_become_its_baseline() -> None:
    """An hour later half of it has: nothing counts against a cell for ever."""
    fleet = Fleet()
    fleet.seconds(60)
    fleet.canary_s[VICTIM] = 0.3
    found = fleet.seconds(600)
    assert found.verdict is Verdict.SLOW
    assert found.baseline.canary_s == pytest.approx(CANARY_S, rel=0.1)
    assert fleet.seconds(3000).verdict is Verdict.HEALTHY


def test_the_baseline_is_the_cells_whichever_instance_it_has() -> None:
    """A new instance is judged by what the cell used to get."""
    fleet = Fleet()
    fleet.seconds(90)
    fleet.generations[VICTIM] = 2
    fleet.detector.admitted(fleet.generations)
    assert fleet.seconds(WINDOW_S).rate_ratio == pytest.approx(1)


def test_a_cell_that_answers_nothing_is_hung() -> None:
    """Its canary has waited for 5 s, and no router has had a success since. Any success acquits the cell."""
    fleet = Fleet()
    fleet.seconds(30)
    fleet.canary_s[VICTIM] = None
    fleet.detector.canary_sent(VICTIM, 1, fleet.now)
    assert fleet.seconds(8).verdict is not Verdict.HUNG
    assert fleet.seconds(4, cell_0=idle()).verdict is not Verdict.HUNG
    found = fleet.seconds(1, cell_0=idle())
    assert found.verdict is Verdict.HUNG
    assert found.rule == "the canary has had no answer for 13 s, and no event either"
    fleet.detector.canary_lost(VICTIM, 1)
    assert fleet.seconds(1, cell_0=idle()).verdict is not Verdict.HUNG, "the measuring was at fault"


@pytest.mark.parametrize(
    ("silent_s", "slowest_s", "tenants", "hung"),
    [(9, 1, 3, True), (7, 1, 3, False), (20, 10, 3, False), (31, 10, 3, True), (60, 1, 2, False), (60, 0, 3, False)],
)
def test_a_cell_is_hung_when_no_event_in_flight_is_answered(
    silent_s: float, slowest_s: float, tenants: int, hung: bool
) -> None:
    """Longer than 8 s and than three times the longest latency of late, of three tenants at least."""
    fleet = Fleet()
    fleet.seconds(30)
    silent = CellSample(1, oldest_s=silent_s, silent_s=silent_s, slowest_s=slowest_s, waiting_tenants=tenants)
    assert (fleet.seconds(3, cell_0=silent).verdict is Verdict.HUNG) == hung


@pytest.mark.parametrize(
    ("failing", "tenants", "expected"),
    [(5, 3, Verdict.FAILING), (4, 3, Verdict.HEALTHY), (50, 2, Verdict.HEALTHY), (50, 1, Verdict.HEALTHY)],
)
def test_failures_in_a_row_fail_a_cell_unless_they_are_one_tenants(
    failing: int, tenants: int, expected: Verdict
) -> None:
    """One tenant's failures are for the quarantine. Any success of another router ends the row."""
    fleet = Fleet()
    fleet.seconds(30)
    fleet.seconds(1, cell_0=idle(failing - 1, tenants))
    found = fleet.seconds(1, cell_0=idle(failing, tenants))
    assert found.verdict is expected
    assert found.failures == failing
    fleet.detector.sampled("other", RouterSample(1, 0, {VICTIM: fleet.sample(VICTIM)}), fleet.now)
    assert fleet.detector.assess(fleet.now)[VICTIM].verdict is Verdict.HEALTHY


def test_canaries_that_fail_in_a_row_fail_a_cell_that_gets_nothing_done() -> None:
    """A cell whose events are answered well is not failing, whatever its canaries say."""
    fleet = Fleet()
    fleet.seconds(30)
    fleet.canary_s[VICTIM] = None
    verdicts = []
    for sample in [fleet.sample(VICTIM)] * 8 + [idle()] * 6:
        fleet.detector.canary_failed(VICTIM, 1)
        verdicts.append(fleet.seconds(1, cell_0=sample).verdict)
    assert verdicts[:12] == [Verdict.HEALTHY] * 12
    assert verdicts[-1] is Verdict.FAILING
    fleet.canary_s[VICTIM] = CANARY_S
    assert fleet.seconds(1, cell_0=idle()).verdict is Verdict.HEALTHY


def test_a_router_that_comes_again_counts_from_its_new_beginning() -> None:
    """Its old interval number is forgotten when it goes."""
    fleet = Fleet()
    cells: Mapping[str, CellSample] = {VICTIM: fleet.sample(VICTIM)}
    fleet.detector.sampled("a", RouterSample(1, 0, cells), 1)
    once = fleet.detector.assess(1)[VICTIM].standard_error
    fleet.detector.forget_routers(["b"])
    fleet.detector.sampled("a", RouterSample(1, 0, cells), 2)
    twice = fleet.detector.assess(2)[VICTIM].standard_error
    assert once is not None
    assert twice == pytest.approx(once / sqrt(2))
