"""Which numbers and times of a record there can be at all, by the registry's clock. Pure.

Anybody may have written to the registry. A number near the highest that there is would leave none for the next
generation, epoch or version; a time in the future would never be over. So a number has to be one that can have been
reached by now. Each bound grows faster than its number is counted up, so that after whatever is accepted the next one
can be given out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from router.core.models import CellRecord, Reason

MAX_EPOCH_AHEAD_MS: Final = 31_536_000_000  # a year: epochs begin at the registry's time, and its clock may go back
MAX_TIME_AHEAD_MS: Final = 3_600_000  # what another server's clock, after a failover, may be behind


def highest_count(now_ms: int) -> int:
    """Return the highest generation of a cell and version of the policy that there can be: one for each ms since 1970.

    There are far fewer. So even the highest is followed by another one, as soon as it is wanted.
    """
    return now_ms


def why_epoch_impossible(epoch: int, now_ms: int) -> Reason | None:
    """Say why no leader has given out this epoch; None where one may have."""
    if epoch <= now_ms + MAX_EPOCH_AHEAD_MS:
        return None
    return f"the epoch {epoch} is more than a year ahead of the registry's clock: no leader has given it out"


def why_record_impossible(record: CellRecord, now_ms: int) -> Reason | None:
    """Say which number of a cell's record there can't be; None where all may be true."""
    generation = max(record.generation, record.launching, record.launched, record.verified, record.treatment.generation)
    generation = max(generation, record.twin)
    if generation > highest_count(now_ms):
        return f"the generation {generation} is higher than any that a cell can have had"
    return why_epoch_impossible(record.fence, now_ms)


def without_future(record: CellRecord, now_ms: int) -> CellRecord:
    """Take times that lie far ahead for long past ones: what waits for them to be over waits no longer."""
    latest = now_ms + MAX_TIME_AHEAD_MS
    if max(_times(record)) <= latest:
        return record
    launched, admitted, replaced, reprovisioned, tried, recovered, since = (
        0 if at > latest else at for at in _times(record)
    )
    return replace(
        record,
        launched_at_ms=launched,
        admitted_at_ms=admitted,
        replaced_at_ms=replaced,
        reprovisioned_at_ms=reprovisioned,
        tried_at_ms=tried,
        recovered_at_ms=recovered,
        treatment=replace(record.treatment, since_ms=since),
    )


def _times(record: CellRecord) -> tuple[int, int, int, int, int, int, int]:
    launched, admitted, replaced = record.launched_at_ms, record.admitted_at_ms, record.replaced_at_ms
    reprovisioned, tried, recovered = record.reprovisioned_at_ms, record.tried_at_ms, record.recovered_at_ms
    return launched, admitted, replaced, reprovisioned, tried, recovered, record.treatment.since_ms
