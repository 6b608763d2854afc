"""Keys, slots and the slot map: which cell owns a partition key.

A key hashes to one of 16384 slots, as many as Redis Cluster has, and a slot has one owner. The hash is XXH3 in 64 bits
(Collet, xxHash). Adding or removing a cell moves as few slots as an even share allows, and none between two cells that
stay. Replacing an instance moves none, since the map speaks of cells, never of instances.
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, NotRequired, TypedDict

from xxhash import xxh3_64_intdigest

from router.core.models import Id, Whole

SLOTS: Final = 16384
_MASK: Final = SLOTS - 1
_TABLE: Final = struct.Struct(f"<{SLOTS}H")


def slot_of(key: str) -> int:
    """Return the slot of a partition key: the low 14 bits of the XXH3 hash of its UTF-8 bytes."""
    return xxh3_64_intdigest(key.encode()) & _MASK


@dataclass(frozen=True, slots=True)
class Move:
    """The slots and keys on their way to another cell. Routers send no event of theirs until the move is done.

    Also the slots on their way aside, or back if they are aside: see docs/explanation/fifo.md.
    """

    slots: Mapping[int, str]  # by slot: the cell that it goes to
    keys: Mapping[str, str]  # by key, pinned or to be pinned: the cell that it goes to
    aside: frozenset[int] = frozenset()


NO_MOVE: Final = Move({}, {})


class WireMove(TypedDict):
    """A move in the types that JSON has."""

    slots: dict[str, Id]
    keys: dict[str, Id]
    aside: NotRequired[list[Whole]]


class WireMap(TypedDict):
    """A slot map in the types that JSON has, as SlotMap.to_wire writes it. A decoder of this type checks them."""

    epoch: Whole
    cells: list[Id]
    owners: str
    pins: NotRequired[dict[str, Id] | None]
    move: NotRequired[WireMove | None]
    aside: NotRequired[list[Whole]]


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Which cell owns each slot, and the epoch in which that was decided."""

    epoch: int
    owners: tuple[str, ...]  # cell ids by slot, SLOTS of them
    pins: Mapping[str, str] = field(default_factory=dict)  # by key: its cell, whatever its slot says
    move: Move = NO_MOVE
    aside: frozenset[int] = frozenset()  # slots whose FIFO groups go through the aside queue

    def __post_init__(self) -> None:
        if len(self.owners) != SLOTS:
            raise ValueError(f"a slot map has {SLOTS} owners, not {len(self.owners)}")

    def cell_of(self, key: str) -> str:
        """Return the cell that owns a partition key."""
        if self.pins and (pinned := self.pins.get(key)) is not None:
            return pinned
        return self.owners[xxh3_64_intdigest(key.encode()) & _MASK]

    def destination_of(self, key: str) -> str | None:
        """Return the cell that a key is on its way to; None for a key that stays where it is."""
        if self.move is NO_MOVE:
            return None
        if (cell := self.move.keys.get(key)) is not None:
            return cell
        return None if key in self.pins else self.move.slots.get(slot_of(key))

    def stops(self, key: str) -> bool:
        """Whether no event of the key may be sent now: it is on its way to another cell, or its slot is aside soon."""
        if self.move is NO_MOVE:
            return False
        return self.destination_of(key) is not None or slot_of(key) in self.going_aside

    @property
    def going_aside(self) -> frozenset[int]:
        """Return the slots on their way aside: until they are there, nothing of theirs is sent."""
        return self.move.aside - self.aside

    @property
    def aside_soon(self) -> frozenset[int]:
        """Return the slots that are aside once the move under way is done."""
        return self.aside ^ self.move.aside

    @property
    def coming_back(self) -> frozenset[int]:
        """Return the slots on their way back: until nothing is left aside, what is in their source waits there."""
        return self.move.aside & self.aside

    def cells(self) -> frozenset[str]:
        """Return all cells that own slots or pinned keys, or are about to."""
        coming = (*self.move.slots.values(), *self.move.keys.values())
        return frozenset((*self.owners, *self.pins.values(), *coming))

    def counts(self) -> Counter[str]:
        """Count the slots of each cell."""
        return Counter(self.owners)

    def to_wire(self) -> WireMap:
        """Return the map in types that JSON has: each cell's name once, then two bytes a slot in base64."""
        cells = sorted(set(self.owners))
        index = {cell: i for i, cell in enumerate(cells)}
        table = _TABLE.pack(*(index[cell] for cell in self.owners))
        move: WireMove = {
            "slots": {str(slot): cell for slot, cell in self.move.slots.items()},
            "keys": dict(self.move.keys),
            "aside": sorted(self.move.aside),
        }
        return {
            "epoch": self.epoch,
            "cells": cells,
            "owners": b64encode(table).decode(),
            "pins": dict(self.pins),
            "move": move if self.move != NO_MOVE else None,
            "aside": sorted(self.aside),
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> SlotMap:
        """Read what `to_wire` wrote. Raises ValueError for anything else."""
        try:
            cells = tuple(map(str, wire["cells"]))
            table = _TABLE.unpack(b64decode(wire["owners"], validate=True))
            owners = tuple(cells[i] for i in table)
            pins, moving = _names(wire.get("pins")), wire.get("move")
            move = NO_MOVE
            if moving is not None:
                move = Move(_slots(moving["slots"]), _names(moving["keys"]), _aside(moving.get("aside")))
            return cls(int(wire["epoch"]), owners, pins, move, _aside(wire.get("aside")))
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError, struct.error) as error:
            raise ValueError(f"not a slot map: {error}") from error


def _names(wire: Mapping[str, Any] | None) -> dict[str, str]:
    return {} if wire is None else {str(key): str(cell) for key, cell in wire.items()}


def _slots(wire: Mapping[str, Any]) -> dict[int, str]:
    slots = {int(slot): str(cell) for slot, cell in wire.items()}
    _aside(slots)
    return slots


def _aside(wire: Iterable[Any] | None) -> frozenset[int]:
    slots = frozenset(map(int, wire or ()))
    if any(not 0 <= slot < SLOTS for slot in slots):
        raise ValueError(f"a slot is 0 to {SLOTS - 1}")
    return slots


def assign(owners: Sequence[str] | None, weights: Mapping[str, float] | Mapping[str, Fraction]) -> tuple[str, ...]:
    """Return an owner for every slot, as near to `owners` (None: none yet) as an even share by weight allows.

    Each cell gets the floor or the ceiling of its exact share (the quota rule of apportionment). Slots leave only cells
    that are gone or have more than that, and go only to cells that have less. Raises ValueError without a cell of
    positive weight.
    """
    if not any(weight > 0 for weight in weights.values()):
        raise ValueError("no cell with a positive weight to own the slots")
    kept: dict[str, list[int]] = {cell: [] for cell in weights}
    free: list[int] = []
    for slot in range(SLOTS):
        owner = owners[slot] if owners is not None else ""
        kept.get(owner, free).append(slot)
    shares = _shares(weights, {cell: len(slots) for cell, slots in kept.items()})
    for cell, slots in kept.items():
        free += slots[shares[cell] :]
        del slots[shares[cell] :]
    free.sort()
    result = [""] * SLOTS
    missing = [(cell, shares[cell] - len(slots)) for cell, slots in kept.items()]
    for slot, cell in zip(free, _interleave(missing), strict=True):
        result[slot] = cell
    for cell, slots in kept.items():
        for slot in slots:
            result[slot] = cell
    return tuple(result)


def moved(before: Sequence[str], after: Sequence[str]) -> int:
    """Count the slots that change their owner."""
    return sum(a != b for a, b in zip(before, after, strict=True))


def _shares(weights: Mapping[str, float] | Mapping[str, Fraction], owned: Mapping[str, int]) -> dict[str, int]:
    """The number of slots of each cell; the sum is SLOTS.

    This is the method of largest remainders (Hamilton), except that the slots left over by rounding down go first to
    cells that own them already, so that fewer slots move.
    """
    total = sum(map(Fraction, weights.values()))
    exact = {cell: SLOTS * Fraction(weight) / total for cell, weight in weights.items()}
    shares = {cell: int(share) for cell, share in exact.items()}
    spare = SLOTS - sum(shares.values())
    by_claim = sorted(
        (cell for cell, share in exact.items() if share > shares[cell]),
        key=lambda cell: (owned[cell] <= shares[cell], owned[cell] > 0, shares[cell] - exact[cell], cell),
    )
    for cell in by_claim[:spare]:
        shares[cell] += 1
    return shares


def _interleave(missing: Sequence[tuple[str, int]]) -> list[str]:
    """The cells, each as often as it misses slots, spread so that neighbouring slots go to different cells."""
    total = sum(count for _, count in missing)
    order = sorted(((i + 0.5) * total / count, cell) for cell, count in missing for i in range(count))
    return [cell for _, cell in order]
