"""When a p99 is above its limit and not only by chance, and what limit that is."""

from __future__ import annotations

import random  # noqa: TID251 - seeded

import pytest

from router.core.drills.judging import DrillPlan, limit_ms, surely
from router.core.drills.kinds import DrillKind
from router.core.load.latencies import Latencies

LIMIT_MS = 100.0


def above(chance: random.Random, events: int, late: float) -> bool:
    """Draw so many events, a share of which is late, and tell whether their p99 is surely above the limit."""
    took = Latencies()
    for _ in range(events):
        took.add(400.0 if chance.random() < late else 10.0)
    return took.quantile(surely(events)) > LIMIT_MS and surely(events) > 0


@pytest.mark.parametrize("events", [20, 60, 200, 1000, 4000])
def test_chance_alone_hardly_ever_breaks_a_promise(events: int) -> None:
    """Where just 1 % of events are late, as a p99 at the limit has it, one of a thousand drills may say more."""
    chance = random.Random(events)
    assert sum(above(chance, events, 0.01) for _ in range(400)) <= 2


@pytest.mark.parametrize(("events", "late"), [(20, 0.4), (60, 0.2), (200, 0.1), (1000, 0.04), (4000, 0.02)])
def test_what_is_late_for_good_is_found(events: int, late: float) -> None:
    """The more events, the smaller a share: a cell that stands still for 3 of 30 seconds makes a tenth late."""
    chance = random.Random(events)
    assert sum(above(chance, events, late) for _ in range(100)) >= 90


def test_of_few_events_nothing_is_sure() -> None:
    """None at all, and one or two."""
    assert [surely(events) for events in (0, 1, 2, 3)] == [0.0] * 4


def test_the_limit_follows_what_was_before_unless_it_is_given() -> None:
    """A factor for slow cells, room for quick ones."""
    plan = DrillPlan("stress", DrillKind.KILL, "cell-0000", "0000000a", "me", "", 30)
    assert limit_ms(plan, 10.0) == 60.0
    assert limit_ms(plan, 1000.0) == 1200.0
    given = DrillPlan("stress", DrillKind.KILL, "cell-0000", "0000000a", "me", "", 30, p99_ms=300.0)
    assert limit_ms(given, 1000.0) == 300.0
