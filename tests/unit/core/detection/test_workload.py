"""A cell that is slow because of what it has to do is not sick, for as long as that lasts."""

from __future__ import annotations

from math import log, sqrt

import pytest

from router.core.detection.assessment import Verdict
from router.core.detection.samples import CellSample, TenantSample
from router.core.detection.thresholds import WORK_SIGMA, WORK_VARIATION
from tests.support.sampled_cells import LATENCY_S, VICTIM, Fleet


@pytest.mark.parametrize(
    ("share", "baseline_share", "verdict"),
    [
        (0.95, 0.1, Verdict.WORKLOAD),
        (0.95, 0.8, Verdict.WORKLOAD),
        (0.95, 0.95, Verdict.SLOW),
        (0.3, 0.1, Verdict.SLOW),
    ],
)
def test_a_tenant_that_takes_what_the_others_had_is_workload(
    share: float, baseline_share: float, verdict: Verdict
) -> None:
    """It makes all tenants slow, in another instance too. A tenant that always took as much is no reason."""
    fleet, slowness = Fleet(), 1.0

    def own(cell_id: str, tenant: int) -> TenantSample | None:
        rest = TenantSample(1, slowness * (1 - share) / 9, (1 - baseline_share) / 9, log(slowness))
        whale = TenantSample(9, slowness * share, baseline_share, log(slowness))
        return None if cell_id != VICTIM else rest if tenant else whale

    fleet.own = own
    fleet.seconds(90)
    fleet.log_factor[VICTIM], slowness = log(3), 3.0
    found = fleet.seconds(25)
    assert found.verdict is verdict
    if verdict is Verdict.WORKLOAD:
        assert found.load.share == pytest.approx(share)
        assert "tenant 'tenant-0' takes 95% of the cell's time" in (found.rule or "")


def test_a_heavy_tenant_is_workload_for_as_long_as_it_is_heavy() -> None:
    """Routers learn what it takes now; the leader keeps what it took before the cell was unwell."""
    fleet, slowness, baseline_share = Fleet(), 1.0, 0.1

    def own(cell_id: str, tenant: int) -> TenantSample | None:
        rest = TenantSample(1, slowness * 0.8 / 9, (1 - baseline_share) / 9, log(slowness))
        whale = TenantSample(9, slowness * 1.2, baseline_share, log(slowness))
        return None if cell_id != VICTIM else rest if tenant else whale

    fleet.own = own
    fleet.seconds(90)
    fleet.log_factor[VICTIM], slowness = log(3), 3.0
    for second in range(300):
        baseline_share = min(0.6, 0.1 + second / 200)
        assert fleet.seconds(1).verdict is not Verdict.SLOW, second
    fleet.log_factor[VICTIM], slowness = 0.0, 1.0
    assert fleet.seconds(20).verdict is Verdict.HEALTHY
    fleet.log_factor[VICTIM], slowness = log(3), 3.0
    assert fleet.seconds(60).verdict is Verdict.WORKLOAD, "it was well for a moment only"
    fleet.log_factor[VICTIM], slowness = 0.0, 1.0
    assert fleet.seconds(90).verdict is Verdict.HEALTHY
    fleet.log_factor[VICTIM], slowness = log(3), 3.0
    assert fleet.seconds(25).verdict is Verdict.SLOW, "it takes what it used to take"


def test_new_tenants_that_fill_the_cell_together_are_workload() -> None:
    """None of them is heavy by itself."""
    fleet = Fleet(tenants=30)
    fleet.seconds(90)
    fleet.log_factor[VICTIM] = log(3)
    new, old = TenantSample(1, 0.3, 0.0), TenantSample(1, 0.3, 0.1, log(3))
    fleet.own = lambda cell_id, tenant: None if cell_id != VICTIM else new if tenant < 10 else old
    found = fleet.seconds(25)
    assert found.verdict is Verdict.WORKLOAD
    assert found.load.new_share == pytest.approx(1 / 3)


def test_twice_the_baseline_event_rate_is_workload() -> None:
    """Emptying a hold queue makes a cell slow, and nothing is wrong with the cell."""
    fleet = Fleet()
    fleet.seconds(90)
    fleet.log_factor[VICTIM] = log(3)
    found = fleet.seconds(25, cell_0=fleet.sample(VICTIM, events=3))
    assert found.verdict is Verdict.WORKLOAD
    assert found.rate_ratio == pytest.approx(3, rel=0.2)


def test_work_that_has_grown_is_workload_for_as_long_as_it_lasts() -> None:
    """A full cell is slow. What it gets meanwhile does not become its baseline, and so does not convict it later."""
    fleet = Fleet()
    fleet.seconds(90)
    fleet.log_factor[VICTIM] = log(2.5)
    more = {f"tenant-{tenant}": TenantSample(2, 2 * 2.5 * LATENCY_S, 0.1, log(2.5)) for tenant in range(8)}
    full = CellSample(1, 16, 16, 16 * log(2.5 * LATENCY_S), 16 * LATENCY_S, tenants=more)
    for second in range(600):
        found = fleet.seconds(1, cell_0=full)
        assert found.verdict is not Verdict.SLOW, second
    assert found.verdict is Verdict.WORKLOAD
    assert found.rate_ratio == pytest.approx(1.6, rel=0.05)
    assert found.work_ratio == pytest.approx(1.6 * (1 - WORK_SIGMA * WORK_VARIATION / sqrt(15 * 16)), rel=0.05)
    as_ever = fleet.sample(VICTIM)
    assert fleet.seconds(25, cell_0=as_ever).verdict is Verdict.SLOW, "and nothing has grown"


def test_slowness_that_all_cells_shared_does_not_count_as_more_work_of_one() -> None:
    """All were slow for so long that it became their baseline. One that is slow later on has no more to do for that."""
    fleet = Fleet()
    fleet.seconds(90)
    slowed = {f"tenant-{tenant}": TenantSample(1, LATENCY_S, 0.1, -log(2)) for tenant in range(10)}
    faster = CellSample(1, 10, 10, 10 * log(LATENCY_S), work_s=10 * 2 * LATENCY_S, tenants=slowed)
    fleet.seconds(90, cell_0=faster, cell_1=faster, cell_2=faster)
    slow = {f"tenant-{tenant}": TenantSample(1, 3 * LATENCY_S, 0.1, log(1.5)) for tenant in range(10)}
    sick = CellSample(1, 10, 10, 10 * log(3 * LATENCY_S), work_s=10 * 2 * LATENCY_S, tenants=slow)
    found = fleet.seconds(20, cell_0=sick, cell_1=faster, cell_2=faster)
    assert (found.verdict, found.work_ratio < 1) == (Verdict.SLOW, True)


@pytest.mark.parametrize("told", [100, 10])
def test_tenants_of_whom_routers_do_not_tell_have_their_share_of_the_time(told: int) -> None:
    """A report has room for some of a cell's tenants. Those are not new, nor heavy, because the others are left out."""
    fleet = Fleet()
    tenants = {f"tenant-{tenant}": TenantSample(1, 3 * LATENCY_S, 0.01, log(3)) for tenant in range(told)}
    slow = CellSample(1, 100, 100, 100 * log(3 * LATENCY_S), 10 * LATENCY_S, busy_s=300 * LATENCY_S, tenants=tenants)
    usual = {f"tenant-{tenant}": TenantSample(1, LATENCY_S, 0.01, 0.0) for tenant in range(told)}
    well = CellSample(1, 100, 100, 100 * log(LATENCY_S), 10 * LATENCY_S, busy_s=100 * LATENCY_S, tenants=usual)
    fleet.seconds(120, cell_0=well)
    found = fleet.seconds(25, cell_0=slow)
    assert (found.verdict, found.load.new_share) == (Verdict.SLOW, 0.0)
