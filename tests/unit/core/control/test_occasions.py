"""What the leader did to cells lately follows from the registry alone, whichever controller leads by now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.control.occasions import LASTS_MS, occasions
from router.core.detection.announcements import Announced, Occasion
from router.core.detection.detector import Detector
from router.core.models import CellRecord, Treatment
from router.core.policy import NO_POLICY
from router.core.registry import Snapshot
from router.core.release import Phase, Release, Wave
from router.core.slot_map.slots import SLOTS, Move, SlotMap

NOW = 10 * LASTS_MS
CELL = "cell-0000"
RECORD = CellRecord(CELL, generation=2, admitted_at_ms=NOW - 20_000, image="new")
RELEASE = Release("new", (Wave(percent=100.0),), before="old", phase=Phase.BAKING)


def snapshot(record: CellRecord, release: Release | None = None) -> Snapshot:
    """One cell, and the release that was last."""
    return Snapshot(NOW, None, {record.cell_id: record}, (), "c", replace(NO_POLICY, release=release))


@pytest.mark.parametrize(
    ("record", "release", "occasion"),
    [
        (RECORD, RELEASE, Occasion.RELEASED),
        (RECORD, replace(RELEASE, phase=Phase.DONE, since_ms=NOW - 5000), Occasion.RELEASED),
        (RECORD, replace(RELEASE, phase=Phase.DONE, since_ms=1), Occasion.ADMITTED),
        (replace(RECORD, image="old"), RELEASE, Occasion.ADMITTED),
        (replace(RECORD, image="old"), replace(RELEASE, phase=Phase.ROLLING_BACK), Occasion.RELEASED),
        (RECORD, None, Occasion.ADMITTED),
        (replace(RECORD, replaced_at_ms=NOW - 20_000), RELEASE, Occasion.TREATED),
    ],
)
def test_a_cell_has_another_instance_since_the_leader_admitted_it(
    record: CellRecord, release: Release | None, occasion: Occasion
) -> None:
    """Whether by a release, forward or back, by treatment, or since the last one ended."""
    assert list(occasions(snapshot(record, release))) == [(CELL, occasion, 20_000)]


@pytest.mark.parametrize(
    "record", [replace(RECORD, generation=1), replace(RECORD, admitted_at_ms=NOW - LASTS_MS), CellRecord(CELL)]
)
def test_a_first_instance_and_an_old_one_are_no_news(record: CellRecord) -> None:
    """Nothing was there before that a first instance could be slower than."""
    assert list(occasions(snapshot(record, RELEASE))) == []


def test_events_that_are_held_and_slots_that_move_are_told_while_they_are() -> None:
    """When that has ended the detector still knows for how long ago."""
    ejected = replace(RECORD, admitted_at_ms=1, treatment=Treatment(ejected=True))
    assert list(occasions(snapshot(ejected))) == [(CELL, Occasion.HELD, 0)]
    moving = SlotMap(1, (CELL,) * SLOTS, move=Move({5: "cell-0002"}, {"key": "cell-0001"}))
    quiet = replace(snapshot(replace(RECORD, admitted_at_ms=1)), slot_map=moving)
    assert list(occasions(quiet)) == [("cell-0001", Occasion.MOVED, 0), ("cell-0002", Occasion.MOVED, 0)]


def test_what_was_announced_is_evidence_until_its_time_is_over() -> None:
    """The latest comes first, and other cells have nothing of it."""
    detector = Detector()
    detector.admitted({CELL: 2, "cell-0001": 1})
    detector.announce([CELL], Occasion.HELD, 40.0, 90.0)
    detector.announce([CELL], Occasion.RELEASED, 30.0, 330.0)
    detector.announce([CELL], Occasion.HELD, 45.0, 95.0)  # it was not over yet
    found = detector.assess(50.0)
    assert found[CELL].announced == (Announced(Occasion.HELD, 5.0), Announced(Occasion.RELEASED, 20.0))
    assert [each.text() for each in found[CELL].announced] == [
        "its events were held until 5 s ago",
        "a release replaced its instance 20 s ago",
    ]
    assert found["cell-0001"].announced == ()
    assert detector.assess(95.0)[CELL].announced == (Announced(Occasion.RELEASED, 65.0),)
    assert detector.assess(330.0)[CELL].announced == ()
