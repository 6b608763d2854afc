"""Where every key's events go now: what a router knows of the map and of the cells' instances. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.core.models import Target
from router.core.policy import Policy
from router.core.slot_map.slots import SlotMap


@dataclass(frozen=True, slots=True)
class Routing:
    """Which cell owns a key, and where each cell is now."""

    slot_map: SlotMap
    targets: Mapping[str, Target]
    cells: frozenset[str] = frozenset()  # all that were ever there: something may lie in the hold queue of each
    ejected: frozenset[str] = frozenset()  # cells that get no events
    useless: frozenset[str] = frozenset()  # those of them whose answers are not waited for either
    suspect: frozenset[str] = frozenset()  # cells that something is wrong with: what they do now is not the usual


Known = tuple[Routing, Policy]
