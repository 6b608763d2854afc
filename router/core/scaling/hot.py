"""Which cell is much fuller than the others, by which of its slots, and whether moving one of them would help. Pure.

More cells help little where one key makes one cell full. Its slot goes to the emptiest cell, as long as that is not
fuller than the target afterwards. A key that fills a cell alone is larger than a cell: it is named, and stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from router.core.models import Reason
from router.core.scaling.seen import CellShares, ShareSums

WORTH: Final = 0.05  # of a cell; a smaller slot is not worth a move
MOST_KEYS: Final = 20_000  # that are remembered of one period; beyond them new ones are left out
NAMED_CHARS: Final = 100  # of a key in a sentence


class KeyUse(NamedTuple):
    """The seconds of work that one key took of a cell."""

    cell_id: str
    key: str
    slot: int
    busy_s: float


@dataclass(frozen=True, slots=True)
class SlotUse:
    """What one slot takes of its cell, and the key that takes most of that."""

    slot: int
    used: float  # share of the cell
    key: str
    key_used: float  # share of the cell


@dataclass(frozen=True, slots=True)
class CellUse:
    """How much of a cell was in use in a whole period, and by which slots most."""

    used: float
    slots: tuple[SlotUse, ...]  # the fullest first


@dataclass(frozen=True, slots=True)
class SlotMove:
    """A slot that shall go to another cell, and why."""

    slot: int
    cell_id: str
    why: Reason


class UsePeriods:
    """Adds up what was used, period by period: what is told is of the last whole one."""

    def __init__(self) -> None:
        self.last: Mapping[str, CellUse] = {}  # by cell; empty: there is none yet
        self._since: float | None = None
        self._begin(None)

    def forget(self) -> None:
        """Begin anew: what was seen says nothing about how it is now."""
        self.last, self._since = {}, None

    def note(
        self, shares: Mapping[str, CellShares], busy_s: Mapping[str, float], keys: Iterable[KeyUse], now: float
    ) -> None:
        """Take in the shares of each cell in use now, the seconds of work since the last time, and of whose keys."""
        if self._since is None:
            self._begin(now)
        self._shares.add(shares)
        for cell_id, seconds in busy_s.items():
            self._busy_s[cell_id] += seconds
        for key in keys:
            name = key.cell_id, key.key, key.slot
            if name in self._keys or len(self._keys) < MOST_KEYS:
                self._keys[name] += key.busy_s

    def close(self, now: float, period_s: float) -> None:
        """End the period if it has lasted long enough, and begin the next one."""
        if self._since is None or now - self._since < period_s:
            return
        used = {cell_id: max(shares) for cell_id, shares in self._shares.means().items()}
        slots: defaultdict[str, defaultdict[int, list[tuple[float, str]]]] = defaultdict(lambda: defaultdict(list))
        for (cell_id, key, slot), seconds in self._keys.items():
            whole = self._busy_s.get(cell_id, 0.0)
            share = min(1.0, seconds / whole) if whole > 0 else 0.0
            slots[cell_id][slot].append((share * used.get(cell_id, 0.0), key))
        self.last = {cell_id: CellUse(share, _fullest(slots[cell_id])) for cell_id, share in used.items()}
        self._begin(now)

    def _begin(self, now: float | None) -> None:
        self._since = now
        self._shares = ShareSums()
        self._busy_s: defaultdict[str, float] = defaultdict(float)
        self._keys: defaultdict[tuple[str, str, int], float] = defaultdict(float)


def _fullest(slots: Mapping[int, list[tuple[float, str]]]) -> tuple[SlotUse, ...]:
    found = [SlotUse(slot, sum(share for share, _ in keys), max(keys)[1], max(keys)[0]) for slot, keys in slots.items()]
    worth = [slot for slot in found if slot.used >= WORTH]
    return tuple(sorted(worth, key=lambda slot: (-slot.used, slot.slot)))


def slot_to_move(
    cells: Mapping[str, CellUse], target: float, able: Collection[str], fixed: Collection[str] = ()
) -> SlotMove | None:
    """Choose the largest slot of the fullest cell that fits into the emptiest of the `able` ones; None for none.

    `fixed` are keys that a person has pinned: moving their slot would not move them. The fullest cell is so above the
    target, and less so afterwards; the emptiest is not above it, and less full than the other.
    """
    if len(cells) < 2:  # noqa: PLR2004 - from one cell to another
        return None
    full = max(cells, key=lambda cell_id: (cells[cell_id].used, cell_id))
    empty = min(cells.keys() & set(able), key=lambda cell_id: (cells[cell_id].used, cell_id), default=full)
    most, least = cells[full].used, cells[empty].used
    if most <= target or empty == full:
        return None
    for slot in cells[full].slots:
        if slot.key not in fixed and least + slot.used <= min(target, most - slot.used):
            said = f"{full} is {most:.0%} in use, {slot.used:.0%} by slot {slot.slot} (key {_named(slot.key)})"
            return SlotMove(slot.slot, empty, f"{said}; {empty} is {least:.0%} in use")
    return None


def too_large(cells: Mapping[str, CellUse], target: float) -> Reason | None:
    """Name the largest key that takes more of its cell than the target, all by itself; None where none does."""
    found = [(slot.key_used, slot.key, cell_id) for cell_id, cell in cells.items() for slot in cell.slots]
    share, key, cell_id = max(found, default=(0.0, "", ""))
    if share <= target:
        return None
    return f"key {_named(key)} alone takes {share:.0%} of {cell_id}: it is larger than a cell shall be"


def _named(key: str) -> str:
    return f"{key!r:.{NAMED_CHARS}}"
