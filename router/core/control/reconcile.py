"""Desired and observed state in, actions out: how the controller keeps one serving instance for every cell.

Pure. Called again once its actions are done, it yields no more. A replacement admits a higher generation of the same
cell and never touches the slot map, so no key moves. What moves keys is in `moves`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from router.core.control.actions import (
    Action,
    Admit,
    Adopt,
    CreateCell,
    DismissTwin,
    EndScaling,
    GiveUpLaunch,
    Launch,
    Retire,
    StepRelease,
    Stop,
    Treat,
    Verify,
)
from router.core.control.another import (
    backed_off,
    highest_seen,
    left_alone,
    why_another,
    why_dead,
    why_launch_failed,
)
from router.core.control.moves import left, map_steps
from router.core.control.observed import Desired, Observed
from router.core.control.releases import release_steps
from router.core.control.scaling import scaling_steps
from router.core.control.treatment import treatments
from router.core.control.twins import twin_of
from router.core.detection.trial import Finding
from router.core.models import CellRecord, InstanceView
from router.core.policy import Order


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
    if not any(isinstance(action, EndScaling) for action in actions):  # a tick changes the policy once
        actions = _with_release(actions, list(release_steps(desired, observed)))
    if not actions:
        return list(scaling_steps(desired, observed))
    # Asking instances may take long, so these come last.
    return sorted(actions, key=lambda action: isinstance(action, (Verify, Treat)))


def _with_release(actions: list[Action], steps: list[Launch | StepRelease]) -> list[Action]:
    """Add a release's next steps. With what it comes to, nothing is launched: the next tick knows with which image."""
    if any(isinstance(step, StepRelease) for step in steps):
        actions = [action for action in actions if not isinstance(action, Launch)]
    return actions + steps


def _one_cell(desired: Desired, observed: Observed, record: CellRecord) -> Iterator[Action]:
    alone = left_alone(observed, record)
    # An instance launched before its cell was frozen doesn't take over. One that a person has started elsewhere does.
    newest = _newest_ready(observed, record) if not (alone and desired.can_launch) else None
    failure = why_launch_failed(desired, observed, record) if record.launching else None
    if record.launching and alone:
        failure = "the cell is frozen by hand"
    yield from _evicted(desired, observed, record)
    yield from _in_the_way(observed, record)
    if failure is not None:
        yield GiveUpLaunch(record.cell_id, record.launching, failure)
    elif newest is not None:
        yield from _candidate(observed, record, newest)
    elif not record.launching:
        yield from _another(desired, observed, record)
    lease = observed.serving(record.cell_id)
    unverified = record.verified != record.generation or record.canary_failures
    if lease is not None and (unverified or record.address not in ("", lease.address)):
        yield Verify(record.cell_id, record.generation)


def _candidate(observed: Observed, record: CellRecord, newest: int) -> Iterator[Action]:
    """Give a candidate the traffic; a slow instance's twin only once it has shown that it is faster."""
    if newest != twin_of(record, observed) or observed.policy.order_for(record):
        yield Admit(record.cell_id, newest)
        return
    trial = observed.trials.get(record.cell_id)
    if trial is None or (trial.generation, trial.twin) != (record.generation, newest):
        return
    if trial.result.finding is Finding.SLOWER:
        yield Admit(record.cell_id, newest, str(trial.result))
    elif trial.result.finding is Finding.NO_SLOWER:
        yield DismissTwin(record.cell_id, newest, str(trial.result))
    elif trial.result.finding is Finding.TWIN_FAILS:
        yield GiveUpLaunch(record.cell_id, newest, f"it answers no canary well: {trial.result}")


def _evicted(desired: Desired, observed: Observed, record: CellRecord) -> Iterator[Action]:
    """End the instance that a person wants ended, whether another is there already or not."""
    instance = observed.instance(record.cell_id, record.generation)
    runs = instance.running if instance is not None else not desired.can_launch and observed.serving(record.cell_id)
    if runs and observed.policy.order_for(record) is Order.EVICT:
        yield Stop(record.cell_id, record.generation, "evicted by hand")


def _in_the_way(observed: Observed, record: CellRecord) -> Iterator[Action]:
    """End an instance that runs without a lease once a launch has failed: hung, it may have the cell's store locked."""
    instance = observed.instance(record.cell_id, record.generation)
    if not record.launch_failures or instance is None or not instance.running or left_alone(observed, record):
        return
    if why := why_dead(observed, record):
        yield Stop(record.cell_id, record.generation, f"{why}, and nothing has started beside it")


def _another(desired: Desired, observed: Observed, record: CellRecord) -> Iterator[Action]:
    """Adopt or launch another instance when the cell needs one."""
    cell_id = record.cell_id
    if unknown := _unknown_instance(observed, record):
        yield Adopt(cell_id, unknown.generation, unknown.image)
    elif desired.can_launch and backed_off(observed, record) and (why := why_another(observed, record)):
        yield Launch(cell_id, why, highest_seen(observed, record), observed.policy.image_for(record))


def _unknown_instance(observed: Observed, record: CellRecord) -> InstanceView | None:
    """The instance that runs with the highest generation, above all that the registry knows; None for none."""
    known = max(record.generation, record.launched)
    above = [i for i in observed.instances_of(record.cell_id) if i.running and i.generation > known]
    return max(above, key=lambda instance: instance.generation, default=None)


def _newest_ready(observed: Observed, record: CellRecord) -> int | None:
    """The highest generation above the admitted one that is alive and ready, but none whose launch was given up."""
    given_up = range(record.generation + 1, record.launched + (record.launching != record.launched))
    ready = [
        lease.generation
        for lease in observed.leases_of(record.cell_id)
        if lease.live and lease.ready and lease.generation > record.generation and lease.generation not in given_up
    ]
    return max(ready, default=None)


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
