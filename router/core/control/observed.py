"""What the controller wants and what it observes at one moment: all that its decisions are made from. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TypeVar

from router.core.control.guards import are_many, why_shared
from router.core.control.twins import Trial
from router.core.detection.assessment import Assessment, Verdict
from router.core.detection.window import NOTHING_ANSWERED, AnsweredSums
from router.core.models import CellRecord, InstanceView, LeaseView, Reason, RouterView
from router.core.policy import NO_POLICY, Policy
from router.core.scaling.hot import CellUse
from router.core.scaling.seen import LoadSeen
from router.core.slot_map.slots import SlotMap

_View = TypeVar("_View", LeaseView, InstanceView)


@dataclass(frozen=True, slots=True)
class Desired:
    """Which cells there shall be, and how long their instances may take."""

    cells: tuple[str, ...]
    can_launch: bool  # False: something else (compose, ECS) starts the workers; the controller only admits them
    launch_timeout_s: float = 30.0
    warm_up_s: float = 60.0  # how long a new instance may be slow


@dataclass(frozen=True, slots=True)
class Health:
    """What is measured of a cell's admitted instance."""

    assessment: Assessment
    well_ms: int  # for how long nothing has been wrong with it
    watched_ms: int = 0  # for how long this leader has watched it
    answers: AnsweredSums = NOTHING_ANSWERED  # since the last step of a release that runs, and since it was warm

    @property
    def calm(self) -> bool:
        """Whether nothing speaks against the instance."""
        found = self.assessment
        return found.verdict is Verdict.HEALTHY and found.looks_slow is None and not found.canary_failures


class Suspension(StrEnum):
    """What suspends automation: while one of these lasts, nothing is done about any sick cell."""

    BLIND = "blind"  # what is measured can't be trusted
    SHARED = "shared"  # many cells are sick at once, so the cause is something that they share


@dataclass(frozen=True)
class Observed:
    """What there is at one moment by the registry's clock. What follows from it is computed once, on first use."""

    now_ms: int
    cells: Mapping[str, CellRecord]
    leases: tuple[LeaseView, ...]
    instances: tuple[InstanceView, ...]
    slot_map: SlotMap | None
    leases_trusted: bool  # False without evidence that leases can be renewed: then a missing one says nothing
    policy: Policy = NO_POLICY
    routers: tuple[RouterView, ...] = ()
    may_found: bool = True  # nobody remembers an older map, so the first one may be made
    health: Mapping[str, Health] = field(default_factory=dict)  # by cell; a cell that nothing is known of is missing
    hold_queues: Collection[str] = ()  # the cells that have one, as last looked for; also those that nobody remembers
    why_blind: Reason | None = None  # why what is measured can't be trusted
    trials: Mapping[str, Trial] = field(default_factory=dict)  # by cell, those that go on now
    load: LoadSeen | None = None  # on all cells, since anything was changed; None: nothing was seen of it
    uses: Mapping[str, CellUse] = field(default_factory=dict)  # by cell, of the last whole period of scaling
    why_load_unknown: Reason | None = None  # why nothing is known of the load now
    rested: bool = True  # the last move ended long enough ago to show whether its cells are well

    def lease(self, cell_id: str, generation: int) -> LeaseView | None:
        """Find the lease of one instance, live or ended."""
        return next((lease for lease in self.leases_of(cell_id) if lease.generation == generation), None)

    def instance(self, cell_id: str, generation: int) -> InstanceView | None:
        """Find one instance as its provisioner sees it, running or ended."""
        return next((found for found in self.instances_of(cell_id) if found.generation == generation), None)

    def leases_of(self, cell_id: str) -> Sequence[LeaseView]:
        """List the leases of all instances of a cell."""
        return self._leases.get(cell_id, ())

    def instances_of(self, cell_id: str) -> Sequence[InstanceView]:
        """List all instances of a cell that its provisioner knows."""
        return self._instances.get(cell_id, ())

    def serving(self, cell_id: str) -> LeaseView | None:
        """Find the lease of the cell's admitted instance; None while it takes no events."""
        record = self.cells.get(cell_id)
        lease = self.lease(cell_id, record.generation) if record is not None else None
        return lease if lease is not None and lease.live and lease.ready else None

    def silent(self, record: CellRecord) -> bool:
        """Tell whether the cell's admitted instance has no live lease."""
        lease = self.lease(record.cell_id, record.generation)
        return lease is None or not lease.live

    def mute(self, cell_id: str) -> bool:
        """Tell whether the cell's admitted instance answers neither events nor canaries well."""
        health = self.health.get(cell_id)
        return health is not None and health.assessment.verdict in (Verdict.HUNG, Verdict.FAILING)

    @cached_property
    def many_silent(self) -> bool:
        """Tell whether many running instances have no live lease: their machine sleeps, starves or is cut off."""
        cells = [cell for cell in self.cells.values() if cell.generation and not cell.retired]
        run = [cell for cell in cells if (i := self.instance(cell.cell_id, cell.generation)) and i.running]
        return are_many(sum(map(self.silent, run)), len(cells))

    @cached_property
    def many_look_slow(self) -> bool:
        """Tell whether so many cells look slow at once that it is something that they share."""
        return are_many(sum(each.assessment.looks_slow is not None for each in self.health.values()), len(self.health))

    @cached_property
    def why_suspended(self) -> Reason | None:
        """Say why nothing may be done about any sick cell; None when automation is not suspended."""
        return self.why_blind or why_shared({cell_id: health.assessment for cell_id, health in self.health.items()})

    @property
    def suspended_by(self) -> Suspension | None:
        """Name what suspends automation, in one word for metrics."""
        if self.why_blind is not None:
            return Suspension.BLIND
        return Suspension.SHARED if self.why_suspended is not None else None

    @cached_property
    def _leases(self) -> Mapping[str, list[LeaseView]]:
        return _by_cell(self.leases)

    @cached_property
    def _instances(self) -> Mapping[str, list[InstanceView]]:
        return _by_cell(self.instances)


def _by_cell(views: Iterable[_View]) -> Mapping[str, list[_View]]:
    found: defaultdict[str, list[_View]] = defaultdict(list)
    for view in views:
        found[view.cell_id].append(view)
    return found
