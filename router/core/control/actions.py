"""What the controller sees, wants and may do: the nouns of `reconcile` and `moves`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from router.core.control.guards import are_many, shared_trouble
from router.core.detection.assessment import Assessment
from router.core.models import CellRecord, InstanceView, LeaseView, RouterView, Treatment
from router.core.policy import NO_POLICY, Policy
from router.core.slot_map.slots import SlotMap

_View = TypeVar("_View", LeaseView, InstanceView)


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be there."""

    cells: tuple[str, ...]
    can_launch: bool  # False: something else (compose, ECS) starts the workers; the controller only admits them
    launch_timeout_s: float = 30.0
    warm_up_s: float = 60.0  # so long a new instance may be slow


@dataclass(frozen=True, slots=True)
class Health:
    """What is measured of a cell's admitted instance."""

    assessment: Assessment
    well_ms: int  # for how long nothing has been wrong with it


@dataclass(frozen=True)
class Observed:
    """What is there, by the registry's clock. What follows from it is worked out once, when it is first asked for."""

    now_ms: int
    cells: Mapping[str, CellRecord]
    leases: tuple[LeaseView, ...]
    instances: tuple[InstanceView, ...]
    slot_map: SlotMap | None
    leases_trusted: (
        bool  # False: the registry was out of reach or lost its data lately, so a missing lease says nothing
    )
    policy: Policy = NO_POLICY
    routers: tuple[RouterView, ...] = ()
    may_found: bool = True  # nobody knows of an older map, so the first one may be made
    health: Mapping[str, Health] = field(default_factory=dict)  # by cell; none of those that nothing is known of
    blind: str = ""  # why what is measured can't be trusted; empty when it can
    rested: bool = True  # the last move is so long ago that its cells would have shown what is wrong with them

    def lease(self, cell_id: str, generation: int) -> LeaseView | None:
        """The lease of one instance."""
        return next((lease for lease in self.leases_of(cell_id) if lease.generation == generation), None)

    def instance(self, cell_id: str, generation: int) -> InstanceView | None:
        """The same as its provisioner sees it."""
        return next((found for found in self.instances_of(cell_id) if found.generation == generation), None)

    def leases_of(self, cell_id: str) -> Sequence[LeaseView]:
        """All of the cell's."""
        return self._leases.get(cell_id, ())

    def instances_of(self, cell_id: str) -> Sequence[InstanceView]:
        """All of the cell's."""
        return self._instances.get(cell_id, ())

    def serving(self, cell_id: str) -> LeaseView | None:
        """The lease of the cell's admitted instance while it takes events."""
        record = self.cells.get(cell_id)
        lease = self.lease(cell_id, record.generation) if record is not None else None
        return lease if lease is not None and lease.live and lease.ready else None

    def silent(self, record: CellRecord) -> bool:
        """Whether the cell's admitted instance has no live lease."""
        lease = self.lease(record.cell_id, record.generation)
        return lease is None or not lease.live

    @cached_property
    def many_silent(self) -> bool:
        """Whether many instances that run have no live lease: their machine sleeps, starves or is cut off."""
        cells = [cell for cell in self.cells.values() if cell.generation and not cell.retired]
        run = [cell for cell in cells if (i := self.instance(cell.cell_id, cell.generation)) and i.running]
        return are_many(sum(map(self.silent, run)), len(cells))

    @cached_property
    def trouble(self) -> str:
        """Why nothing may be done about any sick cell; empty when something may."""
        return self.blind or shared_trouble({cell_id: health.assessment for cell_id, health in self.health.items()})

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


@dataclass(frozen=True, slots=True)
class CreateCell:
    """Make the cell's durable components and its record; or take a retired one back."""

    cell_id: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Start an instance with the cell's next generation, above all that were ever seen."""

    cell_id: str
    why: str
    above: int = 0


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take an instance that runs without our knowledge for the one being launched."""

    cell_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Admit:
    """Verify this generation by a canary, and then give it the cell's traffic."""

    cell_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class GiveUpLaunch:
    """The instance being launched won't come; count it and back off."""

    cell_id: str
    generation: int
    why: str


@dataclass(frozen=True, slots=True)
class Verify:
    """Send a canary through the instance; a cell gets its first slots only after that."""

    cell_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End an instance that no longer is, or never was, the cell's own."""

    cell_id: str
    generation: int
    why: str


@dataclass(frozen=True, slots=True)
class Treat:
    """Put the cell on this rung, and do what the rung is for."""

    cell_id: str
    treatment: Treatment
    why: str


@dataclass(frozen=True, slots=True)
class Retire:
    """The cell is none any more: it owns nothing, and its instances are ended."""

    cell_id: str


@dataclass(frozen=True, slots=True)
class PublishMap:
    """Put this map in force, in a new epoch."""

    slot_map: SlotMap  # its epoch doesn't count
    action: str  # for the audit
    why: str


@dataclass(frozen=True, slots=True)
class RaiseFence:
    """From now on the cell's instances take only batches of routers that know this epoch."""

    cell_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class EndScaling:
    """The added cells are in their places; or they are no good, and `cells` is what there was before."""

    cells: int
    why: str


Action = (
    CreateCell
    | Launch
    | Adopt
    | Admit
    | GiveUpLaunch
    | Verify
    | Stop
    | Treat
    | Retire
    | PublishMap
    | RaiseFence
    | EndScaling
)
