"""When a cell needs another instance than the one that it has, and when the one being launched is no good. Pure."""

from __future__ import annotations

from typing import Final

from router.core.control.lease_trust import TOGETHER_MS
from router.core.control.observed import Desired, Observed
from router.core.control.records import MAX_FAILURES
from router.core.control.twins import twin_of
from router.core.lanes.backoff import backoff
from router.core.models import CellRecord, Reason, Rung, age_ms
from router.core.release import Phase

FIRST_BACKOFF_MS: Final = 2_000
MAX_BACKOFF_MS: Final = 60_000


def why_another(observed: Observed, record: CellRecord) -> Reason | None:
    """Say why the cell needs another instance; None when it needs none."""
    if left_alone(observed, record):
        return None
    if not record.generation:
        return "first instance"
    if order := observed.policy.order_for(record):
        return f"a person wants to {order} generation {record.generation}"
    if record.treatment.rung is Rung.REPLACING:
        return f"generation {record.generation} is {record.treatment.verdict}: {record.treatment.why}"
    return why_dead(observed, record) or why_ending(observed, record)


def why_dead(observed: Observed, record: CellRecord) -> Reason | None:
    """Say why the admitted instance is known to be dead; None when it may live."""
    instance = observed.instance(record.cell_id, record.generation)
    if instance is not None and not instance.running:
        return f"generation {record.generation} exited: {instance.detail}"
    return _why_gone(observed, record) if observed.silent(record) else None


def why_ending(observed: Observed, record: CellRecord) -> Reason | None:
    """Say why the admitted instance will end though it still runs, so that another can be ready before that."""
    instance = observed.instance(record.cell_id, record.generation)
    if instance is not None and instance.ending:
        return f"generation {record.generation} will end: {instance.ending}"
    lease = observed.lease(record.cell_id, record.generation)
    if lease is not None and lease.live and not lease.ready:  # it was ready when it was admitted
        return f"generation {record.generation} drains and will end"
    return None


def why_launch_failed(desired: Desired, observed: Observed, record: CellRecord) -> Reason | None:
    """Say why the instance being launched will not have the traffic; None while it may."""
    release = observed.policy.release
    if release is not None and release.phase is Phase.ROLLING_BACK and record.launched_image == release.image:
        return f"{release.image} is rolled back"
    instance = observed.instance(record.cell_id, record.launching)
    if instance is not None and not instance.running:
        return f"exited before it was ready: {_last_word(observed, record, instance.detail)}"
    if instance is not None and instance.ending:
        return f"will end before it is ready: {instance.ending}"
    if record.candidate_failures >= MAX_FAILURES:
        return f"{record.candidate_failures} canaries in a row got no good answer"
    late = age_ms(record.launched_at_ms, observed.now_ms) > desired.launch_timeout_s * 1000
    if late and not twin_of(record, observed):  # a trial ends by itself
        lease = observed.lease(record.cell_id, record.launching)
        missing = "verified by a canary" if lease is not None and lease.live and lease.ready else "ready"
        return f"not {missing} after {desired.launch_timeout_s:g} s"
    return None


def left_alone(observed: Observed, record: CellRecord) -> bool:
    """Tell whether the cell is frozen, and no person's order touches its instances all the same."""
    frozen = record.cell_id in observed.policy.frozen
    return frozen and bool(record.generation) and not observed.policy.order_for(record)


def backed_off(observed: Observed, record: CellRecord) -> bool:
    """Tell whether enough time has passed since a launch that failed: 2 s, 4 s, … 60 s."""
    if not record.launch_failures:
        return True
    wait_ms = backoff(FIRST_BACKOFF_MS, MAX_BACKOFF_MS, record.launch_failures)
    return age_ms(record.launched_at_ms, observed.now_ms) >= wait_ms


def highest_seen(observed: Observed, record: CellRecord) -> int:
    """Return the highest generation that any sign of the cell's instances names."""
    started, leased = observed.instances_of(record.cell_id), observed.leases_of(record.cell_id)
    return max([record.generation, *(i.generation for i in started), *(lease.generation for lease in leased)])


def _last_word(observed: Observed, record: CellRecord, detail: str) -> str:
    """Say how the instance being launched has ended, with what it says itself where its log can't be read."""
    lease = observed.lease(record.cell_id, record.launching)
    said = lease.note if lease is not None and lease.released else None
    return f"{detail}: {said}" if said and said not in detail else detail


def _why_gone(observed: Observed, record: CellRecord) -> Reason | None:
    """Why an instance without a live lease is known to be dead; None when it may live."""
    lease = observed.lease(record.cell_id, record.generation)
    if lease is not None and lease.released:
        return f"generation {record.generation} has ended"
    # Their machine starves, and as many launches would make it worse. An instance that stays silent is replaced later.
    if lease is not None and lease.ended_ms < TOGETHER_MS and (observed.many_silent or not observed.leases_trusted):
        return None
    if observed.leases_trusted and not (lease is not None and lease.missing):
        return f"generation {record.generation} lost its lease"
    # Perhaps nobody can renew a lease, or somebody takes this one away: only silence to canaries means death then.
    if lease is not None and observed.mute(record.cell_id):
        return f"generation {record.generation} lost its lease and answers no canary"
    return None
