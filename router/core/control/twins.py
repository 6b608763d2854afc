"""Which instance stands trial beside its twin, and what follows of what the trial has shown. Pure.

The next instance of a slow cell is launched beside the old one, and gets the traffic only when the old one is slower
than it. An instance that has crashed, drains or has lost its lease needs no trial, and a person's order needs none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from router.core.detection.trial import STAND_BY_S, TrialResult
from router.core.models import CellRecord, LeaseView, Reason, age_ms

AGAIN_MS: Final = 5 * 60_000
"""After a twin was no faster, none is launched for so long: what slows the cell is not its instance."""
NOT_THE_INSTANCE: Final = f"another instance beside it was no faster, less than {AGAIN_MS // 60_000} min ago"

COMES_AND_GOES: Final = (
    f"it comes and goes: another instance stood beside it for up to {STAND_BY_S:g} s, and was no faster"
)


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


def both_rehearse(record: CellRecord, leases: KnowsLeases) -> bool:
    """Tell whether the cell's instance and its twin can do copies of events without any effect, as both say."""
    both = leases.lease(record.cell_id, record.generation), leases.lease(record.cell_id, record.twin)
    return all(lease is not None and lease.rehearses for lease in both)


def why_no_trial(record: CellRecord, now_ms: int) -> Reason | None:
    """Say why no twin is launched beside the cell's instance: one was no faster, not long ago; None when one may be.

    A cell that was well again since then may have been well in its trial, and deserves a second one.
    """
    if not _tried_lately(record, now_ms) or comes_and_goes(record, now_ms):
        return None
    return NOT_THE_INSTANCE if record.trials < 2 else COMES_AND_GOES  # noqa: PLR2004 - the second one


def comes_and_goes(record: CellRecord, now_ms: int) -> bool:
    """Tell whether the cell was well again since its only trial of late: in the next one, its twin stands by."""
    return _tried_lately(record, now_ms) and record.trials == 1 and record.recovered_at_ms > record.tried_at_ms


def _tried_lately(record: CellRecord, now_ms: int) -> bool:
    return bool(record.tried_at_ms) and age_ms(record.tried_at_ms, now_ms) < AGAIN_MS
