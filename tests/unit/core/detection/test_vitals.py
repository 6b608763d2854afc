"""What an instance says of itself tells people whether it is busy or sick, and changes nothing in its verdict."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.detection.assessment import SICK, Verdict
from router.core.detection.detector import Detector
from router.core.detection.thresholds import WINDOW_S
from router.core.detection.vitals import is_starved, told_by, why_busy
from router.core.models import Vitals
from tests.support.sampled_cells import CANARY_S, VICTIM, Fleet

IDLE = Vitals(1.0, 0.12, 0.01, 0.0, 0.002, 0.0, 0.001, 0.004)


@pytest.mark.parametrize(
    ("vitals", "words"),
    [
        (IDLE, "not busy: 12% of its 1 CPU"),
        (replace(IDLE, cpu=0.98), "busy: 98% of its 1 CPU"),
        (replace(IDLE, cpus=4.0, cpu=0.25), "busy: 1.00 of its 4 CPUs"),
        (replace(IDLE, cpus=4.0, cpu=0.2), "not busy: 0.80 of its 4 CPUs"),
        (replace(IDLE, cpu=0.3, waited=0.4), "busy: 30% of its 1 CPU, waits 400 ms a second for a core"),
        (
            replace(IDLE, cpus=0.5, cpu=1.0, waited=0.65, throttled=0.6),
            "busy: 100% of its 0.5 CPU, throttled by its CPU quota 60% of the time (give it more CPU)",
        ),
        (
            replace(IDLE, write_s=0.3, slowest_write_s=1.2, lag_s=0.45, gc=0.2),
            (
                "not busy: 12% of its 1 CPU; its store takes 300 ms to write, 1200 ms at most; "
                "its event loop was 450 ms late; garbage collection stops it 20% of the time"
            ),
        ),
        (
            replace(IDLE, write_s=0.0, slowest_write_s=7.0),
            "not busy: 12% of its 1 CPU; a write to its store takes 7000 ms",
        ),
        (replace(IDLE, waited=None, throttled=None), "not busy: 12% of its 1 CPU"),
    ],
)
def test_a_busy_instance_is_told_from_one_that_is_slow_though_it_need_not_be(vitals: Vitals, words: str) -> None:
    """In words that say what it lacks, or what is slow in it."""
    assert told_by(vitals) == words
    assert (why_busy(vitals) is not None) == words.startswith("busy")


def test_the_wait_that_its_own_quota_brings_is_not_its_machines() -> None:
    """The kernel counts a process that its quota stops as one that waits for a core."""
    assert is_starved(replace(IDLE, waited=0.4))
    assert not is_starved(replace(IDLE, waited=0.65, throttled=0.6))
    assert not is_starved(replace(IDLE, waited=None))
    assert not is_starved(None)
    assert told_by(None) is None


def test_a_slow_cell_is_found_and_said_to_be_busy_or_not() -> None:
    """The rule's text has it beside what the rule found."""
    fleet = Fleet()
    fleet.seconds(60)
    fleet.log_factor[VICTIM], fleet.canary_s[VICTIM] = log(3), 3 * CANARY_S
    fleet.vitals[VICTIM] = IDLE
    found = fleet.seconds(20)
    assert found.verdict is Verdict.SLOW
    assert (found.rule or "").endswith("; not busy: 12% of its 1 CPU")
    fleet.vitals[VICTIM] = replace(IDLE, cpu=1.0, throttled=0.6)
    assert "throttled by its CPU quota 60% of the time (give it more CPU)" in (fleet.seconds(1).rule or "")


shares = st.floats(0, 1)
some_shares = shares | st.none()
vitals = st.builds(Vitals, st.floats(0.01, 1000), shares, some_shares, some_shares, *[st.floats(0, 3600)] * 4)


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(st.sampled_from(["cell-0", "cell-1", "cell-2"]), vitals), st.sampled_from([1, 3]))
def test_whatever_instances_say_of_themselves_no_verdict_changes(said: dict[str, Vitals], factor: int) -> None:
    """Neither does a busy cell go free nor does its word harm another one."""
    honest, told = Fleet(), Fleet()
    told.vitals = dict(said)
    for fleet in (honest, told):
        fleet.seconds(60)
        fleet.log_factor[VICTIM] = log(factor)
        fleet.seconds(20)
    assert [found.verdict for found in told.found.values()] == [found.verdict for found in honest.found.values()]
    assert (told.found[VICTIM].verdict in SICK) == (factor > 1)


def test_what_was_said_long_ago_or_by_another_generation_counts_no_more() -> None:
    """The same heartbeat read again is no news."""
    detector = Detector()
    detector.admitted({VICTIM: 1})
    for now in range(int(WINDOW_S) + 2):
        detector.told(VICTIM, 1, IDLE, beat=7, now=now)
        detector.told(VICTIM, 2, IDLE, beat=8 + now, now=now)
        assert detector.assess(now)[VICTIM].vitals == (IDLE if now <= WINDOW_S else None)
