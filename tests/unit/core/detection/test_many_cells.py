"""A thousand cells: their reports, lost ones too, are put together and assessed a part at a time, as few cells are."""

from __future__ import annotations

from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.detection import detector
from router.core.detection.assessment import Verdict
from router.core.detection.detector import AT_ONCE
from router.core.detection.samples import CellSample, RouterSample
from router.core.detection.thresholds import WINDOW_S
from tests.support.sampled_cells import CANARY_S, VICTIM, Fleet


@settings(max_examples=20, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 1), st.integers(1, 30)), max_size=40), st.integers(0, 1))
def test_a_lost_report_loses_nothing_for_longer_than_the_window(lost: set[tuple[int, int]], idle_from: int) -> None:
    """Reports carry no changes that must be added up: fifteen seconds later the leader knows all that it would know."""
    whole, holey = Fleet(routers=2), Fleet(routers=2)
    for fleet in (whole, holey):
        fleet.log_factor[VICTIM] = log(3)
        for second in range(1, 31 + int(WINDOW_S)):
            fleet.now += 1
            quiet = {VICTIM} if idle_from and second > 30 else set()  # an idle cell is left out of the report
            cells = {each: fleet.sample(each) for each in fleet.generations if each not in quiet}
            for router in range(2):
                if fleet is whole or (router, second) not in lost:
                    fleet.detector.sampled(f"router-{router}", RouterSample(second, 0, cells), fleet.now)
            fleet.found = fleet.detector.assess(fleet.now)
    for cell_id, found in whole.found.items():
        other = holey.found[cell_id]
        assert (other.tenants, other.answered, other.failures) == (found.tenants, found.answered, found.failures)
        assert (other.oldest_s, other.silent_s, other.slowest_s) == (found.oldest_s, found.silent_s, found.slowest_s)
        assert other.shift == pytest.approx(found.shift)
        assert other.latency_s == pytest.approx(found.latency_s)


def test_cells_are_assessed_a_part_at_a_time() -> None:
    """With the same result as all at once: a thousand cells must not hold the leader's event loop."""
    many = Fleet(cells=AT_ONCE + 1)
    many.log_factor[VICTIM] = log(3)
    many.seconds(2)
    parts = list(many.detector.assessing(many.now))
    assert max(len(part) for part in parts) == AT_ONCE
    assert {cell_id: found for part in parts for cell_id, found in part.items()} == many.detector.assess(many.now)


def test_of_very_many_cells_the_healthy_ones_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is assessed every third second, and each second once something speaks against it. Sick ones are found."""
    monkeypatch.setattr(detector, "EACH_TIME", 3)
    fleet, few = Fleet(cells=9), Fleet()
    for each in (fleet, few):
        each.seconds(600)
    assert fleet.found[VICTIM].baseline.rate == pytest.approx(few.found[VICTIM].baseline.rate, rel=0.01)
    assert fleet.found[VICTIM].baseline.canary_s == pytest.approx(CANARY_S)
    seen = [fleet.found[cell_id] for cell_id in fleet.generations]
    fleet.seconds(1)
    assert sum(one is not fleet.found[cell_id] for one, cell_id in zip(seen, fleet.generations, strict=True)) == 3
    for _ in range(3):  # whose turn it is changes
        fleet.canaries_fail.add(VICTIM)
        assert fleet.seconds(2, cell_0=CellSample(1, failures=9, failing_tenants=3)).verdict is Verdict.FAILING
        fleet.canaries_fail.clear()
        assert fleet.seconds(2, cell_0=fleet.sample(VICTIM)).verdict is Verdict.HEALTHY
    fleet.log_factor[VICTIM] = log(3)
    verdicts = [fleet.seconds(1).verdict for _ in range(20)]
    assert Verdict.SLOW in verdicts
    assert verdicts[-5:] == [Verdict.SLOW] * 5
    fleet.log_factor[VICTIM], fleet.canary_s[VICTIM] = 0.0, None
    fleet.detector.canary_sent(VICTIM, 1, fleet.now)
    assert fleet.seconds(8, cell_0=CellSample(1)).verdict is Verdict.HUNG
