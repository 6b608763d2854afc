"""What one vantage point alone finds is a path; what the canaries deny is not the instance; and what is usual lasts."""

from __future__ import annotations

from math import exp, log

import pytest

from router.core.detection.assessment import SICK, Verdict
from router.core.detection.canaries import LEADER
from router.core.detection.detector import Detector
from router.core.detection.samples import CanarySample, CellSample, RouterSample
from router.core.detection.thresholds import CONFIRM_S, WINDOW_S
from tests.support.sampled_cells import CANARY_S, VICTIM, Fleet

IDLE = CellSample(1)


@pytest.mark.parametrize("vantage", [LEADER, "router-1"])
@pytest.mark.parametrize("routers", [1, 2, 3])
def test_one_slow_path_is_named_and_costs_no_cell_its_instance(vantage: str, routers: int) -> None:
    """Not the leader's, nor a router's, with traffic and without."""
    fleet = Fleet(routers=routers + (vantage != LEADER))
    fleet.seconds(90)
    fleet.path_s[vantage, VICTIM] = 0.1
    for special in ({}, {"cell_0": IDLE}):
        for _ in range(40):
            assert fleet.seconds(1, **special).verdict is Verdict.HEALTHY
        assert fleet.found[VICTIM].slow_paths == (f"{vantage} → cell-0: 130 ms, others 30 ms: a path, not the cell",)
        assert not any(fleet.found[name].slow_paths for name in ("cell-1", "cell-2"))


@pytest.mark.parametrize("routers", [1, 2, 3])
def test_a_cell_that_most_vantage_points_find_slow_is_slow(routers: int) -> None:
    """One path that is even slower, or that is fast for whatever reason, changes nothing."""
    fleet = Fleet(routers=routers + 1)
    fleet.seconds(90)
    fleet.canary_s[VICTIM] = 3 * CANARY_S
    fleet.path_s["router-0", VICTIM] = -2 * CANARY_S if routers > 1 else 1.0
    found = fleet.seconds(20)
    assert found.verdict is Verdict.SLOW
    assert not found.slow_paths
    assert found.canary_ratio == pytest.approx(3)


@pytest.mark.parametrize("factor", [3, 10])
@pytest.mark.parametrize("lasts_s", [4, 7, 8, 10, 20])
def test_a_cell_that_gets_slow_and_recovers_is_no_slow_path_meanwhile(factor: float, lasts_s: int) -> None:
    """Vantage points find it one after the other: the routers one, two and three seconds after the leader."""
    fleet = Fleet(routers=3)
    fleet.seconds(90)
    for second in range(lasts_s + 30):
        fleet.canary_s[VICTIM] = takes_s = factor * CANARY_S if second < lasts_s else CANARY_S
        for late in (1, 2, 3):
            finds_s = factor * CANARY_S if late <= second < lasts_s + late else CANARY_S
            fleet.path_s[f"router-{late - 1}", VICTIM] = finds_s - takes_s
        assert fleet.seconds(1).slow_paths == (), second


def test_a_path_without_answers_is_named_too() -> None:
    """Most vantage points have theirs."""
    fleet = Fleet(routers=3)
    fleet.seconds(30)
    for second in range(1, 12):
        waiting = {VICTIM: (CanarySample(1, None, float(second)),)}
        fleet.detector.sampled("cut off", RouterSample(second, 0, {}, waiting), fleet.now + 1)
        failed = {VICTIM: (CanarySample(1),)}
        fleet.detector.sampled("refused", RouterSample(second, 0, {}, failed), fleet.now + 1)
        assert fleet.seconds(1, cell_0=IDLE).verdict is Verdict.HEALTHY
    assert fleet.found[VICTIM].slow_paths == (
        "cut off → cell-0: no answer for 11 s, others have theirs: a path, not the cell",
        "refused → cell-0: 11 canaries in a row have failed, others' have not: a path, not the cell",
    )


@pytest.mark.parametrize(("routers", "factor"), [(2, 8), (3, 30)])
def test_tenants_that_are_slow_through_one_router_alone_convict_no_cell(routers: int, factor: float) -> None:
    """The other routers' tenants of this cell are as ever; through all of them, they would convict it."""
    fleet = Fleet(routers=routers)
    fleet.seconds(90)
    fleet.path_log["router-1", VICTIM] = log(factor)
    for _ in range(40):
        assert fleet.seconds(1).verdict is Verdict.HEALTHY
    if routers == 2:
        assert fleet.found[VICTIM].slow_paths == (
            "router-1 → cell-0: its tenants take 8.0 times as long as usual, by others 1.0 times: a path, not the cell",
        )
    fleet.path_log = {(f"router-{number}", VICTIM): log(factor) for number in range(routers)}
    assert fleet.seconds(25).verdict is Verdict.SLOW


def test_one_vantage_point_alone_convicts_nobody() -> None:
    """Whether it is the path or the cell can't be told then."""
    fleet = Fleet(routers=0)
    fleet.seconds(90)
    fleet.canary_s[VICTIM] = 1.0
    assert fleet.seconds(40).verdict is Verdict.WATCHED


def test_long_jobs_are_workload_while_canaries_are_answered_well() -> None:
    """Five tenants' jobs of 30 s fill all places. Once canaries hang too, the instance is hung within ten seconds."""
    fleet = Fleet(routers=2)
    fleet.seconds(60)
    seen = set()
    for second in range(1, 30):
        jobs = CellSample(1, oldest_s=second, silent_s=second, slowest_s=1.0, waiting_tenants=5)
        seen.add(fleet.seconds(1, cell_0=jobs).verdict)
    assert seen == {Verdict.HEALTHY, Verdict.WORKLOAD}
    assert "while its canaries are answered well" in (fleet.found[VICTIM].rule or "")
    fleet.canary_s[VICTIM] = None
    assert Verdict.HUNG in [fleet.seconds(1, cell_0=jobs).verdict for _ in range(10)]


def test_failing_tenants_are_workload_while_canaries_are_answered_well() -> None:
    """Eight tenants' events fail for a minute. Once canaries fail as well, the instance is failing at once."""
    fleet = Fleet(routers=2)
    fleet.seconds(60)
    failing = CellSample(1, events=8, failures=50, failing_tenants=8, failing_s=60)
    for _ in range(60):
        assert fleet.seconds(1, cell_0=failing).verdict not in SICK
    assert fleet.found[VICTIM].verdict is Verdict.WORKLOAD
    fleet.canaries_fail.add(VICTIM)
    assert fleet.seconds(2, cell_0=failing).verdict is Verdict.FAILING


@pytest.mark.parametrize(("factor", "minutes"), [(5, 20), (10, 60)])
@pytest.mark.parametrize("cells", [2, 3, 5])
@pytest.mark.parametrize("known_s", [120, 1200])
def test_a_creep_is_found_before_two_and_a_half_times(factor: float, minutes: int, cells: int, known_s: int) -> None:
    """By canary alone: tenants' own baselines have forgotten by then, and there may be no tenants."""
    fleet = Fleet(cells)
    special = {name.replace("-", "_"): IDLE for name in fleet.generations}
    fleet.seconds(known_s, **special)
    for second in range(60 * minutes):
        grown = exp(log(factor) * second / (60 * minutes))
        fleet.canary_s[VICTIM] = grown * CANARY_S
        if fleet.seconds(1, **special).verdict is Verdict.SLOW:
            break
    assert fleet.found[VICTIM].verdict is Verdict.SLOW
    assert grown < 2.5


def test_a_new_leader_convicts_nobody_sooner_than_one_that_has_led_before() -> None:
    """Five seconds look like sickness easily: it takes half a window, and the time that a verdict must last."""
    fleet = Fleet(routers=2)
    fleet.seconds(90)
    fleet.log_factor[VICTIM], fleet.canary_s[VICTIM] = log(3), 3 * CANARY_S
    baselines = {cell_id: found.baseline for cell_id, found in fleet.found.items()}
    fleet.detector = Detector()
    fleet.detector.recall(baselines)
    fleet.detector.admitted(fleet.generations, fleet.cells)
    verdicts = [fleet.seconds(1).verdict for _ in range(20)]
    takes_s = int(WINDOW_S / 2 + CONFIRM_S)
    assert verdicts[: takes_s + 1] == [Verdict.WATCHED] * (takes_s + 1)
    assert verdicts[-1] is Verdict.SLOW


def test_a_cell_is_not_slow_while_its_peers_start_again() -> None:
    """One of three serves beside it, and the machine is busy with the third. What is still slow a minute later, is."""
    fleet = Fleet(routers=2)
    fleet.seconds(90)
    del fleet.generations["cell-2"]
    fleet.detector.admitted(fleet.generations, fleet.cells)
    fleet.log_factor[VICTIM], fleet.canary_s[VICTIM] = log(3), 3 * CANARY_S
    assert SICK.isdisjoint(fleet.seconds(1).verdict for _ in range(60))
    assert fleet.seconds(10).verdict is Verdict.SLOW


def test_noise_of_milliseconds_that_all_cells_share_lets_no_slow_cell_wait() -> None:
    """On a busy machine, canaries of 3 ms take 6 ms now and then; that is no dependency that recovers."""
    fleet = Fleet(cells=4, routers=2)
    names = sorted(fleet.generations)
    for second in range(120):
        fleet.canary_s = dict.fromkeys(names, 0.006 if second % 40 < 20 else 0.003)
        fleet.seconds(1)
    fleet.canary_s[VICTIM], fleet.log_factor[VICTIM] = 0.1, log(3)
    assert fleet.seconds(20).verdict is Verdict.SLOW


def test_peers_that_have_got_faster_make_no_cell_slow() -> None:
    """A cell is as fast as ever when a release has made all others twice as fast."""
    fleet = Fleet(cells=4, routers=2)
    fleet.seconds(600)
    for name in ("cell-1", "cell-2", "cell-3"):
        fleet.log_factor[name], fleet.canary_s[name] = -log(2.5), CANARY_S / 2.5
    fleet.canary_s[VICTIM] = CANARY_S
    for _ in range(200):
        assert fleet.seconds(1).verdict is Verdict.HEALTHY


def test_few_canaries_of_a_router_with_a_thousand_cells_count_for_longer() -> None:
    """It sends each cell one every 20 s, and sees the slow one all the same."""
    fleet = Fleet(routers=0)
    for second in range(400):
        fleet.canary_s[VICTIM] = CANARY_S if second < 300 else 3 * CANARY_S
        for router in range(3):
            if (second + router) % 20 == 0:
                canaries = {name: (CanarySample(1, fleet.canary_s.get(name, CANARY_S)),) for name in fleet.generations}
                fleet.detector.sampled(f"router-{router}", RouterSample(second, 0, {}, canaries), fleet.now + 1)
        fleet.seconds(1)
    assert fleet.found[VICTIM].canary_points == 4
    assert fleet.found[VICTIM].verdict is Verdict.SLOW
