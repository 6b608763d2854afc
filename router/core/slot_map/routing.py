"""Where every key's events go now: what a router knows of the slot map and of the cells' instances. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from router.core.models import Target
from router.core.policy import Policy
from router.core.slot_map.slots import SlotMap


@dataclass(frozen=True, slots=True)
class Routing:
    """Which cell owns each key, and at which instance each cell is now."""

    slot_map: SlotMap
    targets: Mapping[str, Target]  # by cell; a cell without an instance is not in it
    cells: frozenset[str] = frozenset()  # all that ever were: something may lie in the hold queue of each
    ejected: frozenset[str] = frozenset()  # cells that get no events
    abandoned: frozenset[str] = frozenset()  # those of the ejected cells whose answers are not waited for either
    cushioned: frozenset[str] = frozenset()  # cells that get no more events at once than usual, since they look slow
    tried: frozenset[str] = frozenset()  # cells that get few events at once, since their instances stand trial
    routers: int = 1  # that share the places of each cell
    unwell: frozenset[str] = frozenset()  # cells on the ladder: what they do now is not their baseline


class KnownRouting(NamedTuple):
    """The routing and the policy that a router goes by, which it remembers across a restart."""

    routing: Routing
    policy: Policy
