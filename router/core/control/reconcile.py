"""Desired and observed state in, actions out: how the controller keeps one serving instance for every cell.

Pure. Called again once its actions are done, it yields no more. A replacement admits a higher generation of the same
cell and never touches the slot map, so no key moves. What moves keys is in `moves`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from router.core.control.actions import (
    Action,
    Admit,
    Adopt,
    CreateCell,
    GiveUpLaunch,
    Launch,
    Retire,
    Stop,
    Treat,
    Verify,
)
from router.core.control.lease_trust import TOGETHER_MS
from router.core.control.moves import MAX_FAILURES, left, map_steps
from router.core.control.observed import Desired, Observed
from router.core.control.treatment import treatments
from router.core.lanes.backoff import backoff
from router.core.models import CellRecord, CellState, LeaseView, Reason, Rung, age_ms
from router.core.policy import NO_POLICY, Order, Policy

FIRST_BACKOFF_MS: Final = 2_000
MAX_BACKOFF_MS: Final = 60_000


def reconcile(desired: Desired, observed: Observed) -> list[Action]:
    """Decide the actions that bring what is observed nearer to what is desired, in the order to take them."""
    actions: list[Action] = []
    for cell_id in desired.cells:
        record = observed.cells.get(cell_id)
        if record is None or record.retired:
            actions.append(CreateCell(cell_id))
        else:
            actions += _one_cell(desired, observed, record)
    for record in observed.cells.values():
        if record.cell_id not in desired.cells and not record.retired:
            actions += (
                [Retire(record.cell_id)] if left(observed, record.cell_id) else _one_cell(desired, observed, record)
            )
    owners = observed.slot_map.cells() if observed.slot_map is not None else frozenset()
    unknown = sorted(owners - observed.cells.keys() - set(desired.cells))
    actions += map(CreateCell, unknown)  # the registry has lost these cells: what they own must be moved away in order
    if observed.slot_map is not None:
        forgotten = set(observed.hold_queues) - observed.cells.keys() - set(desired.cells) - owners
        actions += map(Retire, sorted(forgotten))  # something may lie in their hold queues
    actions += _superfluous({*desired.cells, *owners}, observed)
    if not unknown and all(c in observed.cells and not observed.cells[c].retired for c in desired.cells):
        actions += map_steps(desired.cells, observed)
    actions += treatments(desired, observed)
    # Asking instances may take long, so these come last.
    return sorted(actions, key=lambda action: isinstance(action, (Verify, Treat)))


def state_of(record: CellRecord, lease: LeaseView | None, policy: Policy = NO_POLICY) -> CellState:
    """Name the state of a cell as people see it; `lease` is that of its admitted instance."""
    if record.retired:
        return CellState.RETIRED
    if lease is not None and lease.live and lease.ready:
        return CellState.EJECTED if policy.ejects(record) else CellState.SERVING
    return CellState.DOWN if record.generation else CellState.STARTING


def _one_cell(desired: Desired, observed: Observed, record: CellRecord) -> Iterator[Action]:
    left_alone = _left_alone(observed, record)
    # An instance launched before its cell was frozen doesn't take over. One that a person has started elsewhere does.
    newest = _newest_ready(observed, record) if not (left_alone and desired.can_launch) else None
    failure = _why_launch_failed(desired, observed, record) if record.launching else None
    if record.launching and left_alone:
        failure = "the cell is frozen by hand"
    yield from _evicted(desired, observed, record)
    yield from _in_the_way(observed, record)
    if failure is not None:
        yield GiveUpLaunch(record.cell_id, record.launching, failure)
    elif newest is not None:
        yield Admit(record.cell_id, newest)
    elif not record.launching:
        yield from _another(desired, observed, record)
    lease = observed.serving(record.cell_id)
    unverified = record.verified != record.generation or record.canary_failures
    if lease is not None and (unverified or record.address not in ("", lease.address)):
        yield Verify(record.cell_id, record.generation)


def _evicted(desired: Desired, observed: Observed, record: CellRecord) -> Iterator[Action]:
    """End the instance that a person wants ended, whether another is there already or not."""
    instance = observed.instance(record.cell_id, record.generation)
    runs = instance.running if instance is not None else not desired.can_launch and observed.serving(record.cell_id)
    if runs and observed.policy.order_for(record) is Order.EVICT:
        yield Stop(record.cell_id, record.generation, "evicted by hand")


def _in_the_way(observed: Observed, record: CellRecord) -> Iterator[Action]:
    """End an instance that runs without a lease once a launch has failed: hung, it may have the cell's store locked."""
    instance = observed.instance(record.cell_id, record.generation)
    if not record.launch_failures or instance is None or not instance.running or _left_alone(observed, record):
        return
    if why := _why_dead(observed, record):
        yield Stop(record.cell_id, record.generation, f"{why}, and nothing has started beside it")


def _another(desired: Desired, observed: Observed, record: CellRecord) -> Iterator[Action]:
    """Adopt or launch another instance when the cell needs one."""
    cell_id = record.cell_id
    if unknown := _unknown_instance(observed, record):
        yield Adopt(cell_id, unknown)
    elif desired.can_launch and _backed_off(observed, record) and (why := _why_another(observed, record)):
        yield Launch(cell_id, why, above=_highest_seen(observed, record))


def _why_another(observed: Observed, record: CellRecord) -> Reason | None:
    """Why the cell needs another instance; None when it needs none."""
    if _left_alone(observed, record):
        return None
    if not record.generation:
        return "first instance"
    if order := observed.policy.order_for(record):
        return f"a person wants to {order} generation {record.generation}"
    if record.treatment.rung is Rung.REPLACING:
        return f"generation {record.generation} is {record.treatment.verdict}: {record.treatment.why}"
    return _why_dead(observed, record) or _why_ending(observed, record)


def _left_alone(observed: Observed, record: CellRecord) -> bool:
    """Whether the cell is frozen, and no person's order touches its instances all the same."""
    frozen = record.cell_id in observed.policy.frozen
    return frozen and bool(record.generation) and not observed.policy.order_for(record)


def _unknown_instance(observed: Observed, record: CellRecord) -> int:
    """The highest generation that runs above all that the registry knows, which has lost it; 0 for none."""
    newest = max((i.generation for i in observed.instances_of(record.cell_id) if i.running), default=0)
    return newest if newest > max(record.generation, record.launched) else 0


def _highest_seen(observed: Observed, record: CellRecord) -> int:
    started, leased = observed.instances_of(record.cell_id), observed.leases_of(record.cell_id)
    return max([record.generation, *(i.generation for i in started), *(lease.generation for lease in leased)])


def _newest_ready(observed: Observed, record: CellRecord) -> int | None:
    """The highest generation above the admitted one that is alive and ready."""
    ready = [
        lease.generation
        for lease in observed.leases_of(record.cell_id)
        if lease.live and lease.ready and lease.generation > record.generation
    ]
    return max(ready, default=None)


def _why_dead(observed: Observed, record: CellRecord) -> Reason | None:
    """Why the admitted instance is known to be dead; None when it may live."""
    instance = observed.instance(record.cell_id, record.generation)
    if instance is not None and not instance.running:
        return f"generation {record.generation} exited: {instance.detail}"
    return _why_gone(observed, record) if observed.silent(record) else None


def _why_ending(observed: Observed, record: CellRecord) -> Reason | None:
    """Why the admitted instance will end though it still runs, so that another can be ready before that."""
    instance = observed.instance(record.cell_id, record.generation)
    if instance is not None and instance.ending:
        return f"generation {record.generation} will end: {instance.ending}"
    lease = observed.lease(record.cell_id, record.generation)
    if lease is not None and lease.live and not lease.ready:  # it was ready when it was admitted
        return f"generation {record.generation} drains and will end"
    return None


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


def _why_launch_failed(desired: Desired, observed: Observed, record: CellRecord) -> Reason | None:
    instance = observed.instance(record.cell_id, record.launching)
    if instance is not None and not instance.running:
        return f"exited before it was ready: {instance.detail}"
    if instance is not None and instance.ending:
        return f"will end before it is ready: {instance.ending}"
    if record.candidate_failures >= MAX_FAILURES:
        return f"{record.candidate_failures} canaries in a row got no good answer"
    if age_ms(record.launched_at_ms, observed.now_ms) > desired.launch_timeout_s * 1000:
        lease = observed.lease(record.cell_id, record.launching)
        missing = "verified by a canary" if lease is not None and lease.live and lease.ready else "ready"
        return f"not {missing} after {desired.launch_timeout_s:g} s"
    return None


def _backed_off(observed: Observed, record: CellRecord) -> bool:
    """Whether enough time has passed since a launch that failed: 2 s, 4 s, … 60 s."""
    if not record.launch_failures:
        return True
    wait_ms = backoff(FIRST_BACKOFF_MS, MAX_BACKOFF_MS, record.launch_failures)
    return age_ms(record.launched_at_ms, observed.now_ms) >= wait_ms


def _superfluous(cells: Collection[str], observed: Observed) -> Iterator[Action]:
    """End running instances that are older than the admitted one, or of no cell."""
    for instance in observed.instances:
        if not instance.running:
            continue
        cell_id, generation = instance.cell_id, instance.generation
        record = observed.cells.get(cell_id)
        if record is None or record.retired:
            if cell_id not in cells:  # else its record is being made, and will say what the instance is
                yield Stop(cell_id, generation, "no such cell")
        elif generation <= max(record.generation, record.launched) and generation not in (
            record.generation,
            record.launching,
        ):
            yield Stop(cell_id, generation, f"generation {record.generation} serves the cell")
