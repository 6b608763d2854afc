"""What comes and goes within minutes is said by its name, with its figures, and costs no cell its instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from router.core.detection.assessment import SICK
from router.core.detection.canaries import LEADER
from router.core.detection.minutes.memory import growth_of
from router.core.detection.minutes.observation import Pattern
from router.core.models import Vitals
from tests.support.sampled_cells import CANARY_S, VICTIM, Fleet

WELL = Vitals(cpus=1, cpu=0.3, waited=0.0, throttled=0.0, lag_s=0.01, gc=0.0, write_s=0.001, slowest_write_s=0.002)
Trouble = Callable[[Fleet, int], None]
POINTS = (LEADER, "router-0", "router-1", "router-2")


def after(seconds: int, each: Trouble) -> Fleet:
    """Return three cells that three routers and the leader watch, of which `each` has changed something each second."""
    fleet = Fleet(routers=3)
    fleet.seconds(90)
    for second in range(seconds):
        each(fleet, second)
        assert fleet.seconds(1).verdict not in SICK
    return fleet


def said(fleet: Fleet) -> dict[Pattern, str]:
    """Return what is observed of the victim; nothing is of the others."""
    assert not any(found.observations for name, found in fleet.found.items() if name != VICTIM)
    return {each.pattern: each.said for each in fleet.found[VICTIM].observations}


def flaps(fleet: Fleet, second: int) -> None:
    """Let the cell be four times as slow for 6 s of 30 s."""
    fleet.canary_s[VICTIM] = CANARY_S * (4 if second % 30 < 6 else 1)


def stalls(fleet: Fleet, second: int) -> None:
    """Let the cell stand still for two seconds of ten."""
    fleet.canary_s[VICTIM] = 2.0 if second % 10 == 0 else CANARY_S
    stopped = replace(WELL, lag_s=1.9, gc=0.4)
    fleet.vitals = {VICTIM: stopped if second % 10 == 0 else WELL}


def loses(*vantages: str) -> Trouble:
    """Let these vantage points have one in twenty canaries 600 ms late, each at moments of its own."""

    def each(fleet: Fleet, second: int) -> None:
        for number, vantage in enumerate(vantages):
            fleet.path_s[vantage, VICTIM] = 0.6 if second % 20 == 4 * number else 0.0

    return each


def creeps(fleet: Fleet, second: int) -> None:
    """Let the cell get slower by half within three minutes."""
    fleet.canary_s[VICTIM] = CANARY_S * (1 + 0.5 * second / 180)


def is_stopped(fleet: Fleet, _: int) -> None:
    """Let a CPU quota stop the cell a quarter of the time; its canaries don't show it."""
    fleet.vitals = {VICTIM: replace(WELL, throttled=0.25), "cell-1": WELL}


@pytest.mark.parametrize(
    ("each", "pattern", "text"),
    [
        (
            flaps,
            Pattern.COMES_AND_GOES,
            "it comes and goes: 6 slow spells of 5 s in the last 4 min, of its canaries, for most vantage points",
        ),
        (
            stalls,
            Pattern.STALLS,
            (
                "it stalls: 17 times in the last 4 min a canary took 2.0 s, 30 ms otherwise; it says itself that its "
                "event loop was 1900 ms late and garbage collection stopped it 40% of the time"
            ),
        ),
        (
            loses(*POINTS),
            Pattern.PARTLY_LATE,
            (
                "4% of its canaries (34 of 784) take 630 ms and not 30 ms, for 4 of 4 vantage points, and not at the "
                "same moments: lost packets, or one bad thread or disk"
            ),
        ),
        (
            loses("router-1"),
            Pattern.LOSSY_PATH,
            (
                "router-1 → cell-0: 5% of its canaries (9 of 196) take 630 ms and not 30 ms, others' are in time: the "
                "path loses packets, it is not the cell"
            ),
        ),
        (
            creeps,
            Pattern.GROWS_SLOWER,
            (
                "its canaries take 1.4 times as long as 4 min ago, and it went up steadily: it may leak memory, or "
                "fill a disk"
            ),
        ),
        (
            is_stopped,
            Pattern.THROTTLED,
            "its CPU quota stopped it 25% of the time in the last 4 min: give it more CPU",
        ),
    ],
    ids=lambda each: each.value if isinstance(each, Pattern) else "",
)
def test_what_comes_and_goes_is_said_by_its_name(each: Trouble, pattern: Pattern, text: str) -> None:
    """In one sentence with its figures, within three minutes; no verdict comes of it."""
    assert said(after(180, each)) == {pattern: text}


def test_what_lasts_is_no_pattern() -> None:
    """Neither a step that stays, nor what all cells do, nor what was once."""

    def steps(fleet: Fleet, second: int) -> None:
        fleet.canary_s[VICTIM] = 1.8 * CANARY_S if second > 60 else CANARY_S

    def together(fleet: Fleet, second: int) -> None:
        fleet.canary_s = dict.fromkeys(fleet.generations, CANARY_S * (1 + 0.5 * second / 180))

    def twice(fleet: Fleet, second: int) -> None:
        fleet.canary_s[VICTIM] = 2.0 if second in (30, 90) else CANARY_S

    for each in (steps, together, twice):
        assert said(after(180, each)) == {}, each


def test_what_is_over_is_not_said_any_more() -> None:
    """Nor is it said of the next instance, which knows nothing of it."""
    fleet = after(180, loses(*POINTS))
    fleet.path_s.clear()
    fleet.seconds(270)
    assert said(fleet) == {}
    fleet = after(180, flaps)
    fleet.detector.admitted({**fleet.generations, VICTIM: 2}, 3)
    fleet.generations[VICTIM] = 2
    fleet.seconds(5)
    assert said(fleet) == {}


def test_only_steady_growth_is_growth() -> None:
    """Noise is none, nor a single step, nor what goes up and down again."""
    assert growth_of([0.0, 0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx(0.4)
    assert growth_of([0.1, 0.0, 0.2, 0.15, 0.3, 0.4, 0.5]) == pytest.approx(0.4)
    for values in ([0.0, 0.0, 0.0, 0.5, 0.5, 0.5], [0.0, 0.3, 0.5, 0.3, 0.1, 0.2], [0.0, 0.5, 1.0], [0.3] * 9):
        assert growth_of(values) == 0, values
