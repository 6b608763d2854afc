"""What a change of the policy would move, told before it is made. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from router.core.models import Reason
from router.core.policy import Policy, why_refused
from router.core.slot_map.placement import MOVE_SLOTS, wanted_owners
from router.core.slot_map.slots import SLOTS, SlotMap, slot_of


@dataclass(frozen=True, slots=True)
class Forecast:
    """The effect of a change of the policy on the slot map, provided that every cell is well."""

    before: Counter[str]  # slots by cell, as the next three
    after: Counter[str]
    gained: Counter[str]
    lost: Counter[str]
    keys: Mapping[str, tuple[str, str]]  # each key that moves by a pin made or undone: from which cell to which
    faults: Sequence[Reason]  # why the change would be refused; empty when it would not be

    @property
    def slots(self) -> int:
        """How many slots move."""
        return sum(self.gained.values())

    @property
    def share(self) -> float:
        """Which share of all keys moves, from 0 to 1, as nearly as slots tell."""
        return self.slots / SLOTS

    @property
    def moves(self) -> int:
        """How many moves, one after the other, the change takes."""
        return max(ceil(self.slots / MOVE_SLOTS), int(bool(self.keys)))


def forecast(
    slot_map: SlotMap, current: Policy, wanted: Policy, cells_now: Sequence[str], cells: Sequence[str]
) -> Forecast:
    """Return what the policy `wanted` would move, once everything is where the policy `current` wants it.

    `cells_now` are the cells of today, `cells` those that there would be.
    """
    faults = why_refused(wanted, current, cells, cells_now)
    settled = wanted_owners(slot_map.owners, cells_now, current)
    try:
        owners = wanted_owners(settled, cells, wanted)
    except ValueError as error:
        owners, faults = settled, (*faults, str(error))
    moving = [(a, b) for a, b in zip(settled, owners, strict=True) if a != b]
    keys = {}
    for key in sorted({*current.pins, *wanted.pins}):
        there = current.pins.get(key) or settled[slot_of(key)], wanted.pins.get(key) or owners[slot_of(key)]
        if there[0] != there[1]:
            keys[key] = there
    gained, lost = Counter(b for _, b in moving), Counter(a for a, _ in moving)
    return Forecast(Counter(settled), Counter(owners), gained, lost, keys, faults)
