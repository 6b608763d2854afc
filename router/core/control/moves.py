"""Planned moves: how slots and pinned keys get to another cell while events flow.

Pure: what is under way is in the map itself, so whichever controller leads goes on from there.

    map with a move ─► routers: nothing of it is on its way ─► old cells: nothing of it is left ─► its new owners

The second step makes the routers' connections quiet, the third makes it certain: the old cell's instance refuses what
was decided by an older map and has finished what it had, also what a router sent that has died meanwhile.
A move is undone when it is no longer wanted, or when a cell that takes part of it is not well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from router.core.control.actions import Action, EndScaling, Observed, PublishMap, RaiseFence
from router.core.models import Rung
from router.core.slot_map.placement import after, next_move, sources, targets, wanted_owners, with_pins
from router.core.slot_map.slots import NO_MOVE, SlotMap

MAX_FAILURES: Final = 3  # launches or canaries of a cell that is being added; then there are as many as before


def map_steps(cells: tuple[str, ...], observed: Observed) -> Iterator[Action]:
    """What is to be done next so that slots and keys are where the policy wants them."""
    current, policy = observed.slot_map, observed.policy
    if current is None:
        if observed.may_found:
            founded = SlotMap(0, wanted_owners(None, cells, policy), policy.pins)
            yield PublishMap(founded, "publish map", _shares(founded))
        return
    wanted = wanted_owners(current.owners, cells, policy)
    if current.move is not NO_MOVE:
        yield from _go_on(current, wanted, observed)
        return
    settled = with_pins(current, policy.pins)
    move = next_move(settled, wanted, policy.pins, _able(cells, observed))
    if move is not NO_MOVE:
        began = replace(settled, move=move)
        yield PublishMap(began, "begin move", _described(began))
    elif settled != current:
        yield PublishMap(settled, "publish map", "pins that move no key")
    yield from _scaling(cells, observed, done=current.owners == wanted)


def left(observed: Observed, cell_id: str) -> bool:
    """Whether nothing belongs to the cell, or is on its way there."""
    return observed.slot_map is not None and cell_id not in observed.slot_map.cells()


def _go_on(current: SlotMap, wanted: tuple[str, ...], observed: Observed) -> Iterator[Action]:
    if why := _undo(current, wanted, observed):
        yield PublishMap(replace(current, move=NO_MOVE), "undo move", why)
        return
    if not all(r.report.epoch >= current.epoch and r.report.quiet for r in observed.routers if r.live):
        return
    old = sorted(sources(current))
    unfenced = [cell_id for cell_id in old if observed.cells[cell_id].fence < current.epoch]
    for cell_id in unfenced:
        yield RaiseFence(cell_id, current.epoch)
    if not unfenced and all(_is_empty(observed, cell_id, current.epoch) for cell_id in old):
        yield PublishMap(after(current), "end move", _described(current))


def _undo(current: SlotMap, wanted: tuple[str, ...], observed: Observed) -> str:
    """Why the move must not be ended; empty when it may."""
    if any(wanted[slot] != cell for slot, cell in current.move.slots.items()):
        return "no longer wanted"
    pins = observed.policy.pins
    if any((pins.get(key) or cell) != cell for key, cell in current.move.keys.items()):
        return "no longer wanted"
    gone = sorted(cell_id for cell_id in targets(current) if observed.serving(cell_id) is None)
    if gone and observed.leases_trusted:
        return f"{', '.join(gone)} doesn't serve"
    sick = sorted(cell_id for cell_id in targets(current) if observed.cells[cell_id].treatment.rung is not Rung.WELL)
    return f"{', '.join(sick)} is sick" if sick else ""


def _is_empty(observed: Observed, cell_id: str, epoch: int) -> bool:
    """Whether the cell has nothing left of what was decided before that epoch, and takes nothing more of it."""
    record = observed.cells[cell_id]
    if not record.generation:
        return True
    lease = observed.lease(cell_id, record.generation)
    if lease is not None and lease.live:
        return lease.fenced >= epoch
    instance = observed.instance(cell_id, record.generation)
    return observed.leases_trusted and instance is not None and not instance.running


def _able(cells: tuple[str, ...], observed: Observed) -> frozenset[str]:
    """The cells that may take something now: of those that are being added, all or none."""
    if not observed.rested:
        return frozenset()
    able = frozenset(cell_id for cell_id in cells if _is_well(observed, cell_id))
    added = cells[observed.policy.scaling_from or len(cells) :]
    return able if able.issuperset(added) else able.difference(added)


def _is_well(observed: Observed, cell_id: str) -> bool:
    """Whether the cell serves, and has passed a canary."""
    record = observed.cells.get(cell_id)
    if record is None or record.canary_failures or record.verified != record.generation:
        return False
    if record.treatment.rung is not Rung.WELL or cell_id in observed.policy.ejected:
        return False
    return observed.serving(cell_id) is not None


def _scaling(cells: tuple[str, ...], observed: Observed, *, done: bool) -> Iterator[Action]:
    before = observed.policy.scaling_from
    if not before:
        return
    added = [observed.cells[cell_id] for cell_id in cells[before:]]
    bad = [
        record.cell_id
        for record in added
        if max(record.launch_failures, record.canary_failures, record.candidate_failures) >= MAX_FAILURES
    ]
    if bad:
        why = f"{', '.join(bad)} failed {MAX_FAILURES} launches or canaries in a row: back to {before} cells"
        yield EndScaling(before, why)
    elif done:
        yield EndScaling(len(cells), f"all {len(cells)} cells have their slots")


def _described(slot_map: SlotMap) -> str:
    move = slot_map.move
    what = [f"{len(move.slots)} slots"] * bool(move.slots) + [f"{len(move.keys)} keys"] * bool(move.keys)
    return f"{' and '.join(what)} from {', '.join(sorted(sources(slot_map)))} to {', '.join(sorted(targets(slot_map)))}"


def _shares(slot_map: SlotMap) -> str:
    return ", ".join(f"{cell} {count}" for cell, count in sorted(slot_map.counts().items()))
