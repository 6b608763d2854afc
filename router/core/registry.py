"""The records that the registry's port speaks of: what the registry holds, and what is written to it in one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import ceil
from typing import Final

from router.core.detection.assessment import Assessment, Verdict
from router.core.models import CellRecord, LeaseView, Reason, RouterView, Whole
from router.core.policy import NO_POLICY, Policy, Ruling
from router.core.scaling.decision import ScalingDecision
from router.core.slot_map.slots import SlotMap


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that a person, a router or a controller did, and why."""

    at_ms: Whole  # since 1970
    who: str
    action: str
    cell_id: str  # empty where it is about no single cell
    why: str
    back_to: Whole | None = None  # of an undo: what people changed since this version of the policy it took back


class RouterAction(StrEnum):
    """What routers do with the policy by themselves, as the audit stream calls it."""

    QUARANTINE = "quarantine key"
    ASIDE = "aside"


class DrillAction(StrEnum):
    """What the audit stream has of drills; what they do to the policy they take back by themselves."""

    BEGUN = "drill"
    REFUSED = "drill refused"  # after it had begun, and before anything was done
    ENDED = "drill ended"
    DRAINED = "drill drain"
    UNCORDONED = "drill uncordon"


class ScalingAction(StrEnum):
    """What the leader does to the number of cells by itself, as the audit stream calls it."""

    OUT = "scale out"
    IN = "scale in"
    END = "end scaling"
    MOVE = "move hot slot"


@dataclass(frozen=True)
class Snapshot:
    """Everything that routing depends on, as the registry had it at one moment."""

    now_ms: int  # since 1970, by the registry's own clock
    slot_map: SlotMap | None
    cells: Mapping[str, CellRecord]
    leases: tuple[LeaseView, ...]  # the trusted ones, live or not
    leader: str  # the controller that leads; empty for none
    policy: Policy = NO_POLICY
    routers: tuple[RouterView, ...] = ()
    cushioned: frozenset[str] = frozenset()  # cells that shall get no more at once than usual, as the leader has it

    def lease(self, cell_id: str, generation: int) -> LeaseView | None:
        """Return the lease of one instance; None where it has none."""
        return self._leases.get((cell_id, generation))

    @cached_property
    def _leases(self) -> Mapping[tuple[str, int], LeaseView]:
        return {(lease.cell_id, lease.generation): lease for lease in self.leases}


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A policy that is or was in force, and how it came to be."""

    policy: Policy
    audit: AuditEntry


@dataclass(frozen=True, slots=True)
class Proposal:
    """A policy that somebody wants in force; its version is the one that it was made from."""

    proposal_id: str
    policy: Policy
    audit: AuditEntry


@dataclass(frozen=True, slots=True)
class Petitions:
    """What routers and people want of the leader."""

    proposals: tuple[Proposal, ...] = ()  # oldest first
    slot_map: SlotMap | None = None  # the newest that a router remembers, where the registry's is older or gone
    policy: Policy | None = None  # that this router remembers


@dataclass(frozen=True, slots=True)
class Change:
    """What is written in one step, all of it or nothing."""

    cells: Sequence[CellRecord] = ()
    slot_map: SlotMap | None = None
    policy: Policy | None = None
    rulings: Sequence[Ruling] = ()
    audit: Sequence[AuditEntry] = ()  # with a policy, the first entry is about it


CONDITION_FRESH_MS: Final = 5000
"""The leader writes conditions once a second; an older one says nothing about now."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How a cell is, and what keeps the controller from treating it."""

    at_ms: Whole  # by the registry's clock
    generation: Whole
    assessment: Assessment
    why_untreated: Reason | None = None  # why nothing is done about it though it is sick, or would be if it were
    trial: Reason | None = None  # what its instance's trial beside its twin shows by now; None: there is no trial
    cushion: Reason | None = None  # why routers shall send it no more at once than usual; None: they need not
    scaling: ScalingDecision | None = None  # of all cells: why there are as many; None: their number follows no load

    @property
    def well(self) -> bool:
        """Whether there is nothing to tell of the cell but its figures."""
        return self.assessment.verdict is Verdict.HEALTHY and self.cushion is None and self.trial is None

    def tells_as(self, other: Condition) -> bool:
        """Tell whether another condition, also of a cell that is well, differs in nothing but figures."""
        mine, others = self.assessment, other.assessment
        same = mine.slow_paths == others.slow_paths and mine.observations == others.observations
        same = same and self.generation == other.generation
        return same and self.well and other.well and (self.why_untreated is None) == (other.why_untreated is None)


FIGURES_EACH_TIME: Final = 50
"""Cells that are well of which the leader tells figures at once. Of more, they take turns: each says 1.4 kB."""


def worth_telling(
    told: Mapping[str, Condition], conditions: Mapping[str, Condition], turn: int
) -> Mapping[str, Condition]:
    """Return which conditions to write after those that were told: all that is new, and some cells' figures in turn."""
    turns = max(1, ceil(len(conditions) / FIGURES_EACH_TIME))
    return {
        cell_id: condition
        for place, (cell_id, condition) in enumerate(conditions.items())
        if (place + turn) % turns == 0 or (before := told.get(cell_id)) is None or not condition.tells_as(before)
    }
