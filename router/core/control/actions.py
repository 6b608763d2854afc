"""The actions that the controller may take, each with all that is needed to carry it out. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from router.core.models import Reason, Treatment
from router.core.release import Release, ReleaseAction
from router.core.slot_map.slots import SlotMap


@dataclass(frozen=True, slots=True)
class CreateCell:
    """Make the cell's durable components and its record, or take a retired cell back."""

    cell_id: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Start an instance with the cell's next generation, above all that were ever seen."""

    cell_id: str
    why: Reason
    above: int = 0
    image: str = ""  # empty: whatever the provisioner launches by itself


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take an instance that runs without our knowledge for the one being launched."""

    cell_id: str
    generation: int
    image: str = ""  # that it runs; empty where that is not known


@dataclass(frozen=True, slots=True)
class Admit:
    """Verify this generation by a canary, and then give it the cell's traffic."""

    cell_id: str
    generation: int
    why: Reason | None = None  # what its trial has shown, where there was one


@dataclass(frozen=True, slots=True)
class DismissTwin:
    """Keep the cell's instance, since its twin is no faster; the twin is ended after that."""

    cell_id: str
    generation: int  # of the twin
    why: Reason


@dataclass(frozen=True, slots=True)
class GiveUpLaunch:
    """Count the instance being launched as a failure, and wait before the next launch."""

    cell_id: str
    generation: int
    why: Reason


@dataclass(frozen=True, slots=True)
class Verify:
    """Send a canary through the admitted instance; a cell gets its first slots only after that."""

    cell_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End an instance that no longer is, or never was, the cell's own."""

    cell_id: str
    generation: int
    why: Reason


@dataclass(frozen=True, slots=True)
class Treat:
    """Put the cell on the treatment's rung, and do what the rung is for."""

    cell_id: str
    treatment: Treatment


@dataclass(frozen=True, slots=True)
class Retire:
    """Take a cell out of service that owns no slots and no keys any more; its instances are ended after that.

    A cell that the registry has forgotten is written down as retired: so routers empty its hold queue.
    """

    cell_id: str


@dataclass(frozen=True, slots=True)
class PublishMap:
    """Put this slot map in force, in a new epoch."""

    slot_map: SlotMap  # its epoch doesn't count
    action: str  # its name in the audit stream
    why: Reason


@dataclass(frozen=True, slots=True)
class RaiseFence:
    """Let the cell's instances take only batches of routers that know this epoch."""

    cell_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class ChangeCells:
    """Want another number of cells, as a person does by `scale`: the load asks for one more, or for one fewer."""

    cells: int
    now: int  # how many there are
    why: Reason


@dataclass(frozen=True, slots=True)
class MoveSlot:
    """Want a slot in another cell than where it is: it fills its cell, and that one has room."""

    slot: int
    cell_id: str
    why: Reason


@dataclass(frozen=True, slots=True)
class EndScaling:
    """End a change of the number of cells: all have their slots, or the added cells are no good and are dropped."""

    cells: int  # how many there are from now on
    why: Reason


@dataclass(frozen=True, slots=True)
class StepRelease:
    """Write down how far a release has come; once it has ended, `image` is the one that all cells have."""

    release: Release
    image: str
    action: ReleaseAction
    why: Reason


Action = (
    CreateCell
    | Launch
    | Adopt
    | Admit
    | DismissTwin
    | GiveUpLaunch
    | Verify
    | Stop
    | Treat
    | Retire
    | PublishMap
    | RaiseFence
    | ChangeCells
    | MoveSlot
    | EndScaling
    | StepRelease
)
