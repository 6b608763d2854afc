"""Where slots and keys should be by the policy, and the next few of them to be moved there.

Pure. Weights, cordons and drains change the even share; a move takes a few slots at a time, so that only a small part
of the keys waits, and goes only to cells that are known to be well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from math import ceil
from typing import Final

from router.core.policy import Policy
from router.core.slot_map.slots import NO_MOVE, SLOTS, Move, SlotMap, assign, slot_of

MOVE_SLOTS: Final = 512
"""In one move. A thirty-second of the keys waits for a second or two; a cell more of five is there in seven moves."""


def wanted_owners(current: Sequence[str] | None, cells: Collection[str], policy: Policy) -> tuple[str, ...]:
    """The owner of every slot by the policy, as near to `current` as that allows. Raises ValueError when none may own.

    A draining cell owns none. A cordoned one may lose some of what it has to others' shares and gets none.
    """
    weights = frozenset((cell, policy.weights.get(cell, 1.0)) for cell in cells if cell not in policy.draining)
    return _wanted(None if current is None else tuple(current), weights, policy.cordoned)


@lru_cache(maxsize=4)
def _wanted(
    current: tuple[str, ...] | None, weighted: frozenset[tuple[str, float]], cordoned: frozenset[str]
) -> tuple[str, ...]:
    """The controller asks four times a second; for 1000 cells the answer takes a while."""
    weights = {cell: Fraction(weight) for cell, weight in sorted(weighted)}
    held = dict.fromkeys(weights, 0)
    for owner in current or ():
        if owner in held:
            held[owner] += 1
    shares = _with_caps(weights, {})
    # The ceiling: a cordon alone moves nothing, and what a cordoned cell has after a move is what it may have.
    capped = {cell: min(held[cell], ceil(shares[cell])) for cell in cordoned & held.keys()}
    return assign(current, _with_caps(weights, capped))


def after(slot_map: SlotMap) -> SlotMap:
    """The map when its move is done; its epoch is still the same."""
    owners = list(slot_map.owners)
    for slot, cell in slot_map.move.slots.items():
        owners[slot] = cell
    return replace(slot_map, owners=tuple(owners), pins={**slot_map.pins, **slot_map.move.keys}, move=NO_MOVE)


def with_pins(slot_map: SlotMap, pins: Mapping[str, str]) -> SlotMap:
    """The map with those of the pins that move no key, and without those that are no longer wanted and hold none."""
    held = {key: cell for key, cell in slot_map.pins.items() if key in pins or slot_map.owners[slot_of(key)] != cell}
    added = {key: cell for key, cell in pins.items() if key not in held and slot_map.owners[slot_of(key)] == cell}
    return replace(slot_map, pins=held | added)


def sources(slot_map: SlotMap) -> frozenset[str]:
    """The cells that what is moving comes from."""
    of_slots = {slot_map.owners[slot] for slot in slot_map.move.slots}
    return frozenset(of_slots | {slot_map.cell_of(key) for key in slot_map.move.keys})


def targets(slot_map: SlotMap) -> frozenset[str]:
    """The cells that it goes to."""
    return frozenset((*slot_map.move.slots.values(), *slot_map.move.keys.values()))


def next_move(slot_map: SlotMap, owners: tuple[str, ...], pins: Mapping[str, str], able: Collection[str]) -> Move:
    """The next few slots and keys on the way to `owners` and `pins`, to cells that are `able` to take some."""
    keys = dict(islice(_keys_to_move(slot_map, pins, able), MOVE_SLOTS))
    slots: dict[int, str] = {}
    if slot_map.owners != owners:  # the usual case is quick: the controller asks four times a second
        differing = (slot for slot in range(SLOTS) if slot_map.owners[slot] != owners[slot] and owners[slot] in able)
        slots = {slot: owners[slot] for slot in islice(differing, MOVE_SLOTS)}
    return Move(slots, keys) if slots or keys else NO_MOVE


def _keys_to_move(slot_map: SlotMap, pins: Mapping[str, str], able: Collection[str]) -> Iterator[tuple[str, str]]:
    for key in sorted({*slot_map.pins, *pins}):
        there = pins.get(key) or slot_map.owners[slot_of(key)]
        if there != slot_map.cell_of(key) and there in able:
            yield key, there


def _with_caps(weights: Mapping[str, Fraction], capped: Mapping[str, int]) -> dict[str, Fraction]:
    """Each cell's exact share of the slots; a capped cell's is its cap, the others' are of what is left."""
    total = sum((weight for cell, weight in weights.items() if cell not in capped), Fraction(0))
    each = (SLOTS - sum(capped.values())) / total if total else Fraction(0)
    return {cell: Fraction(capped[cell]) if cell in capped else each * weight for cell, weight in weights.items()}
