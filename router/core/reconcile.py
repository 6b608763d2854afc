"""Observed, desired, now → actions: how the controller keeps one serving instance for every cell.

Pure. Calling it again with what its actions brought about yields nothing more to do. A replacement admits a higher
generation of the same cell and never touches the slot map: no key moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from router.core.models import CellRecord, CellState, InstanceView, LeaseView
from router.core.slots import SlotMap, assign

MAX_BACKOFF_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be there."""

    cells: tuple[str, ...]
    can_launch: bool  # False: something else (compose, ECS) starts the workers; the controller only admits them
    launch_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Observed:
    """What is there, by the registry's clock."""

    now_ms: int
    cells: Mapping[str, CellRecord]
    leases: tuple[LeaseView, ...]
    instances: tuple[InstanceView, ...]
    slot_map: SlotMap | None
    leases_trusted: (
        bool  # False: the registry was out of reach or lost its data lately, so a missing lease says nothing
    )


@dataclass(frozen=True, slots=True)
class CreateCell:
    """Make the cell's durable components and its record."""

    cell_id: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Start an instance with the cell's next generation."""

    cell_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Admit:
    """Give the cell's traffic to this generation."""

    cell_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class GiveUpLaunch:
    """The instance being launched won't come; count it and back off."""

    cell_id: str
    generation: int
    why: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End an instance that no longer is, or never was, the cell's own."""

    cell_id: str
    generation: int
    why: str


@dataclass(frozen=True, slots=True)
class PublishMap:
    """Write these owners as the slot map of a new epoch."""

    owners: tuple[str, ...]


Action = CreateCell | Launch | Admit | GiveUpLaunch | Stop | PublishMap


def reconcile(desired: Desired, observed: Observed) -> list[Action]:
    """The actions that bring what is observed nearer to what is desired, in the order to take them."""
    actions: list[Action] = []
    for cell_id in desired.cells:
        record = observed.cells.get(cell_id)
        if record is None:
            actions.append(CreateCell(cell_id))
        else:
            actions += _one_cell(desired, observed, record)
    actions += _superfluous(desired, observed)
    if all(cell_id in observed.cells for cell_id in desired.cells):
        actions += _map(desired, observed)
    return actions


def state_of(record: CellRecord, leases: Mapping[tuple[str, int], LeaseView]) -> CellState:
    """The cell as people see it."""
    lease = leases.get((record.cell_id, record.generation))
    if lease is not None and lease.live and lease.ready:
        return CellState.SERVING
    return CellState.DOWN if record.generation else CellState.STARTING


def _one_cell(desired: Desired, observed: Observed, record: CellRecord) -> Iterator[Action]:
    newest = _newest_ready(observed, record)
    if newest is not None:
        yield Admit(record.cell_id, newest)
    elif record.launching:
        failure = _launch_failure(desired, observed, record)
        if failure is not None:
            yield GiveUpLaunch(record.cell_id, record.launching, failure)
    elif desired.can_launch and _backed_off(observed, record):
        why = "first instance" if not record.generation else _death(observed, record)
        if why is not None:
            yield Launch(record.cell_id, why)


def _newest_ready(observed: Observed, record: CellRecord) -> int | None:
    """The highest generation above the admitted one that is alive and ready."""
    ready = [
        lease.generation
        for lease in observed.leases
        if lease.cell_id == record.cell_id and lease.live and lease.ready and lease.generation > record.generation
    ]
    return max(ready, default=None)


def _death(observed: Observed, record: CellRecord) -> str | None:
    """Why the serving instance is known to be dead, or None."""
    instance = _instance(observed, record.cell_id, record.generation)
    if instance is not None and not instance.running:
        return f"generation {record.generation} exited: {instance.detail}"
    lease_is_live = any(
        lease.live and lease.cell_id == record.cell_id and lease.generation == record.generation
        for lease in observed.leases
    )
    if observed.leases_trusted and not lease_is_live:
        return f"generation {record.generation} lost its lease"
    return None


def _launch_failure(desired: Desired, observed: Observed, record: CellRecord) -> str | None:
    instance = _instance(observed, record.cell_id, record.launching)
    if instance is not None and not instance.running:
        return f"exited before it was ready: {instance.detail}"
    if observed.now_ms - record.launched_at_ms > desired.launch_timeout_s * 1000:
        return f"not ready after {desired.launch_timeout_s:g} s"
    return None


def _backed_off(observed: Observed, record: CellRecord) -> bool:
    """Whether enough time has passed since a launch that failed: 2 s, 4 s, … 60 s."""
    if not record.launch_failures:
        return True
    wait_ms = min(MAX_BACKOFF_MS, 1000 << min(record.launch_failures, 10))
    return observed.now_ms - record.launched_at_ms >= wait_ms


def _superfluous(desired: Desired, observed: Observed) -> Iterator[Action]:
    """Running instances that are neither admitted nor being launched."""
    for instance in observed.instances:
        if not instance.running:
            continue
        record = observed.cells.get(instance.cell_id)
        if instance.cell_id not in desired.cells or record is None:
            yield Stop(instance.cell_id, instance.generation, "no such cell")
        elif instance.generation not in (record.generation, record.launching):
            yield Stop(instance.cell_id, instance.generation, f"generation {record.generation} serves the cell")


def _map(desired: Desired, observed: Observed) -> Iterator[Action]:
    current = observed.slot_map
    if current is None or set(current.owners) != set(desired.cells):
        yield PublishMap(assign(current.owners if current else None, dict.fromkeys(desired.cells, 1.0)))


def _instance(observed: Observed, cell_id: str, generation: int) -> InstanceView | None:
    for instance in observed.instances:
        if instance.cell_id == cell_id and instance.generation == generation:
            return instance
    return None
