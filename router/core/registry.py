"""What the registry holds, and what is written to it at once: the records that the registry's port speaks of. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from router.core.detection.assessment import Assessment
from router.core.models import CellRecord, LeaseView, Reason, RouterView
from router.core.policy import NO_POLICY, Policy, Ruling
from router.core.slot_map.slots import SlotMap


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that somebody did, and why."""

    at_ms: int
    who: str
    action: str
    cell_id: str
    why: str


@dataclass(frozen=True)
class Snapshot:
    """All of the registry at one moment."""

    now_ms: int  # by the registry's own clock
    slot_map: SlotMap | None
    cells: Mapping[str, CellRecord]
    leases: tuple[LeaseView, ...]  # only those whose signature is right
    leader: str  # the owner of the live leader lease; empty for none
    policy: Policy = NO_POLICY
    routers: tuple[RouterView, ...] = ()

    def lease(self, cell_id: str, generation: int) -> LeaseView | None:
        """The lease of one instance."""
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
    """A policy that somebody wants in force, instead of the one of its version."""

    proposal_id: str
    policy: Policy
    audit: AuditEntry


@dataclass(frozen=True, slots=True)
class Petitions:
    """What others want of the leader."""

    proposals: tuple[Proposal, ...] = ()  # the oldest first
    slot_map: SlotMap | None = None  # the newest that a router remembers, when the registry's is older or gone
    policy: Policy | None = None  # the same router's


@dataclass(frozen=True, slots=True)
class Change:
    """What is written at once, or not at all."""

    cells: Sequence[CellRecord] = ()
    slot_map: SlotMap | None = None
    policy: Policy | None = None
    rulings: Sequence[Ruling] = ()
    audit: Sequence[AuditEntry] = ()  # the first is the policy's


CONDITION_FRESH_MS: Final = 5000  # the leader says it once a second; what it said longer ago says nothing of now


@dataclass(frozen=True, slots=True)
class Condition:
    """How a cell is, and what holds the controller back."""

    at_ms: int  # by the registry's clock
    generation: int
    assessment: Assessment
    why_untreated: Reason | None = None  # why nothing is done about it though it is sick, or would be if it were
