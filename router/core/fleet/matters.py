"""What needs a person, what is being done, and what people keep as it is: a line each. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Final

from router.core.fleet.cell_health import CellHealth
from router.core.fleet.cells import FleetCell
from router.core.fleet.moving import Moving
from router.core.models import Reason
from router.core.policy import Policy
from router.core.registry import AuditEntry, DrillAction, Snapshot
from router.core.release import Phase, progress
from router.core.scaling.decision import ScalingDecision

MOST: Final = 6  # lines of one kind; more are counted in one
BACKLOG_OLD_S: Final = 300  # as the alert BacklogOld says
RELEASE_SHOWN_MS: Final = 24 * 3600 * 1000  # so long a release that was rolled back needs somebody
_ORDERS: Final[Mapping[str, frozenset[str]]] = {
    "draining": frozenset({"drain", DrillAction.DRAINED}),
    "cordoned": frozenset({"cordon"}),
    "frozen": frozenset({"freeze", "readmit"}),
    "ejected": frozenset({"eject"}),
}
"""What a person has made of a cell, and the actions of the audit stream that do it."""


@dataclass(frozen=True, slots=True)
class Matter:
    """One line: what there is, and what follows for a person."""

    what: str
    todo: str = ""  # what to do about it; empty: nothing
    cell_id: str = ""  # empty where it is about no single cell
    since_ms: int = 0  # 0: not known
    who: str = ""  # the person that wants it so
    runbook: str = ""  # the page's name under docs/how-to/runbooks


def needs(
    snapshot: Snapshot,
    cells: Sequence[FleetCell],
    queues: Mapping[str, int],
    ages: Mapping[str, int],
    troubles: Sequence[Reason],
) -> tuple[Matter, ...]:
    """List what a person has to look at, the most urgent first."""
    return tuple(_needs(snapshot, cells, queues, ages, troubles))


def _needs(
    snapshot: Snapshot,
    cells: Sequence[FleetCell],
    queues: Mapping[str, int],
    ages: Mapping[str, int],
    troubles: Sequence[Reason],
) -> Iterator[Matter]:
    if not snapshot.leader:
        todo = "Nothing is done about any cell. See whether a controller runs, and what its log says."
        yield Matter("No controller leads", todo, runbook="no-leader")
    if not any(router.live for router in snapshot.routers):
        todo = "No event goes anywhere. See whether a router runs, and what its log says."
        yield Matter("No router lives", todo, runbook="routers-missing")
    suspended = why_suspended(cells)
    if suspended is not None:
        todo = "No sick cell is treated while that lasts."
        yield Matter(f"Automation is suspended: {suspended}", todo, runbook="automation-suspended")
    yield from _of_cells(cells, CellHealth.GIVEN_UP, "is given up", "cell-given-up")
    if suspended is None:
        yield from _of_cells(cells, CellHealth.UNTREATED, "is not treated", "")
    yield from (Matter(why) for why in troubles[:MOST])
    if (age_s := ages.get("source", 0)) > BACKLOG_OLD_S:
        what = f"Messages of the source are {age_s // 60} minutes old when they are received"
        todo = "Events arrive faster than they are processed. See which cells are full or sick, and who sends so many."
        yield Matter(what, todo, runbook="backlog-old")
    yield from _of_keys(snapshot)
    if dead := queues.get("dead letters", 0):
        what = f"{dead} dead letter{'s' * (dead > 1)}: events that nobody will process again by themselves"
        yield Matter(what, "cellrouter dlq list", runbook="dead-lettered")
    release = snapshot.policy.release
    if release is None or release.phase is not Phase.ROLLED_BACK:
        return
    if snapshot.now_ms - release.since_ms < RELEASE_SHOWN_MS:
        what = f"Release {release.number} of {release.image} was rolled back: {release.why}"
        yield Matter(what, "Mend the image, and deploy it again.", since_ms=release.since_ms)


def of_scaling(policy: Policy, said: ScalingDecision | None) -> Iterator[Matter]:
    """Say where the load needs more cells than a person lets there be, and which key no number of cells helps."""
    if policy.scaling is None or said is None:
        return
    if said.too_large is not None:
        todo = "Limit it by cellrouter apply limit, or have its sender use several keys."
        yield Matter(said.too_large[:1].upper() + said.too_large[1:], todo)
    if said.short:
        todo = "Let there be more by cellrouter apply scaling, or find out who sends so much."
        yield Matter(f"The load needs more cells: {said.why}", todo)


def _of_cells(cells: Sequence[FleetCell], health: CellHealth, how: str, runbook: str) -> Iterator[Matter]:
    found = [cell for cell in cells if cell.health is health]
    for cell in found[:MOST]:
        cell_id = cell.view.cell_id
        what = f"{cell_id} {how}: {cell.says}"
        yield Matter(what, _command("cellrouter explain", cell_id), cell_id, cell.since_ms, runbook=runbook)
    if len(found) > MOST:
        yield Matter(f"{len(found) - MOST} other cells: each {how}", runbook=runbook)


def _of_keys(snapshot: Snapshot) -> Iterator[Matter]:
    policy, now_ms = snapshot.policy, snapshot.now_ms
    found = [
        (key, entry)
        for key, entry in sorted(policy.quarantined.items())
        if not entry.until_ms and policy.in_quarantine(key, now_ms)
    ]
    for key, entry in found[:MOST]:
        what = f"Key {key} is in quarantine until a person releases it: {entry.why}"
        yield Matter(what, _command("cellrouter apply release", key), since_ms=entry.since_ms)
    if len(found) > MOST:
        yield Matter(f"{len(found) - MOST} other keys are in quarantine as well", "cellrouter policy show")


def _command(command: str, about: str) -> str:
    """A command that can be pasted into a shell, whatever it is about: who chose the key must not choose more."""
    return f"{command} {quote(about)}" if about.isprintable() else f"{command} …"


def why_suspended(cells: Sequence[FleetCell]) -> Reason | None:
    """Say why no cell would be treated, where one reason holds for all of them; None where there is none."""
    reasons = {cell.view.why_untreated for cell in cells if not (cell.view.frozen or cell.view.ejected)}
    return next(iter(reasons)) if len(cells) > 1 and len(reasons) == 1 else None


def doing(snapshot: Snapshot, cells: Sequence[FleetCell], move: Moving | None) -> tuple[Matter, ...]:
    """List what is being done without anybody's help."""
    return tuple(_doing(snapshot, cells, move))


def _doing(snapshot: Snapshot, cells: Sequence[FleetCell], move: Moving | None) -> Iterator[Matter]:
    for health in (CellHealth.TREATED, CellHealth.CHANGING):
        found = [cell for cell in cells if cell.health is health]
        for cell in found[:MOST]:
            yield Matter(f"{cell.view.cell_id}: {cell.says}", "", cell.view.cell_id, cell.since_ms)
        if len(found) > MOST:
            yield Matter(f"{len(found) - MOST} other cells are {health}")
    if move is not None:
        yield Matter(move.says)
    policy = snapshot.policy
    if policy.scaling_from:
        yield Matter(f"The number of cells changes from {policy.scaling_from} to {policy.cells}")
    if policy.release is not None and policy.release.runs:
        yield Matter(f"Release {policy.release.number}: {progress(policy.release, snapshot.now_ms)}")


def done_by_hand(snapshot: Snapshot, audit: Sequence[AuditEntry]) -> tuple[Matter, ...]:
    """List what people keep different of each cell, with who wanted it and why, as far as the audit still has that."""
    policy = snapshot.policy
    made = {
        "draining": policy.draining,
        "cordoned": policy.cordoned - policy.draining,
        "frozen": policy.frozen,
        "ejected": policy.ejected,
    }
    return tuple(_by_hand(cell_id, how, audit) for how, named in made.items() for cell_id in sorted(named))


def _by_hand(cell_id: str, how: str, audit: Sequence[AuditEntry]) -> Matter:
    for entry in reversed(audit):
        named = entry.cell_id == cell_id or entry.why.startswith(f"{cell_id}:")
        if named and entry.action in _ORDERS[how]:
            _, _, words = entry.why.partition(". ")  # the person's own, after what the order does
            return Matter(f"{cell_id} is {how}{f': {words}' * bool(words)}", "", cell_id, entry.at_ms, entry.who)
    return Matter(f"{cell_id} is {how}", "", cell_id)
