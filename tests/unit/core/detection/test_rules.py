"""The rules need nothing but the evidence: whoever reads an assessment from the registry can check its verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log

import msgspec
import pytest

from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.rules import confirmed, has_recovered, judge
from router.core.detection.samples import CellSample, TenantSample
from router.core.detection.thresholds import CONFIRM_S, MAX_RATIO, RECOVERED_SIGMA
from tests.support.sampled_cells import VICTIM, Fleet

SILENT = CellSample(1, oldest_s=60.0, silent_s=60.0, slowest_s=1.0, waiting_tenants=3)


def slow(fleet: Fleet) -> Assessment:
    """Make the victim three times as slow, for 25 s."""
    fleet.log_factor[VICTIM] = log(3)
    return fleet.seconds(25)


def slow_canary(fleet: Fleet) -> Assessment:
    """Make the victim's canary ten times as slow, for 25 s."""
    fleet.canary_s[VICTIM] = 0.3
    return fleet.seconds(25)


def watched(fleet: Fleet) -> Assessment:
    """Make the victim three times as slow, for too short a time."""
    fleet.log_factor[VICTIM] = log(3)
    return fleet.seconds(10)


def workload(fleet: Fleet) -> Assessment:
    """Give the victim three times as many events, which makes it slow."""
    fleet.log_factor[VICTIM] = log(3)
    return fleet.seconds(25, cell_0=fleet.sample(VICTIM, events=3))


def failing(fleet: Fleet) -> Assessment:
    """Let the canaries and the events of three tenants fail in a row."""
    fleet.canaries_fail.add(VICTIM)
    return fleet.seconds(3, cell_0=CellSample(1, failures=9, failing_tenants=3))


def hung(fleet: Fleet) -> Assessment:
    """Answer nothing."""
    fleet.canary_s[VICTIM] = None
    return fleet.seconds(6, cell_0=SILENT)


def busy(fleet: Fleet) -> Assessment:
    """Answer nothing but canaries."""
    return fleet.seconds(6, cell_0=SILENT)


@pytest.mark.parametrize(
    ("trouble", "verdict"),
    [
        (slow, Verdict.SLOW),
        (slow_canary, Verdict.SLOW),
        (watched, Verdict.WATCHED),
        (workload, Verdict.WORKLOAD),
        (failing, Verdict.FAILING),
        (hung, Verdict.HUNG),
        (busy, Verdict.WORKLOAD),
    ],
)
def test_a_verdict_follows_from_the_evidence_as_the_registry_keeps_it(
    trouble: Callable[[Fleet], Assessment], verdict: Verdict
) -> None:
    """Written as JSON and read back, every cell's evidence gives the same verdict for the same reason."""
    fleet = Fleet()
    fleet.seconds(90)
    assert trouble(fleet).verdict is verdict
    for found in fleet.found.values():
        evidence = msgspec.json.decode(msgspec.json.encode(found), type=Assessment)
        assert evidence == found
        again, rule = judge(evidence)
        assert (confirmed(again, found.lasted_s), rule) == (found.verdict, found.rule)


def test_slowness_must_last_and_failures_need_not() -> None:
    """A cell that is slow for less than CONFIRM_S is watched; one that fails or hangs is sick at once."""
    assert confirmed(Verdict.SLOW, CONFIRM_S - 0.1) is Verdict.WATCHED
    assert confirmed(Verdict.SLOW, CONFIRM_S) is Verdict.SLOW
    assert confirmed(Verdict.FAILING, 0.0) is Verdict.FAILING
    assert confirmed(Verdict.HUNG, 0.0) is Verdict.HUNG


def test_a_cell_has_recovered_when_its_last_seconds_are_surely_below_the_limit() -> None:
    """Two standard errors below it are sure enough. Where the last seconds or the peers are unknown, it has not."""
    limit = log(MAX_RATIO)
    recent = Assessment("cell", peers_deviation=0.0, recent_deviation=limit - 0.21, recent_standard_error=0.1)
    assert has_recovered(recent)
    assert not has_recovered(replace(recent, recent_deviation=limit - 0.1 * RECOVERED_SIGMA + 0.01))
    assert not has_recovered(replace(recent, recent_deviation=None))
    assert not has_recovered(replace(recent, peers_deviation=None))


@pytest.mark.parametrize("rehearses", [True, False], ids=["rehearsed", "not rehearsed"])
def test_a_part_that_is_slow_is_named_only_where_a_trial_can_tell(rehearses: bool) -> None:
    """Every tenant at 1.8 times its latency and quick canaries: a part of its events, if it is the instance at all."""
    fleet = Fleet(tenants=60, rehearses=rehearses)
    fleet.seconds(90)
    fleet.log_factor[VICTIM] = log(1.8)
    found = fleet.seconds(25)
    assert found.verdict is (Verdict.SLOW if rehearses else Verdict.HEALTHY)
    assert found.rule is None or found.rule.startswith(
        "its tenants' latencies are 1.8 times the other cells', its canaries' are not: slow for part of every tenant's"
    )


def test_some_tenants_that_are_slow_are_counted() -> None:
    """Two in five use the component that is slow."""
    fleet = Fleet(tenants=60, rehearses=True)
    fleet.seconds(90)
    slower, usual = (TenantSample(1, 0.1 * factor, 1 / 60, log(factor)) for factor in (10, 1))
    fleet.own = lambda cell_id, tenant: slower if cell_id == VICTIM and tenant < 24 else usual
    found = fleet.seconds(25)
    assert (found.verdict, found.slower_tenants) == (Verdict.SLOW, 24)
    assert "slow for 24 of 60 tenants (3 times or more)" in str(found.rule)


def test_a_part_is_no_excuse_for_what_is_asked_of_the_cell() -> None:
    """Three times as many events make it a little slow, and a trial would only take places from them."""
    fleet = Fleet(tenants=60, rehearses=True)
    fleet.seconds(90)
    fleet.log_factor[VICTIM] = log(1.8)
    found = fleet.seconds(25, cell_0=fleet.sample(VICTIM, events=3))
    assert found.verdict is Verdict.HEALTHY
