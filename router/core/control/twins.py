"""Which instance stands trial beside its twin, and what follows of what the trial has shown. Pure.

The next instance of a slow cell is launched beside the old one, and gets the traffic only when the old one is slower
than it. An instance that has crashed, drains or has lost its lease needs no trial, and a person's order needs none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from router.core.detection.trial import TrialResult
from router.core.models import CellRecord, LeaseView, age_ms

AGAIN_MS: Final = 5 * 60_000
"""After a twin was no faster, none is launched for so long: what slows the cell is not its instance."""
NOT_THE_INSTANCE: Final = f"another instance beside it was no faster, less than {AGAIN_MS // 60_000} min ago"


class KnowsLeases(Protocol):
    """Whatever knows the leases of instances."""

    def lease(self, cell_id: str, generation: int) -> LeaseView | None:
        """Return the lease of one instance; None where it has none."""
        ...


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial, as the leader knows it: which instance stands beside which twin, and what that has shown."""

    generation: int
    twin: int
    result: TrialResult


def twin_of(record: CellRecord, leases: KnowsLeases) -> int:
    """Return the generation beside which the cell's instance stands trial; 0 where there is no trial."""
    if not record.twin or record.twin != record.launching:
        return 0
    both = leases.lease(record.cell_id, record.generation), leases.lease(record.cell_id, record.twin)
    return record.twin if all(lease is not None and lease.live and lease.ready for lease in both) else 0


def tried_lately(record: CellRecord, now_ms: int) -> bool:
    """Tell whether a twin of the cell's present instance was no faster, not long ago."""
    return bool(record.tried_at_ms) and age_ms(record.tried_at_ms, now_ms) < AGAIN_MS
