"""What an edit would move, told before it is made: what `plan` prints and the Admin API answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from router.core.edits.decided import PolicyEdit
from router.core.fleet.routes import slot_map_of, wanted_cells
from router.core.models import Reason, cell_ids
from router.core.policy import Policy
from router.core.registry import Snapshot
from router.core.slot_map.forecast import Forecast, forecast
from router.core.slot_map.slots import SLOTS


@dataclass(frozen=True, slots=True)
class CellPlan:
    """How many slots a cell has before and after a change."""

    cell: str
    slots_now: int
    slots_then: int


@dataclass(frozen=True, slots=True)
class KeyPlan:
    """From which cell to which a key moves by a pin that is made or undone."""

    key: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What an edit would do: the effect on the slot map, provided that every cell is well."""

    text: str  # what the edit does, and how much would move, as `cellrouter plan` says it
    changes: bool  # False: it is in force already
    refused: tuple[Reason, ...]  # why it would be refused; empty when it would not be
    slots: int  # how many slots move
    share: float  # of all keys, from 0 to 1, as nearly as slots tell
    moves: int  # how many moves, one after the other, it takes
    keys: tuple[KeyPlan, ...]
    cells: tuple[CellPlan, ...]


def planned(edit: PolicyEdit, snapshot: Snapshot) -> Plan:
    """Return what an edit would do. Raises RegistryUnavailableError when there is no slot map yet."""
    why_not = edit.why_unchanged or f"Nothing to change: {edit.text} is in force already"
    return effect_of(edit.text, edit.make(snapshot.policy, snapshot.now_ms), snapshot, why_not)


def effect_of(text: str, wanted: Policy, snapshot: Snapshot, why_unchanged: Reason) -> Plan:
    """Return what a policy would do; `text` says what it is for. Raises RegistryUnavailableError without a slot map."""
    found, changes = forecast_of(snapshot, wanted), wanted != snapshot.policy
    return Plan(
        text=f"{text}: {size_of(found)}" if changes else why_unchanged,
        changes=changes,
        refused=tuple(found.faults),
        slots=found.slots,
        share=found.share,
        moves=found.moves,
        keys=tuple(KeyPlan(key, before, after) for key, (before, after) in found.keys.items()),
        cells=tuple(
            CellPlan(cell_id, found.before[cell_id], found.after[cell_id])
            for cell_id in sorted({*found.before, *found.after})
        ),
    )


def forecast_of(snapshot: Snapshot, wanted: Policy) -> Forecast:
    """Return what a policy would move. Raises RegistryUnavailableError when there is no slot map yet."""
    slot_map, now = slot_map_of(snapshot), wanted_cells(snapshot)
    return forecast(slot_map, snapshot.policy, wanted, now, cell_ids(wanted.cells) if wanted.cells else now)


def size_of(found: Forecast) -> str:
    """Say how much would move, and in how many moves."""
    if not found.moves:
        return "would move nothing"
    parts = [f"{found.slots} of {SLOTS} slots ({found.share:.1%} of the keys)"] * bool(found.slots)
    parts += [f"{len(found.keys)} key{'s' * (len(found.keys) > 1)}"] * bool(found.keys)
    return f"would move {' and '.join(parts)} in {found.moves} move{'s' * (found.moves > 1)}"


def as_object(found: Forecast) -> dict[str, Any]:
    """Return a forecast as `plan --json` prints it."""
    cells = [
        {"cell": cell_id, "slots_now": found.before[cell_id], "slots_then": found.after[cell_id]}
        for cell_id in sorted({*found.before, *found.after})
    ]
    return {
        "refused": list(found.faults),
        "slots": found.slots,
        "share": found.share,
        "moves": found.moves,
        "keys": {key: {"from": before, "to": after} for key, (before, after) in found.keys.items()},
        "cells": cells,
    }
