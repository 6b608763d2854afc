"""Where slots and keys should be by the policy, and the next few of them to be moved there. Pure.

Weights, cordons and drains change the even share. A move takes a few slots at a time, so that only a small part of the
keys waits, and goes only to cells that are known to be well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from math import ceil
from typing import Final

from router.core.policy import Policy
from router.core.slot_map.slots import NO_MOVE, SLOTS, Move, SlotMap, assign, slot_of

MOVE_SLOTS: Final = 512
"""How many slots one move takes: a thirty-second of the keys then waits for a second or two, and a fifth cell has its
share after seven moves."""


def wanted_owners(current: Sequence[str] | None, cells: Collection[str], policy: Policy) -> tuple[str, ...]:
    """Return the owner of every slot by the policy, as near to `current` (None: no owners yet) as that allows.

    A draining cell owns no slot. A cordoned cell gets none, and may lose some of its slots to the others' shares. What
    scaling has moved stays in its new cell while that may have it.
    Raises ValueError when no cell may own slots.
    """
    weights = frozenset((cell, policy.weights.get(cell, 1.0)) for cell in cells if cell not in policy.draining)
    homes = frozenset(policy.homes.items())
    return _wanted(None if current is None else tuple(current), weights, policy.cordoned, homes)


@lru_cache(maxsize=4)
def _wanted(
    current: tuple[str, ...] | None,
    weighted: frozenset[tuple[str, float]],
    cordoned: frozenset[str],
    homes: frozenset[tuple[int, str]],
) -> tuple[str, ...]:
    """`wanted_owners`, cached: the controller asks four times a second, and for 1000 cells the answer takes a while."""
    weights = {cell: Fraction(weight) for cell, weight in sorted(weighted)}
    owned = dict.fromkeys(weights, 0)
    for owner in current or ():
        if owner in owned:
            owned[owner] += 1
    shares = _with_caps(weights, {})
    # By the ceiling of the share a cordon alone moves nothing, and a move leaves a cordoned cell with what it may have.
    capped = {cell: min(owned[cell], ceil(shares[cell])) for cell in cordoned & owned.keys()}
    owners = list(assign(current, _with_caps(weights, capped)))
    for slot, cell in homes:
        if cell in weights and cell not in cordoned and 0 <= slot < SLOTS:
            owners[slot] = cell  # in the next round another slot takes its place, so that the shares stay even
    return tuple(owners)


def after_move(slot_map: SlotMap) -> SlotMap:
    """Return the slot map as it is when its move is done; its epoch stays the same."""
    owners = list(slot_map.owners)
    for slot, cell in slot_map.move.slots.items():
        owners[slot] = cell
    pins, aside = {**slot_map.pins, **slot_map.move.keys}, slot_map.aside ^ slot_map.move.aside
    return replace(slot_map, owners=tuple(owners), pins=pins, move=NO_MOVE, aside=aside)


def with_pins(slot_map: SlotMap, pins: Mapping[str, str]) -> SlotMap:
    """Return the slot map with the wanted pins that move no key, and without old pins whose key stays in its cell."""
    kept = {key: cell for key, cell in slot_map.pins.items() if key in pins or slot_map.owners[slot_of(key)] != cell}
    added = {key: cell for key, cell in pins.items() if key not in kept and slot_map.owners[slot_of(key)] == cell}
    return replace(slot_map, pins=kept | added)


def moving_from(slot_map: SlotMap) -> frozenset[str]:
    """Return the cells from which the map's move takes slots or keys, be it aside."""
    going = slot_map.going_aside
    of_slots = {slot_map.owners[slot] for slot in (*slot_map.move.slots, *going)}
    pinned = (cell for key, cell in slot_map.pins.items() if going and slot_of(key) in going)
    return frozenset(of_slots.union(pinned, (slot_map.cell_of(key) for key in slot_map.move.keys)))


def moving_to(slot_map: SlotMap) -> frozenset[str]:
    """Return the cells to which the map's move takes slots or keys."""
    return frozenset((*slot_map.move.slots.values(), *slot_map.move.keys.values()))


def next_move(slot_map: SlotMap, owners: tuple[str, ...], pins: Mapping[str, str], able: Collection[str]) -> Move:
    """Return the next few slots and keys to move towards `owners` and `pins`, only to cells that are `able`.

    NO_MOVE when everything that can move is where it should be.
    """
    keys = dict(islice(_keys_to_move(slot_map, pins, able), MOVE_SLOTS))
    slots: dict[int, str] = {}
    if slot_map.owners != owners:  # mostly they are the same, and the controller asks four times a second
        differing = (slot for slot in range(SLOTS) if slot_map.owners[slot] != owners[slot] and owners[slot] in able)
        slots = {slot: owners[slot] for slot in islice(differing, MOVE_SLOTS)}
    return Move(slots, keys) if slots or keys else NO_MOVE


def next_aside(slot_map: SlotMap, wanted: frozenset[int], can_be_fenced: Callable[[str], bool]) -> Move:
    """Return the next slots to go aside, else those to come back; NO_MOVE when all that can be are where they should.

    A slot goes only while its cells can be kept from what older maps say. Those that come back do so together, since
    nothing may be left of any of them.
    """
    if going := {slot for slot in wanted - slot_map.aside if 0 <= slot < SLOTS}:
        owned = {slot_map.owners[slot]: can_be_fenced(slot_map.owners[slot]) for slot in going}
        pinned = {slot_of(key) for key, cell in slot_map.pins.items() if not can_be_fenced(cell)}
        ready = [slot for slot in sorted(going - pinned) if owned[slot_map.owners[slot]]]
        if ready:
            return Move({}, {}, frozenset(ready[:MOVE_SLOTS]))
    return Move({}, {}, back) if (back := slot_map.aside - wanted) else NO_MOVE


def _keys_to_move(slot_map: SlotMap, pins: Mapping[str, str], able: Collection[str]) -> Iterator[tuple[str, str]]:
    for key in sorted({*slot_map.pins, *pins}):
        there = pins.get(key) or slot_map.owners[slot_of(key)]
        if there != slot_map.cell_of(key) and there in able:
            yield key, there


def _with_caps(weights: Mapping[str, Fraction], capped: Mapping[str, int]) -> dict[str, Fraction]:
    """Each cell's exact share of the slots: a capped cell gets its cap, and the others share the rest by weight."""
    total = sum((weight for cell, weight in weights.items() if cell not in capped), Fraction(0))
    each = (SLOTS - sum(capped.values())) / total if total else Fraction(0)
    return {cell: Fraction(capped[cell]) if cell in capped else each * weight for cell, weight in weights.items()}
