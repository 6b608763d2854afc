"""The policy: one versioned value with everything that people and routers have decided about keys and cells.

Also the leader's ruling on a policy that somebody proposes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import msgspec

from router.core.fairness.turns import AS_ALL, Fairness, why_bad_fairness
from router.core.models import MAX_WHOLE, CellRecord, Reason, Whole, cell_ids
from router.core.release import Release, ruled, why_bad_release, why_not_now
from router.core.scaling.wanted import MAX_CELL_RATE, MIN_CELL_RATE, Scaling, why_bad_scaling

MIN_RATE: Final = 1e-6
"""The lowest rate that a key can have, in events a second: one event in twelve days."""
MAX_RATE: Final = 1e6  # events a second, far more than a router passes
MAX_BURST: Final = 1_000_000
MAX_CONCURRENCY: Final = 1_000_000
MIN_WEIGHT: Final = 0.001
"""The least weight of a cell; with less it would get no slot beside cells of the usual weight, 1."""
MAX_WEIGHT: Final = 100.0
MAX_CELLS: Final = 1000
MAX_SLOT: Final = 16383  # the last one of a slot map
MAX_HOMES: Final = 256  # slots that scaling has moved
MAX_KEYS: Final = 10_000  # with limits of their own; as many pinned, and as many in quarantine
MAX_KEY_CHARS: Final = 1024  # as long as the key of any event can be
MAX_WHY_CHARS: Final = 4000
MAX_KILLED: Final = 16  # generations remembered of those that a key killed: with fewer its quarantine is the longest
MAX_DIGEST_CHARS: Final = 16
REMEMBERED_MS: Final = 24 * 3600 * 1000
"""How long after its quarantine a key's kills are remembered: a killer that comes daily begins anew, no other does."""
MAX_TIME_MS: Final = 253_402_300_799_000  # the end of the year 9999, after which no date can be shown
_SHOWN: Final = 10**18  # a larger number is not written out: it may have any number of digits


@dataclass(frozen=True, slots=True)
class TenantLimit:
    """What one key may use of each router; 0 stands for no limit."""

    rate_per_s: float = 0.0  # events a second, in the long run
    burst: int = 1  # how many events may come at once after a pause; used only with a rate
    concurrency: int = 0  # how many events may be in flight at once


NO_LIMIT: Final = TenantLimit()


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Why a key's events are kept from its cell, and from when until when, in ms since 1970."""

    why: Reason
    since_ms: Whole
    until_ms: Whole = 0  # 0: until a person releases the key
    killed: tuple[Whole, ...] = ()  # generations of its cell that the key killed so far, lowest first
    event: str = ""  # a digest of the id of the event that killed the last one; empty where that is not known
    by_event: tuple[Whole, ...] = ()  # those that this event killed


class FifoHead(StrEnum):
    """What becomes of the head of a FIFO group that has killed as many instances as an event may."""

    STOP = "stop"  # it stays, and its group waits until a person releases the key
    SKIP = "skip"  # it is dead-lettered, and its group goes on


class Order(StrEnum):
    """What a person can want done with a cell's instance."""

    REPLACE = "replace"  # launch the next one beside it, then swap the traffic
    EVICT = "evict"  # end it first, then launch the next one


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that is decided, as of one version; every change makes another policy."""

    version: Whole = 0
    default: TenantLimit = NO_LIMIT  # of keys without a limit of their own
    limits: Mapping[str, TenantLimit] = field(default_factory=dict)
    quarantined: Mapping[str, Quarantine] = field(default_factory=dict)
    pins: Mapping[str, str] = field(default_factory=dict)  # key → its cell, whatever its slot says
    weights: Mapping[str, float] = field(default_factory=dict)  # cell → its share of the slots; 1.0 for cells not named
    cordoned: frozenset[str] = frozenset()  # cells that get no more slots
    draining: frozenset[str] = frozenset()  # cells that lose all their slots; each is cordoned too
    cells: Whole = 0  # how many cells there shall be; 0: as configured
    scaling_from: Whole = 0  # while cells are added: how many there were, to go back to when an added one fails
    frozen: frozenset[str] = frozenset()  # cells whose instances only a person's order touches
    ejected: frozenset[str] = frozenset()  # cells whose events wait in their hold queue, by a person's order
    # cell → the generation up to which its instances shall be replaced: after the next one is there, or before
    to_replace: Mapping[str, Whole] = field(default_factory=dict)
    to_evict: Mapping[str, Whole] = field(default_factory=dict)
    aside: frozenset[Whole] = frozenset()  # slots whose FIFO groups shall go through the aside queue
    fifo_head: FifoHead = FifoHead.STOP  # what becomes of the head of a FIFO group that killed too many instances
    image: str = ""  # that all cells have once no release runs; empty: whatever their provisioner launches by itself
    release: Release | None = None  # the last one, whether it runs or has ended
    scaling: Scaling | None = None  # how the number of cells follows the load; None: it follows none
    homes: Mapping[Whole, str] = field(default_factory=dict)  # slot → the cell that scaling has moved it to
    fairness: Mapping[str, Fairness] = field(default_factory=dict)  # key → how it takes turns; others as AS_ALL says

    def limit_of(self, key: str) -> TenantLimit:
        """Return the key's own limit, or the default one where it has none."""
        return self.limits.get(key, self.default)

    def cell_rate(self) -> float:
        """Return how many events a second a cell gets at most, of all routers together; 0.0 for any number."""
        rate = self.scaling.cell_rate if self.scaling is not None else 0.0
        return min(MAX_CELL_RATE, max(MIN_CELL_RATE, rate)) if rate > 0 else 0.0

    def killed_by(self, key: str, now_ms: int) -> tuple[int, ...]:
        """Return the generations that a key has killed, lowest first, as long as that is remembered."""
        found = self.quarantined.get(key)
        if found is None or (found.until_ms and now_ms >= found.until_ms + REMEMBERED_MS):
            return ()
        return found.killed

    def in_quarantine(self, key: str, now_ms: int) -> Quarantine | None:
        """Return the key's quarantine while it lasts; None outside of it."""
        found = self.quarantined.get(key)
        return found if found is not None and (not found.until_ms or now_ms < found.until_ms) else None

    def with_limit(self, key: str | None, limit: TenantLimit | None) -> Policy:
        """Give a key a limit, or all keys without one of their own (key None); limit None takes it away."""
        if key is None:
            return replace(self, default=limit or NO_LIMIT)
        others = {k: v for k, v in self.limits.items() if k != key}
        return replace(self, limits=others if limit is None else others | {key: limit})

    def with_fairness(self, key: str, fairness: Fairness) -> Policy:
        """Have a key take turns so; as all others with AS_ALL."""
        others = {k: v for k, v in self.fairness.items() if k != key}
        return replace(self, fairness=others if fairness == AS_ALL else others | {key: fairness})

    def with_quarantine(self, key: str, quarantine: Quarantine | None, now_ms: int) -> Policy:
        """Quarantine a key, or release it with None; drops the quarantines that have ended and killed nothing as well.

        Those that have killed are dropped when that is not remembered any longer, or when there are too many.
        """
        others = {k: v for k, v in self.quarantined.items() if k != key}
        lasting = {k: v for k, v in others.items() if self.in_quarantine(k, now_ms) or self.killed_by(k, now_ms)}
        if len(lasting) >= MAX_KEYS:
            lasting = {k: v for k, v in lasting.items() if self.in_quarantine(k, now_ms)}
        return replace(self, quarantined=lasting if quarantine is None else lasting | {key: quarantine})

    def with_pin(self, key: str, cell_id: str | None) -> Policy:
        """Pin a key to a cell, or unpin it with None."""
        others = {k: v for k, v in self.pins.items() if k != key}
        return replace(self, pins=others if cell_id is None else others | {key: cell_id})

    def with_weight(self, cell_id: str, weight: float) -> Policy:
        """Give a cell another share of the slots; 1 takes its special share away."""
        others = {k: v for k, v in self.weights.items() if k != cell_id}
        return replace(self, weights=others if weight == 1 else others | {cell_id: weight})

    def with_cordon(self, cell_id: str, *, drain: bool = False) -> Policy:
        """Give a cell no more slots; with `drain` take those away that it has."""
        draining = self.draining | {cell_id} if drain else self.draining
        return replace(self, cordoned=self.cordoned | {cell_id}, draining=draining)

    def without_cordon(self, cell_id: str) -> Policy:
        """Let a cell that was cordoned or drained have its share again."""
        return replace(self, cordoned=self.cordoned - {cell_id}, draining=self.draining - {cell_id})

    def with_frozen(self, cell_id: str, *, frozen: bool) -> Policy:
        """Freeze a cell, or unfreeze it: automation touches no instance of a frozen one."""
        return replace(self, frozen=self.frozen | {cell_id} if frozen else self.frozen - {cell_id})

    def with_ejected(self, cell_id: str, *, ejected: bool) -> Policy:
        """Eject a cell, or readmit it: the events of an ejected one wait in its hold queue."""
        return replace(self, ejected=self.ejected | {cell_id} if ejected else self.ejected - {cell_id})

    def with_order(self, cell_id: str, generation: int, *, evict: bool) -> Policy:
        """Order all instances of a cell up to this generation replaced, or evicted."""
        orders = {**(self.to_evict if evict else self.to_replace), cell_id: generation}
        return replace(self, to_evict=orders) if evict else replace(self, to_replace=orders)

    def ordered_up_to(self, cell_id: str) -> int:
        """Return the highest generation of the cell that a person wants replaced or evicted; 0 for none."""
        return max(self.to_replace.get(cell_id, 0), self.to_evict.get(cell_id, 0))

    def order_for(self, record: CellRecord) -> Order | None:
        """Return what a person still wants done with the cell's admitted instance; None for nothing."""
        if not record.generation or record.generation > self.ordered_up_to(record.cell_id):
            return None
        return Order.EVICT if record.generation <= self.to_evict.get(record.cell_id, 0) else Order.REPLACE

    def ejected_by_ladder(self, record: CellRecord) -> bool:
        """Return whether the ladder has ejected the cell; False while a person has frozen it."""
        return record.treatment.ejected and record.cell_id not in self.frozen

    def ejects(self, record: CellRecord) -> bool:
        """Return whether the cell's events wait in its hold queue, ejected by a person or by the ladder."""
        return record.cell_id in self.ejected or self.ejected_by_ladder(record)

    def image_for(self, record: CellRecord) -> str:
        """Return the image of the cell's next instance; empty for whatever its provisioner launches by itself."""
        running = self.release is not None and self.release.runs
        return self.release.image_for(record.image) if running and self.release is not None else self.image

    def with_cells(self, count: int, now: int) -> Policy:
        """Want `count` cells where there are `now`; what was moved to a cell that goes has no home any more."""
        stay = cell_ids(count)
        homes = {slot: cell_id for slot, cell_id in self.homes.items() if cell_id in stay}
        return replace(self, cells=count, scaling_from=now if count > now else 0, homes=homes)


NO_POLICY: Final = Policy()


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the leader says to a proposed policy: accepted or refused, and why."""

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
    generations: Mapping[str, int],
    takes_images: bool = False,
    warm_up_s: float = 0.0,
) -> tuple[Ruling, Policy]:
    """Rule on a policy that somebody wants: the ruling, and the policy that is in force from then on.

    `wanted` carries the version that it was made from; it is refused when that is not the current one any more.
    `cells` are the cells that there would be under `wanted`, `cells_now` those under `current`. `can_launch` is False
    where the controllers start no workers, `takes_images` where they start no images. `generations` has the highest
    generation so far of each cell, `warm_up_s` is the time in which a new instance may be slow.
    """
    if wanted.version != current.version:
        return Ruling(proposal_id, accepted=False), current
    reasons = why_refused(wanted, current, cells, cells_now) + why_premature(wanted, current, generations)
    if not can_launch:
        reasons += why_unlaunchable(wanted, current)
    reasons += why_not_now(
        wanted.release, current.release, current.image, takes_images=takes_images, warm_up_s=warm_up_s
    )
    if reasons:
        return Ruling(proposal_id, accepted=False, reasons=reasons), current
    version = current.version + 1
    release = ruled(wanted.release, current.release, version)
    return Ruling(proposal_id, accepted=True), replace(wanted, version=version, image=current.image, release=release)


def why_refused(
    wanted: Policy, current: Policy, cells: Collection[str], cells_now: Collection[str]
) -> tuple[Reason, ...]:
    """Every reason against a change that the change itself brings; what is wrong already does not count."""
    already = set(why_invalid(current, cells_now))
    return tuple(reason for reason in why_invalid(wanted, cells) if reason not in already)


def why_unlaunchable(wanted: Policy, current: Policy) -> tuple[Reason, ...]:
    """One reason for each new wish that takes new instances, where the controllers can launch none."""
    scaling = ["something else than the controllers starts the workers here, so their number can't follow the load"]
    return tuple(scaling * (wanted.scaling is not None and current.scaling is None)) + tuple(
        f"{cell_id}: something else than the controllers starts the workers here, so none can be launched beside its "
        f"instance: start one there, or evict this one"
        for cell_id, generation in sorted(wanted.to_replace.items())
        if generation > current.ordered_up_to(cell_id)
    )


def why_premature(wanted: Policy, current: Policy, generations: Mapping[str, int]) -> tuple[Reason, ...]:
    """One reason for each new order that names a generation which no instance of its cell has had yet.

    Such an order would end every instance of the cell until one has that generation.
    """
    return tuple(
        f"{cell_id}: an order can't name generation {_text(generation)}, which it never had"
        for orders in (wanted.to_replace, wanted.to_evict)
        for cell_id, generation in sorted(orders.items())
        if generation > max(current.ordered_up_to(cell_id), generations.get(cell_id, 0))
    )


def why_invalid(policy: Policy, cells: Collection[str]) -> Iterator[Reason]:
    """Every reason why a policy can't be in force with these cells; none when it can."""
    for key, cell_id in sorted(policy.pins.items()):
        if cell_id not in cells:
            yield f"key {key!r} is pinned to {cell_id}, which is not one of the cells: unpin it first"
        elif cell_id in policy.draining:
            yield f"key {key!r} is pinned to {cell_id}, which is draining: unpin it, or pin it elsewhere, first"
    for said, named, back in _named_cells(policy):
        for cell_id in sorted(set(named) - set(cells)):
            yield f"{cell_id} {said} and is not one of the cells: cellrouter {back.format(cell_id)} first"
    for cell_id in sorted(policy.draining - policy.cordoned):
        yield f"{cell_id} is draining and not cordoned: cordon it too"
    if not set(cells) - policy.cordoned:
        yield "every cell is cordoned: none is left that could take slots"
    found = policy.scaling
    if found is not None and not found.min_cells <= len(cells) <= found.max_cells:
        yield (
            f"scaling keeps {_text(found.min_cells)} to {_text(found.max_cells)} cells, not {len(cells)}: cellrouter "
            f"apply scaling with other bounds, or apply no-scaling, first"
        )
    yield from _why_out_of_bounds(policy)


def _named_cells(policy: Policy) -> Iterator[tuple[str, Collection[str], str]]:
    """What the policy says of cells by their names, of which, and what takes it back."""
    yield "has a weight", policy.weights, "apply weight {} 1"
    yield "is draining", policy.draining, "apply uncordon {}"
    yield "is cordoned", policy.cordoned - policy.draining, "apply uncordon {}"
    yield "is frozen", policy.frozen, "unfreeze {}"
    yield "is ejected", policy.ejected, "readmit {}"


def _why_out_of_bounds(policy: Policy) -> Iterator[Reason]:
    """Every number, length and count of the policy with which it would hurt a router or a controller."""
    # A comparison with NaN is always false, so each condition says what is good.
    if not 0 <= policy.cells <= MAX_CELLS:
        yield f"there are 1 to {MAX_CELLS} cells, not {_text(policy.cells)}"
    if not 0 <= policy.scaling_from <= (policy.cells or MAX_CELLS):
        yield f"cells can't be added to {_text(policy.scaling_from)} cells so that there are {_text(policy.cells)}"
    for cell_id, weight in sorted(policy.weights.items()):
        if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
            bounds = f"{MIN_WEIGHT:g} to {MAX_WEIGHT:g}"
            yield f"{cell_id}: a weight is {bounds}, not {_text(weight)}; to empty a cell, drain it"
    for cell_id, generation in sorted((*policy.to_replace.items(), *policy.to_evict.items())):
        if generation < 1:
            yield f"{cell_id}: an order names a generation from 1, not {_text(generation)}"
    yield from why_bad_release(policy.release)
    yield from why_bad_scaling(policy.scaling, MAX_CELLS)
    yield from _why_bad_slots(policy)
    yield from _why_bad_keys(policy)
    yield from _why_bad_limit("the default limit", policy.default)
    for key, limit in sorted(policy.limits.items()):
        yield from _why_bad_limit(f"key {key!r:.100}", limit)
    for key, fairness in sorted(policy.fairness.items()):
        yield from why_bad_fairness(f"key {key!r:.100}", fairness)
    for key, quarantine in sorted(policy.quarantined.items()):
        yield from _why_bad_quarantine(f"key {key!r:.100}", quarantine)


def _why_bad_slots(policy: Policy) -> Iterator[Reason]:
    if strange := [slot for slot in sorted(policy.aside) if not 0 <= slot <= MAX_SLOT]:
        yield f"a slot that goes aside is 0 to {MAX_SLOT}, not {_text(strange[0])}"
    if len(policy.homes) > MAX_HOMES or not all(0 <= slot <= MAX_SLOT for slot in policy.homes):
        yield f"scaling has moved at most {MAX_HOMES} slots, each 0 to {MAX_SLOT}"


def _why_bad_keys(policy: Policy) -> Iterator[Reason]:
    keyed = {"limits": policy.limits, "quarantines": policy.quarantined, "pins": policy.pins}
    keyed |= {"keys with turns of their own": policy.fairness}
    yield from (f"there are more than {MAX_KEYS} {of}" for of, entries in keyed.items() if len(entries) > MAX_KEYS)
    for key in sorted({key for entries in keyed.values() for key in entries}):
        if len(key) > MAX_KEY_CHARS:
            yield f"no event has a key as long as {key!r:.100}…"


def _why_bad_limit(of: str, limit: TenantLimit) -> Iterator[Reason]:
    if not (limit.rate_per_s == 0 or MIN_RATE <= limit.rate_per_s <= MAX_RATE):
        bounds = f"{MIN_RATE:g} to {MAX_RATE:g}"
        yield f"{of}: a rate is {bounds} events a second, or 0 for any, not {_text(limit.rate_per_s)}"
    if not 1 <= limit.burst <= MAX_BURST:
        yield f"{of}: a burst is 1 to {MAX_BURST} events, not {_text(limit.burst)}"
    if not 0 <= limit.concurrency <= MAX_CONCURRENCY:
        yield f"{of}: a concurrency is 1 to {MAX_CONCURRENCY} events, or 0 for any, not {_text(limit.concurrency)}"


def _why_bad_quarantine(of: str, quarantine: Quarantine) -> Iterator[Reason]:
    if not (0 <= quarantine.since_ms <= MAX_TIME_MS and 0 <= quarantine.until_ms <= MAX_TIME_MS):
        yield f"{of}: a quarantine begins and ends in the years 1970 to 9999"
    if len(quarantine.why) > MAX_WHY_CHARS:
        yield f"{of}: the reason for a quarantine has at most {MAX_WHY_CHARS} characters"
    for killed in (quarantine.killed, quarantine.by_event):
        if len(killed) > MAX_KILLED or not all(1 <= generation <= MAX_WHOLE for generation in killed):
            yield f"{of}: a quarantine remembers at most {MAX_KILLED} generations, each from 1"
    if len(quarantine.event) > MAX_DIGEST_CHARS:
        yield f"{of}: the digest of an event's id has at most {MAX_DIGEST_CHARS} characters"


def _text(number: float) -> str:
    return str(number) if isinstance(number, float) or abs(number) < _SHOWN else "so large a number"


def to_blob(policy: Policy) -> bytes:
    """Encode a policy as JSON, as the registry keeps it."""
    return msgspec.json.encode(policy)
