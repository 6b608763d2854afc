"""All slots and keys that are on their way, or have to be, as one line. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from router.core.fleet.routes import wanted_cells
from router.core.registry import Snapshot
from router.core.slot_map.placement import wanted_owners
from router.core.slot_map.slots import SLOTS, moved


@dataclass(frozen=True, slots=True)
class Moving:
    """How much moves between cells."""

    says: str
    left: int  # slots that are not yet where they belong
    now: int  # of them those in the move that is under way
    keys: int  # pinned keys in that move
    most: int  # the most slots that were left since it began, as far as that was watched


def moving(snapshot: Snapshot) -> Moving | None:
    """Say how much moves; None while everything is where it belongs."""
    current, policy = snapshot.slot_map, snapshot.policy
    if current is None:
        return None
    cells = wanted_cells(snapshot)
    stay = not cells or policy.draining.issuperset(cells)
    left = 0 if stay else moved(current.owners, wanted_owners(current.owners, cells, policy))
    ways = Counter((current.owners[slot], to) for slot, to in current.move.slots.items())
    now, keys = len(current.move.slots), len(current.move.keys)
    if not (left or now or keys or current.move.aside):
        return None
    left = max(left, now)
    return Moving(_said(left, ways, keys, len(current.move.aside)), left, now, keys, left)


def _said(left: int, ways: Counter[tuple[str, str]], keys: int, aside: int) -> str:
    parts = []
    if left:
        parts.append(f"{left} of {SLOTS} slots are still to move")
    if ways:
        sources, targets = sorted({a for a, _ in ways}), sorted({b for _, b in ways})
        parts.append(f"{ways.total()} are on their way now, {_named(sources)} → {_named(targets)}")
    if keys:
        parts.append(f"{keys} pinned key{'s' * (keys > 1)} on the way")
    if aside:
        parts.append(f"{aside} FIFO slots go aside or come back")
    return "; ".join(parts)


def _named(cells: list[str]) -> str:
    return ", ".join(cells) if len(cells) <= 3 else f"{len(cells)} cells"  # noqa: PLR2004 - as many as one line has room for
