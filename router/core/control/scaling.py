"""When the leader changes the number of cells by itself: only while nothing else goes on, and never without evidence.

Pure. Anything else that goes on makes the load unusual, so what was seen before its end does not count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from router.core.control.actions import ChangeCells, MoveSlot
from router.core.control.observed import Desired, Observed
from router.core.control.records import ON_THE_LADDER
from router.core.detection.samples import INTERVAL_S, MAX_KEY_CHARS, CellSample, RouterSample
from router.core.models import HOLD_QUEUES, Reason, RouterReport, Rung, Vitals, cell_ids
from router.core.policy import MAX_HOMES, Policy, why_refused
from router.core.scaling.decision import ScalingDecision, decided
from router.core.scaling.hot import CellUse, KeyUse, SlotMove, UsePeriods, slot_to_move, too_large
from router.core.scaling.seen import CellShares, LoadReading, LoadSeen, LoadWindow
from router.core.slot_map.placement import wanted_owners
from router.core.slot_map.slots import NO_MOVE, slot_of

OLD_S: Final = 60.0  # events that have waited for longer wait too long


def scaling_decision(desired: Desired, observed: Observed) -> ScalingDecision | None:
    """Decide whether the number of cells shall change; None where it follows no load."""
    scaling = observed.policy.scaling
    if scaling is None:
        return None
    if observed.why_load_unknown is not None or observed.load is None:
        return ScalingDecision(0, observed.why_load_unknown or "nothing is seen of the load yet")
    cells, owning = len(desired.cells), len(_owning(desired, observed))
    found = decided(scaling, cells, owning, observed.load, observed.why_suspended)
    found = replace(found, too_large=too_large(observed.uses, scaling.target))
    if not found.change:
        return found
    why = _why_not(desired, observed, cells + found.change)
    return replace(found, change=0, why=f"{found.why}; not now: {why}") if why is not None else found


def scaling_steps(desired: Desired, observed: Observed) -> Iterator[ChangeCells | MoveSlot]:
    """Change the number of cells by one where the load wants that; else move a slot that fills its cell.

    Only where something new was seen of the load, about once a second, and nothing goes on.
    """
    if observed.load is None or why_not_seen(desired, observed) is not None:
        return
    found = scaling_decision(desired, observed)
    if found is not None and found.change:
        now = len(desired.cells)
        yield ChangeCells(now + found.change, now, found.why)
    elif found is not None and (hot := _hot_slot(desired, observed)) is not None:
        yield MoveSlot(hot.slot, hot.cell_id, hot.why)


def _hot_slot(desired: Desired, observed: Observed) -> SlotMove | None:
    """Choose a slot to move, while all cells are well and nothing but the load is to blame."""
    policy = observed.policy
    if policy.scaling is None or observed.why_load_unknown is not None:
        return None
    if observed.why_suspended or len(policy.homes) >= MAX_HOMES:
        return None
    well = [cell_id for cell_id in desired.cells if observed.cells[cell_id].treatment.rung is Rung.WELL]
    if len(well) < len(desired.cells):
        return None
    return slot_to_move(observed.uses, policy.scaling.target, set(well) - policy.cordoned, policy.pins)


def why_not_seen(desired: Desired, observed: Observed) -> Reason | None:
    """Say what goes on, so that the load of now is not the usual one; None where all is quiet."""
    policy, current = observed.policy, observed.slot_map
    if not desired.can_launch:
        return "something else than the controllers starts the workers here"
    if policy.release is not None and policy.release.runs:
        return "a release runs"
    if policy.scaling_from or current is None:
        return "the number of cells is being changed"
    if policy.draining.issuperset(desired.cells):
        return "every cell is draining"
    moves = current.move is not NO_MOVE or current.owners != wanted_owners(current.owners, desired.cells, policy)
    return next(_of_cells(desired, observed), "slots or keys are on their way" if moves else None)


def _of_cells(desired: Desired, observed: Observed) -> Iterator[Reason]:
    for cell_id in desired.cells:
        record = observed.cells.get(cell_id)
        if record is None or record.retired:
            yield f"{cell_id} is not made yet"
        elif record.launching:
            yield f"an instance of {cell_id} is being launched"
        elif record.treatment.rung in ON_THE_LADDER:
            yield f"{cell_id} is treated: {record.treatment.rung}"
        elif observed.policy.ejects(record):
            yield f"{cell_id} is ejected"
        elif observed.serving(cell_id) is None or record.verified != record.generation:
            yield f"{cell_id} does not serve"
    for record in observed.cells.values():
        if record.cell_id not in desired.cells and not record.retired:
            yield f"{record.cell_id} is being taken away"


def _why_not(desired: Desired, observed: Observed, wanted: int) -> Reason | None:
    """Say why there can't be so many cells now, though the load wants it."""
    unwell = [cell_id for cell_id in desired.cells if observed.cells[cell_id].treatment.rung is not Rung.WELL]
    if wanted < len(desired.cells) and unwell:
        return f"{unwell[0]} is not well"
    after = observed.policy.with_cells(wanted, len(desired.cells))
    return next(iter(why_refused(after, observed.policy, cell_ids(wanted), desired.cells)), None)


def _owning(desired: Desired, observed: Observed) -> Sequence[str]:
    """The cells that have slots: the others take no part in the load."""
    owners = frozenset(observed.slot_map.owners) if observed.slot_map is not None else frozenset()
    return [cell_id for cell_id in desired.cells if cell_id in owners]


def measured(desired: Desired, observed: Observed, samples: Mapping[str, RouterSample]) -> LoadReading | Reason:
    """Read how much of the cells is in use; or say what is not known of it."""
    live = [router.report for router in observed.routers if router.live]
    if (why := observed.why_blind or _why_silent(live, samples)) is not None:
        return why
    shares, answered, scaling = dict[str, CellShares](), 0.0, observed.policy.scaling
    for cell_id in _owning(desired, observed):
        lease = observed.serving(cell_id)
        if lease is None or lease.vitals is None:
            return f"the worker of {cell_id} says nothing of its CPU"
        seen = [cell for sample in samples.values() if (cell := sample.cells.get(cell_id)) is not None]
        events = sum(cell.events for cell in seen) / INTERVAL_S
        answered += events
        borne = events / scaling.cell_rate if scaling is not None and scaling.cell_rate else 0.0
        shares[cell_id] = CellShares(_places(seen, lease.concurrency), _cpu(lease.vitals), borne)
    return LoadReading(shares, _is_behind(live, answered)) if shares else "no cell has slots"


def _why_silent(live: Sequence[RouterReport], samples: Mapping[str, RouterSample]) -> Reason | None:
    if not live:
        return "no router lives"
    for report in live:
        if report.router_id not in samples:
            return f"router {report.router_id} says nothing of its cells"
        if HOLD_QUEUES not in report.queues:
            return f"router {report.router_id} has not said how much its hold queues hold: see whether SQS answers it"
    return None


def _places(seen: Sequence[CellSample], concurrency: int) -> float:
    """The share of a worker's places in use: seconds of work a second are the mean number of events in work."""
    return sum(cell.busy_s for cell in seen) / INTERVAL_S / max(1, concurrency)


def _cpu(vitals: Vitals) -> float:
    """The share of the CPU in use; Python runs on one core, so that one core is all that there is of several."""
    return min(1.0, vitals.cpu * max(1.0, vitals.cpus))


def _is_behind(live: Sequence[RouterReport], rate: float) -> bool:
    """Tell whether events wait too long: in the source, or in hold queues by how long it takes to empty them."""
    oldest_s = max(report.ages.get("source", 0) for report in live)
    held = max(report.queues.get(HOLD_QUEUES, 0) for report in live)
    return oldest_s > OLD_S or held > OLD_S * rate


class ScalingWatch:
    """What the leader knows of the load since the last change of anything."""

    def __init__(self) -> None:
        self._window = LoadWindow()
        self._before: Policy | None = None
        self._failed_at: float | None = None  # when a cell that was added came to nothing
        self._periods = UsePeriods()
        self._numbers: dict[str, int] = {}  # router → the newest of its samples whose work was counted
        self.seen: LoadSeen | None = None
        self.why_unknown: Reason | None = None

    def forget(self) -> None:
        """Forget everything, since another controller may lead now."""
        self._window.forget()
        self._periods.forget()
        self._before = self._failed_at = self.seen = self.why_unknown = None

    def look(self, desired: Desired, observed: Observed, samples: Mapping[str, RouterSample], now: float) -> None:
        """Take in how the load is now, about once a second."""
        self._follow(observed.policy, now)
        scaling = observed.policy.scaling
        self.why_unknown = why_not_seen(desired, observed) if scaling is not None else None
        if scaling is None or self.why_unknown is not None:
            self._window.forget()
            self._periods.forget()
            self.seen = None
            return
        reading = measured(desired, observed, samples)
        if isinstance(reading, str):
            self.why_unknown = reading
            return
        if self._window.note(reading, now, scaling.in_after_s):
            self._periods.forget()
        self._count(reading, samples, now)
        self._periods.close(now, scaling.out_after_s)
        failed_s = now - self._failed_at if self._failed_at is not None else None
        self.seen = self._window.seen(scaling.out_after_s, scaling.in_after_s, failed_s)

    @property
    def uses(self) -> Mapping[str, CellUse]:
        """What each cell and its fullest slots used in the last whole period; empty while there is none."""
        return self._periods.last

    def _count(self, reading: LoadReading, samples: Mapping[str, RouterSample], now: float) -> None:
        """Add up what each key took, from each sample once."""
        new = [sample for name, sample in samples.items() if self._numbers.get(name) != sample.number]
        self._numbers = {name: sample.number for name, sample in samples.items()}
        busy_s, keys = defaultdict[str, float](float), list[KeyUse]()
        for sample in new:
            for cell_id, cell in sample.cells.items():
                busy_s[cell_id] += cell.busy_s
                keys += [
                    KeyUse(cell_id, key, slot_of(key), tenant.busy_s)
                    for key, tenant in cell.tenants.items()
                    if len(key) < MAX_KEY_CHARS  # a longer one is cut, and its slot is not known
                ]
        self._periods.note(reading.by_cell, busy_s, keys, now)

    def _follow(self, policy: Policy, now: float) -> None:
        """Notice when a change of the number of cells has been taken back."""
        before, self._before = self._before, policy
        if before is not None and before.scaling_from and policy.cells == before.scaling_from:
            self._failed_at = now
