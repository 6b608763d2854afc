"""What people, and routers by themselves, have decided about keys and cells. One versioned value."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import msgspec

from router.core.models import CellRecord, Reason

MAX_WEIGHT: Final = 100.0
MAX_CELLS: Final = 1000


@dataclass(frozen=True, slots=True)
class TenantLimit:
    """What one key may use of a router; 0 for no limit."""

    rate_per_s: float = 0.0  # events, in the long run
    burst: int = 1  # events at once after a pause; counts only with a rate
    concurrency: int = 0  # events in flight at once


NO_LIMIT: Final = TenantLimit()


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Why a key's events are kept from its cell, and until when."""

    why: str
    since_ms: int
    until_ms: int = 0  # 0: until somebody releases it


class Order(StrEnum):
    """What a person can want done with a cell's instance."""

    REPLACE = "replace"  # launch the next one beside it, then swap the traffic
    EVICT = "evict"  # end it first, then launch the next one


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything decided, as of one version."""

    version: int = 0
    default: TenantLimit = NO_LIMIT  # of keys without a limit of their own
    limits: Mapping[str, TenantLimit] = field(default_factory=dict)
    quarantined: Mapping[str, Quarantine] = field(default_factory=dict)
    pins: Mapping[str, str] = field(default_factory=dict)  # key → the cell it belongs to, whatever its slot says
    weights: Mapping[str, float] = field(default_factory=dict)  # cell → its share beside the others' 1.0
    cordoned: frozenset[str] = frozenset()  # cells that get no more slots
    draining: frozenset[str] = frozenset()  # cells that lose all they have, and are cordoned too
    cells: int = 0  # how many there shall be; 0: as configured
    scaling_from: int = 0  # how many there were, while cells are added; to go back to when one of them is no good
    frozen: frozenset[str] = frozenset()  # cells whose instances nothing but a person's order touches
    ejected: frozenset[str] = frozenset()  # cells whose events wait in their hold queue
    to_replace: Mapping[str, int] = field(
        default_factory=dict
    )  # cell → its generations up to this one shall be replaced
    to_evict: Mapping[str, int] = field(default_factory=dict)  # likewise, ended before the next one is there

    def limit_of(self, key: str) -> TenantLimit:
        """The key's own limit, else the default one."""
        return self.limits.get(key, self.default)

    def in_quarantine(self, key: str, now_ms: int) -> Quarantine | None:
        """The key's quarantine, while it lasts."""
        found = self.quarantined.get(key)
        return found if found is not None and (not found.until_ms or now_ms < found.until_ms) else None

    def with_limit(self, key: str | None, limit: TenantLimit | None) -> Policy:
        """Another limit for a key, or for all others (key None); None takes it away."""
        if key is None:
            return replace(self, default=limit or NO_LIMIT)
        others = {k: v for k, v in self.limits.items() if k != key}
        return replace(self, limits=others if limit is None else others | {key: limit})

    def with_quarantine(self, key: str, quarantine: Quarantine | None, now_ms: int) -> Policy:
        """A key quarantined or released; those whose time is up leave too."""
        lasting = {k: v for k, v in self.quarantined.items() if k != key and self.in_quarantine(k, now_ms)}
        return replace(self, quarantined=lasting if quarantine is None else lasting | {key: quarantine})

    def with_pin(self, key: str, cell_id: str | None) -> Policy:
        """A key pinned to a cell; None: where its slot is."""
        others = {k: v for k, v in self.pins.items() if k != key}
        return replace(self, pins=others if cell_id is None else others | {key: cell_id})

    def with_weight(self, cell_id: str, weight: float) -> Policy:
        """Another share for a cell; 1 is every cell's own."""
        others = {k: v for k, v in self.weights.items() if k != cell_id}
        return replace(self, weights=others if weight == 1 else others | {cell_id: weight})

    def with_cordon(self, cell_id: str, *, drain: bool = False) -> Policy:
        """A cell that gets nothing more, and with `drain` loses what it has."""
        draining = self.draining | {cell_id} if drain else self.draining
        return replace(self, cordoned=self.cordoned | {cell_id}, draining=draining)

    def without_cordon(self, cell_id: str) -> Policy:
        """Neither cordoned nor draining any longer."""
        return replace(self, cordoned=self.cordoned - {cell_id}, draining=self.draining - {cell_id})

    def with_frozen(self, cell_id: str, *, frozen: bool) -> Policy:
        """A cell that is left as it is; or that is looked after again."""
        return replace(self, frozen=self.frozen | {cell_id} if frozen else self.frozen - {cell_id})

    def with_ejected(self, cell_id: str, *, ejected: bool) -> Policy:
        """A cell that gets no events; or that gets them again."""
        return replace(self, ejected=self.ejected | {cell_id} if ejected else self.ejected - {cell_id})

    def with_order(self, cell_id: str, generation: int, *, evict: bool) -> Policy:
        """A person wants another instance than this one."""
        orders = {**(self.to_evict if evict else self.to_replace), cell_id: generation}
        return replace(self, to_evict=orders) if evict else replace(self, to_replace=orders)

    def ordered_away(self, cell_id: str) -> int:
        """The highest generation of the cell that a person wants replaced; 0 for none."""
        return max(self.to_replace.get(cell_id, 0), self.to_evict.get(cell_id, 0))

    def order_for(self, record: CellRecord) -> Order | None:
        """What a person still wants done with the cell's admitted instance; None for nothing."""
        if not record.generation or record.generation > self.ordered_away(record.cell_id):
            return None
        return Order.EVICT if record.generation <= self.to_evict.get(record.cell_id, 0) else Order.REPLACE

    def finds_useless(self, record: CellRecord) -> bool:
        """Whether automation has ejected the cell; not while a person keeps automation away from it."""
        return record.treatment.ejected and record.cell_id not in self.frozen

    def ejects(self, record: CellRecord) -> bool:
        """Whether the cell's events wait in its hold queue, whoever has decided it."""
        return record.cell_id in self.ejected or self.finds_useless(record)

    def with_cells(self, count: int, now: int) -> Policy:
        """Another number of cells than the `now` of the moment."""
        return replace(self, cells=count, scaling_from=now if count > now else 0)


NO_POLICY: Final = Policy()


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the leader says to a proposed policy."""

    proposal_id: str
    accepted: bool
    reasons: tuple[Reason, ...] = ()  # why it was refused; none where only another change came first


def judge(
    proposal_id: str,
    wanted: Policy,
    current: Policy,
    cells: Collection[str],
    cells_now: Collection[str],
    *,
    can_launch: bool,
) -> tuple[Ruling, Policy]:
    """Rule on a policy that somebody wants: the ruling, and the policy that is in force from then on.

    `wanted` carries the version that it was made from; it is refused when that is not the current one any more.
    `cells` are the cells that there would be under `wanted`, `cells_now` those under `current`. `can_launch` is False
    where the controllers start no workers.
    """
    if wanted.version != current.version:
        return Ruling(proposal_id, accepted=False), current
    reasons = why_refused(wanted, current, cells, cells_now)
    if not can_launch:
        reasons += why_unlaunchable(wanted, current)
    if reasons:
        return Ruling(proposal_id, accepted=False, reasons=reasons), current
    return Ruling(proposal_id, accepted=True), replace(wanted, version=current.version + 1)


def why_refused(
    wanted: Policy, current: Policy, cells: Collection[str], cells_now: Collection[str]
) -> tuple[Reason, ...]:
    """Every reason against a change that the change itself brings; what is wrong already is not held against it."""
    already = set(why_invalid(current, cells_now))
    return tuple(reason for reason in why_invalid(wanted, cells) if reason not in already)


def why_unlaunchable(wanted: Policy, current: Policy) -> tuple[Reason, ...]:
    """One reason for each new order to replace an instance, where the controllers can launch none to replace it."""
    return tuple(
        f"{cell_id}: something else than the controllers starts the workers here, so none can be launched beside its "
        f"instance: start one there, or evict this one"
        for cell_id, generation in sorted(wanted.to_replace.items())
        if generation > current.ordered_away(cell_id)
    )


def why_invalid(policy: Policy, cells: Collection[str]) -> Iterator[Reason]:
    """Every reason why a policy can't be in force with these cells; none when it can."""
    for key, cell_id in sorted(policy.pins.items()):
        if cell_id not in cells:
            yield f"key {key!r} is pinned to {cell_id}, which is not one of the cells: unpin it first"
        elif cell_id in policy.draining:
            yield f"key {key!r} is pinned to {cell_id}, which is draining: unpin it, or pin it elsewhere, first"
    named = {*policy.weights, *policy.cordoned}
    for cell_id in sorted(named - set(cells)):
        yield f"{cell_id} has a weight or a cordon and is not one of the cells: take that back first"
    for cell_id in sorted((policy.frozen | policy.ejected) - set(cells)):
        yield f"{cell_id} is frozen or ejected and is not one of the cells: take that back first"
    for cell_id, weight in sorted(policy.weights.items()):
        if not 0 < weight <= MAX_WEIGHT:
            yield f"{cell_id}: a weight is above 0, at most {MAX_WEIGHT:g}, not {weight:g}; to empty a cell, drain it"
    if not set(cells) - policy.cordoned:
        yield "every cell is cordoned: none is left that could take slots"
    if policy.cells < 0 or policy.cells > MAX_CELLS:
        yield f"there are 1 to {MAX_CELLS} cells, not {policy.cells}"


def to_blob(policy: Policy) -> bytes:
    """As the registry keeps it."""
    return msgspec.json.encode(policy)


def from_blob(blob: bytes) -> Policy:
    """The inverse. Raises msgspec.DecodeError."""
    return msgspec.json.decode(blob, type=Policy)
