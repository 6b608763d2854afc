"""When a missing lease means a dead instance, when it only means trouble with the registry, and which lease is false.

A lease ends when its instance is dead, and also when the registry was away, has lost its data, or answers and takes no
writes: then every lease ends, though every cell is well. So an end counts only while there is evidence that a living
instance could have renewed: for as long as a lease lives, the registry was read without a gap, and this reader has seen
instances renew all the time. And most instances don't die at once: leases that end together count only later.

Nor does an instance ever take its lease away. One that is gone, or in whose place something false lies, was written
over by somebody else, such as a cell that was taken over: that says nothing about the instance that it belongs to.

Going on without a lease is safe. An instance ends itself only when the registry says that another has its cell, and
whatever the registry says, the cell's store takes no commit of a generation below the one that took it last. The
controller launches no successor for an ended lease that doesn't count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from router.core.control.guards import are_many
from router.core.models import CellRecord, InstanceView, LeaseView, Reason
from router.core.registry import Snapshot
from router.core.telemetry import LeaseRefusal

TOGETHER_MS: Final = 15_000
"""Instances whose leases ended together may come back for so long: what they share sleeps, starves or is cut off."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """The cells whose admitted instance has no live lease and may live all the same, and why."""

    cells: frozenset[str] = frozenset()
    why: Reason | None = None


NO_DOUBT: Final = Doubt()


class LeaseTrust:
    """Whether ended leases count, by everything that was read of the registry; times are monotonic seconds.

    An instance renews four times in its lease's life. Without a renewal of any for half of that, none can be renewed.
    """

    def __init__(self, lease_ttl_s: float) -> None:
        self._ttl_s = lease_ttl_s
        self._since: float | None = None
        self._read_at = self._renewed_at = 0.0
        self._beats: Mapping[tuple[str, int, str], int] = {}

    def read(self, now: float, leases: Iterable[LeaseView], *, whole: bool) -> None:
        """Note what the registry answered; `whole` tells whether it had everything that it should hold."""
        beats = {(lease.cell_id, lease.generation, lease.instance_id): lease.beat for lease in leases}
        if any(self._beats.get(who) != beat for who, beat in beats.items()):
            self._renewed_at = now
        if self._since is None or now - min(self._read_at, self._renewed_at) > self._ttl_s / 2 or not whole:
            self._since = now
        self._beats, self._read_at = beats, now

    def trusted(self, now: float) -> bool:
        """Tell whether a lease that has ended means an instance that is gone."""
        return self._since is not None and now - self._since >= self._ttl_s


def doubt(snapshot: Snapshot, *, trusted: bool) -> Doubt:
    """Pick the cells that may live although their lease has ended; `trusted` says that an end counts by itself."""
    admitted = [cell for cell in snapshot.cells.values() if cell.generation and not cell.retired]
    silent = [cell for cell in admitted if not ((lease := _lease(snapshot, cell)) and (lease.live or lease.released))]
    if not trusted:
        why = "no lease was renewed for a while, so the end of one says nothing about its instance"
    elif are_many(len(silent), len(admitted)):
        silent = [cell for cell in silent if not (lease := _lease(snapshot, cell)) or lease.ended_ms < TOGETHER_MS]
        why = f"the leases of {len(silent)} of {len(admitted)} cells ended together"
    else:
        silent = [cell for cell in silent if (lease := _lease(snapshot, cell)) and lease.missing]
        why = f"the leases of {len(silent)} cells were taken away or written over, which no instance does: see who may"
    return Doubt(frozenset(cell.cell_id for cell in silent), why) if silent else NO_DOUBT


def _lease(snapshot: Snapshot, cell: CellRecord) -> LeaseView | None:
    return snapshot.lease(cell.cell_id, cell.generation)


def refused_leases(
    leases: Iterable[LeaseView], instances: Mapping[tuple[str, int], InstanceView]
) -> dict[LeaseView, LeaseRefusal]:
    """Pick the leases that the provisioner contradicts by its `instances`, by cell and generation.

    A provisioner that knows no addresses contradicts nobody.
    """
    if not any(instance.address for instance in instances.values()):
        return {}
    found = {lease: why_refused(lease, instances.get((lease.cell_id, lease.generation))) for lease in leases}
    return {lease: fault for lease, fault in found.items() if fault is not None}


def why_refused(lease: LeaseView, instance: InstanceView | None) -> LeaseRefusal | None:
    """Say why a live lease is not that of the instance which was launched for it; None when nothing is against it.

    A provisioner that has addresses knows where it has put an instance. A lease from elsewhere, or of an instance that
    the provisioner never started, is false though its signature is right.
    """
    if not lease.live:
        return None
    if instance is None:
        return LeaseRefusal.UNKNOWN
    return LeaseRefusal.ADDRESS if instance.address not in ("", lease.address) else None
