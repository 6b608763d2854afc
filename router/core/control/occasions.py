"""What the leader has done to cells lately that may make them slow: announced to the detector. Pure.

All of it follows from what is written in the registry, so that a new leader announces the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from router.core.detection.announcements import Occasion
from router.core.models import CellRecord, age_ms
from router.core.registry import Snapshot
from router.core.release import Phase, Release
from router.core.slot_map.placement import moving_to

LASTS_MS: Final = 5 * 60_000
"""For how long it is told: a release goes from one cell to the next within minutes, and so long may a hold queue last
that is emptied."""


def occasions(snapshot: Snapshot) -> Iterator[tuple[str, Occasion, int]]:
    """Yield what was done to which cell within LASTS_MS, and how many ms ago; what goes on is 0 ms old."""
    for record in snapshot.cells.values():
        age = age_ms(record.admitted_at_ms, snapshot.now_ms)
        if record.generation > 1 and age < LASTS_MS:  # a cell's first instance takes no other one's place
            yield record.cell_id, _of_instance(record, snapshot.policy.release, snapshot.now_ms), age
        if record.treatment.ejected or record.cell_id in snapshot.policy.ejected:
            yield record.cell_id, Occasion.HELD, 0
    if snapshot.slot_map is not None:
        for cell_id in sorted(moving_to(snapshot.slot_map)):
            yield cell_id, Occasion.MOVED, 0


def _of_instance(record: CellRecord, release: Release | None, now_ms: int) -> Occasion:
    """Say why the cell has the instance that it has."""
    if record.replaced_at_ms == record.admitted_at_ms:
        return Occasion.TREATED
    if release is None or not (release.runs or age_ms(release.since_ms, now_ms) < LASTS_MS):
        return Occasion.ADMITTED
    back = release.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    return Occasion.RELEASED if record.image == (release.before if back else release.image) else Occasion.ADMITTED
