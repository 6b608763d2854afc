"""The drills that there are, to which cell one is done, and why one may not begin. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from router.core.detection.assessment import SICK
from router.core.environments import LIVE
from router.core.fleet.routes import slot_map_of
from router.core.fleet.states import state_of
from router.core.models import CellRecord, CellState, Reason, Rung
from router.core.registry import CONDITION_FRESH_MS, AuditEntry, Condition, DrillAction, Snapshot
from router.core.slot_map.slots import NO_MOVE

LONGEST_MS: Final = 60 * 60 * 1000
"""A drill whose end the audit does not tell after so long was killed: it keeps no other one from beginning."""
MIN_CELLS: Final = 2
AUDIT_READ: Final = 10_000
"""Entries of the audit: about as many as are kept, in which the last drills are looked for."""
_NAMED: Final = re.compile(r"(kill|slow|evacuate) ([0-9a-f]{8}): ", re.ASCII)


class DrillKind(StrEnum):
    """What is done to a cell on purpose, to see whether the promises hold."""

    KILL = "kill"  # its instance is killed; another takes its place
    SLOW = "slow"  # its instance gets slow; it is found and replaced
    EVACUATE = "evacuate"  # its slots go to the others, and come back

    @property
    def injects(self) -> bool:
        """Whether it injects a fault, which instances must allow."""
        return self is not DrillKind.EVACUATE

    @property
    def limit_s(self) -> float:
        """How long it may take until the cell is replaced or empty, without an instance's launch."""
        return 600.0 if self is DrillKind.EVACUATE else 180.0 if self is DrillKind.SLOW else 60.0


def why_refused(environment: str, kind: DrillKind, *, in_live: bool, chaos: bool) -> Reason | None:
    """Say why no such drill is done in an environment as it is configured; None when it may be."""
    if environment == LIVE and not in_live:
        return f"no drill is done in {LIVE}: drills.in_live = true allows it"
    if kind.injects and not chaos:
        return f"instances of {environment} take no faults: cells.chaos = true allows them; evacuate needs none"
    return None


def why_not_well(snapshot: Snapshot, conditions: Mapping[str, Condition]) -> Reason | None:
    """Say why a drill may not begin, or is not over: something is not as it should be. None when all is well."""
    policy, slot_map = snapshot.policy, snapshot.slot_map
    if slot_map is None or not snapshot.leader:
        return "no controller leads"
    if not any(router.live for router in snapshot.routers):
        return "no router lives"
    cells = [record for _, record in sorted(snapshot.cells.items()) if not record.retired]
    if len(cells) < MIN_CELLS:
        return f"it needs other cells beside the one that it is done to, and there are {len(cells)} in all"
    for cell_id in sorted(policy.cordoned):
        return f"{cell_id} is drained or cordoned: cellrouter apply uncordon {cell_id} gives it its share again"
    found = (_of_cell(record, snapshot, conditions.get(record.cell_id)) for record in cells)
    return next((why for why in found if why is not None), None) or _why_changing(snapshot)


def why_not_steady(first: Snapshot, now: Snapshot) -> Reason | None:
    """Say what has changed since the first look, whether all is well again or not; None when nothing has."""
    if first.slot_map is None or now.slot_map is None or first.slot_map.owners != now.slot_map.owners:
        return "slots have moved"
    for cell_id, was in sorted(first.cells.items()):
        record = now.cells.get(cell_id)
        if record is None or record.generation != was.generation:
            return f"{cell_id} has got another instance"
    return None


def why_sick(snapshot: Snapshot, condition: Condition | None) -> Reason | None:
    """Say what the leader finds of a cell that is sick; None of one that is not, or of which it says nothing of now."""
    if condition is None or snapshot.now_ms - condition.at_ms > CONDITION_FRESH_MS:
        return None
    found = condition.assessment
    return f"is {found.verdict}: {found.rule or 'no reason is told'}" if found.verdict in SICK else None


def serves(snapshot: Snapshot, cell_id: str) -> bool:
    """Tell whether the cell's admitted instance has a live lease and is ready."""
    record = snapshot.cells.get(cell_id)
    lease = snapshot.lease(cell_id, record.generation) if record is not None else None
    return lease is not None and lease.live and lease.ready


def victim_of(snapshot: Snapshot, audit: Sequence[AuditEntry]) -> str:
    """Choose the cell: each in its turn, the one whose last drill is longest ago; of those without one, the largest.

    Raises RegistryUnavailableError when there is no slot map yet.
    """
    counts = slot_map_of(snapshot).counts()
    last = {entry.cell_id: entry.at_ms for entry in audit if entry.action == DrillAction.BEGUN}
    return min(counts, key=lambda cell_id: (last.get(cell_id, 0), -counts[cell_id], cell_id))


def noted(kind: DrillKind, drill_id: str, text: str) -> str:
    """Return what the audit says of a drill, so that it is known again."""
    return f"{kind} {drill_id}: {text}"


def under_way(audit: Sequence[AuditEntry], now_ms: int, drill_id: str = "") -> AuditEntry | None:
    """Return the first drill that has begun and not ended; with an id, only one that began before that one."""
    over = {_named(each)[1] for each in audit if each.action in (DrillAction.ENDED, DrillAction.REFUSED)}
    for entry in audit:
        if entry.action != DrillAction.BEGUN:
            continue
        found = _named(entry)[1]
        if found and found == drill_id:
            return None
        if found not in over and now_ms - entry.at_ms < LONGEST_MS:
            return entry
    return None


def last_ms(audit: Sequence[AuditEntry], kind: DrillKind) -> int | None:
    """Return when the last drill of a kind began, as far as the audit remembers; one that was refused is none."""
    refused = {_named(each)[1] for each in audit if each.action == DrillAction.REFUSED}
    began = [
        each.at_ms
        for each in audit
        if each.action == DrillAction.BEGUN and (found := _named(each))[0] == kind and found[1] not in refused
    ]
    return began[-1] if began else None


def _named(entry: AuditEntry) -> tuple[str, str]:
    found = _NAMED.match(entry.why)
    return (found[1], found[2]) if found is not None else ("", "")


def _why_changing(snapshot: Snapshot) -> Reason | None:
    policy, slot_map = snapshot.policy, snapshot.slot_map
    if slot_map is not None and slot_map.move is not NO_MOVE:
        return "slots are on their way to another cell"
    if policy.scaling_from:
        return "cells are being added"
    return "a release runs" if policy.release is not None and policy.release.runs else None


def _of_cell(record: CellRecord, snapshot: Snapshot, condition: Condition | None) -> Reason | None:
    why = _why_not_well(record, snapshot, condition)
    return f"{record.cell_id} {why}" if why is not None else None


def _why_not_well(record: CellRecord, snapshot: Snapshot, condition: Condition | None) -> Reason | None:
    cell_id, policy = record.cell_id, snapshot.policy
    if cell_id in policy.frozen or cell_id in policy.ejected:
        return "is frozen or ejected by a person"
    state = state_of(record, snapshot.lease(cell_id, record.generation), policy)
    if state is not CellState.SERVING:
        return f"is {state}"
    if record.launching:
        return "gets another instance"
    if record.treatment.rung is not Rung.WELL:
        return f"is treated: {record.treatment.rung}"
    return why_sick(snapshot, condition)
