"""Planned moves: how slots and pinned keys get to another cell while events flow, and FIFO groups aside and back.

Pure. What is under way is in the slot map itself, so whichever controller leads goes on from there.

    map with a move ─► routers have nothing of it under way ─► old cells have nothing of it left ─► map with new owners

In the second step every live router stops sending what moves, and reports so. The third step makes it certain: the old
cell's instance refuses what was routed by an older map, and has finished what it had, even from a router that has died.
A move is undone when it is no longer wanted, or when a cell that takes part in it is not well.

Slots go aside in the same three steps. Those that come back need no fence: with the first step routers send nothing
more of theirs aside, and in the second each reports that it has seen for a while that nothing is left there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from router.core.control.actions import Action, ChangeCells, EndScaling, MoveSlot, PublishMap, RaiseFence
from router.core.control.observed import Observed
from router.core.control.records import MAX_FAILURES
from router.core.models import Reason, Rung
from router.core.policy import Policy
from router.core.slot_map.placement import (
    after_move,
    moving_from,
    moving_to,
    next_aside,
    next_move,
    wanted_owners,
    with_pins,
)
from router.core.slot_map.slots import NO_MOVE, SlotMap


def map_steps(cells: tuple[str, ...], observed: Observed) -> Iterator[Action]:
    """Yield the next actions that bring slots and keys to where the policy wants them."""
    current, policy = observed.slot_map, observed.policy
    if policy.draining.issuperset(cells):
        return  # none of them may have slots, as after a scaling that failed: all stay where they are
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
    move = next_aside(settled, policy.aside, partial(_can_be_fenced, observed)) if observed.rested else NO_MOVE
    if move is NO_MOVE:
        move = next_move(settled, wanted, policy.pins, _able(cells, observed))
    if move is not NO_MOVE:
        began = replace(settled, move=move)
        yield PublishMap(began, "begin move", _described(began))
    elif settled != current:
        yield PublishMap(settled, "publish map", "pins that move no key")
    yield from _scaling(cells, observed, done=current.owners == wanted)


def left(observed: Observed, cell_id: str) -> bool:
    """Tell whether nothing belongs to the cell, and nothing is on its way there."""
    return observed.slot_map is not None and cell_id not in observed.slot_map.cells()


def in_next_epoch(slot_map: SlotMap, current: SlotMap | None, leader_epoch: int) -> SlotMap:
    """Give the map an epoch above the current map's and not below the leader's, so that epochs only grow."""
    return replace(slot_map, epoch=max(leader_epoch, current.epoch + 1 if current is not None else 0))


def with_change(policy: Policy, change: ChangeCells | MoveSlot) -> Policy:
    """Return the next version of the policy, which wants another number of cells, or a slot in another cell."""
    if isinstance(change, MoveSlot):
        return replace(policy, homes={**policy.homes, change.slot: change.cell_id}, version=policy.version + 1)
    return replace(policy.with_cells(change.cells, change.now), version=policy.version + 1)


def after_scaling(policy: Policy, cells: int) -> Policy:
    """Return the next version of the policy, with this number of cells and no change of it under way."""
    return replace(policy.with_cells(cells, now=cells), version=policy.version + 1)


def _go_on(current: SlotMap, wanted: tuple[str, ...], observed: Observed) -> Iterator[Action]:
    if why := _why_undone(current, wanted, observed):
        yield PublishMap(replace(current, move=NO_MOVE), "undo move", why)
        return
    live = [router.report for router in observed.routers if router.live]
    if not all(report.epoch >= current.epoch and report.quiet for report in live):
        return
    if current.coming_back and not live:
        return  # nobody has seen that nothing is left aside
    old = sorted(moving_from(current))
    unfenced = [cell_id for cell_id in old if observed.cells[cell_id].fence < current.epoch]
    for cell_id in unfenced:
        yield RaiseFence(cell_id, current.epoch)
    if not unfenced and all(_is_empty(observed, cell_id, current.epoch) for cell_id in old):
        yield PublishMap(after_move(current), "end move", _described(current))


def _why_undone(current: SlotMap, wanted: tuple[str, ...], observed: Observed) -> Reason | None:
    """Why the move must not be ended; None when it may be."""
    if any(wanted[slot] != cell for slot, cell in current.move.slots.items()):
        return "no longer wanted"
    pins, aside = observed.policy.pins, observed.policy.aside
    if not current.going_aside <= aside or current.coming_back & aside:
        return "no longer wanted"
    if any((pins.get(key) or cell) != cell for key, cell in current.move.keys.items()):
        return "no longer wanted"
    gone = sorted(cell_id for cell_id in moving_to(current) if observed.serving(cell_id) is None)
    if gone and observed.leases_trusted:
        return f"{', '.join(gone)} doesn't serve"
    sick = sorted(cell_id for cell_id in moving_to(current) if observed.cells[cell_id].treatment.rung is not Rung.WELL)
    return f"{', '.join(sick)} is sick" if sick else None


def _is_empty(observed: Observed, cell_id: str, epoch: int) -> bool:
    """Whether the cell has nothing left of what was routed before that epoch, and takes nothing more of it."""
    record = observed.cells[cell_id]
    if not record.generation:
        return True
    lease = observed.lease(cell_id, record.generation)
    if lease is not None and lease.live:
        return lease.fenced >= epoch
    instance = observed.instance(cell_id, record.generation)
    return observed.leases_trusted and instance is not None and not instance.running


def _can_be_fenced(observed: Observed, cell_id: str) -> bool:
    """Whether the cell lives or has certainly ended: then it is empty of what came before the first epoch.

    A cell that is neither would keep up every other move.
    """
    return cell_id in observed.cells and _is_empty(observed, cell_id, 0)


def _able(cells: tuple[str, ...], observed: Observed) -> frozenset[str]:
    """The cells that may take slots now. Cells that are being added may only all together."""
    if not observed.rested:
        return frozenset()
    able = frozenset(cell_id for cell_id in cells if _is_well(observed, cell_id))
    added = cells[observed.policy.scaling_from or len(cells) :]
    return able if able.issuperset(added) else able.difference(added)


def _is_well(observed: Observed, cell_id: str) -> bool:
    """Whether the cell serves, its last canary was answered well, and nothing is done about it."""
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
    if move.aside:
        where = "aside: their FIFO groups stand still" if slot_map.going_aside else "back from aside"
        return f"{len(move.aside)} slots {where}"
    what = [f"{len(move.slots)} slots"] * bool(move.slots) + [f"{len(move.keys)} keys"] * bool(move.keys)
    origins, destinations = sorted(moving_from(slot_map)), sorted(moving_to(slot_map))
    return f"{' and '.join(what)} from {', '.join(origins)} to {', '.join(destinations)}"


def _shares(slot_map: SlotMap) -> str:
    return ", ".join(f"{cell} {count}" for cell, count in sorted(slot_map.counts().items()))
