"""Whether the promises hold while a drill is done, and what is told of it afterwards. Pure.

Latencies are judged by the cell that a key belonged to before: where its slot went, or who answered, excuses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from router.core.drills.kinds import DrillKind, serves, why_sick
from router.core.fleet.routes import slot_map_of
from router.core.models import Reason
from router.core.registry import Condition, Snapshot
from router.core.slot_map.slots import NO_MOVE

P99_FACTOR: Final = 1.2
"""Others' p99 may be so many times what it was before, as promise P4 says,"""
P99_ROOM_MS: Final = 50.0
"""or so much more: where it was 4 ms, 6 ms are no trouble."""
MIN_EVENTS: Final = 50
"""So many events of each other cell say how it was before; fewer say nothing."""
OPEN_S: Final = 5.0
"""Others' events may wait for so long: so many seconds of their load may be open,"""
MIN_OPEN: Final = 20
"""and so many events in any case."""

NOT_BACK: Final = 0.005
"""Of the slots that a cell had before so large a share may be missing, or one: it has its share again, and even ones
differ by one."""


class DrillPart(StrEnum):
    """The parts of a drill, in their order."""

    WARM_UP = "warm-up"  # nothing is judged
    BEFORE = "before"
    DURING = "during"  # from the deed until it is over
    AFTER = "after"  # until all is well again

    @property
    def number(self) -> int:
        """Its place in the order, from 0."""
        return list(DrillPart).index(self)


class KeysSeen(msgspec.Struct, frozen=True):
    """How the events went, in one part of a drill, of the keys that belonged to one cell before it."""

    events: int  # done
    p99_ms: float
    sure_ms: float = 0.0  # what the p99 is at least, whatever chance has done
    open: int = 0  # not done yet, of all parts


class ProbeSeen(msgspec.Struct, frozen=True):
    """How the load goes, as of one moment."""

    seconds: float  # of the part
    keys: Mapping[str, KeysSeen]  # by the cell that they belonged to before
    sent: int | None = None  # events of the drill's own load; None: it has none, as in live
    done: int = 0  # of these
    dead_letters: int = 0  # that came since the load began, whoever's


@dataclass(frozen=True, slots=True)
class DrillSeen:
    """All that is looked at, as of one moment."""

    snapshot: Snapshot
    conditions: Mapping[str, Condition]
    load: ProbeSeen


@dataclass(frozen=True, slots=True)
class DrillPlan:
    """What is done to which cell, in whose name, and for how long it is watched."""

    environment: str
    kind: DrillKind
    cell_id: str
    drill_id: str
    who: str
    why: str
    watch_s: float  # at least, before the deed and after it
    p99_ms: float | None = None  # what others' p99 may reach; None: by what it was before
    launch_s: float = 30.0  # that an instance may take from its launch until it is ready

    @property
    def limit_s(self) -> float:
        """How long it may take until the cell is replaced or empty, and again until all is well."""
        return self.kind.limit_s + (self.launch_s if self.kind.injects else 0.0)

    @property
    def text(self) -> str:
        """What is done, in words."""
        return {
            DrillKind.KILL: f"{self.cell_id}: its instance is killed",
            DrillKind.SLOW: f"{self.cell_id}: its instance gets slow",
            DrillKind.EVACUATE: f"{self.cell_id}: its slots go to the others",
        }[self.kind]


def surely(events: int) -> float:
    """Return which quantile of so many events the p99 is not below, but by a chance of one in a thousand.

    Of 60 events the longest is their p99, and one long one says nothing. 1 % of events are above the p99, and how many
    that are of so few is a Poisson distribution: this is its quantile, a little rounded up.
    """
    expected = events / 100
    allowed = math.ceil(expected + 3.1 * math.sqrt(expected) + 2)
    return max(0.0, 1 - allowed / events) if events else 0.0


def limit_ms(plan: DrillPlan, before_ms: float) -> float:
    """Return how long others' p99 may be, in ms, where it was `before_ms`."""
    return plan.p99_ms if plan.p99_ms is not None else max(P99_FACTOR * before_ms, before_ms + P99_ROOM_MS)


def why_not_judged(plan: DrillPlan, before: DrillSeen) -> Reason | None:
    """Say why nothing can be told by this load; None when it is enough, and fast enough already."""
    others = _others(plan, before)
    if not others:
        return "no other cell has any event: there is nothing to judge by"
    if before.load.dead_letters:
        return f"{before.load.dead_letters} dead letters came, though nothing is done yet: cellrouter dlq list"
    few = [cell_id for cell_id, keys in others.items() if keys.events < MIN_EVENTS]
    if few:
        told = f"{', '.join(few)}: fewer than {MIN_EVENTS} events in {before.load.seconds:.0f} s"
        return f"{told}: watch for longer (--for), or send more (--rate)"
    for cell_id, keys in others.items():
        if plan.p99_ms is not None and keys.sure_ms > plan.p99_ms:
            return f"p99 of {cell_id}'s keys is {keys.p99_ms:.0f} ms already, above {plan.p99_ms:.0f} ms"
    return None


def breach(plan: DrillPlan, before: DrillSeen, now: DrillSeen) -> Reason | None:
    """Say which promise is broken now, the first that is; None while all hold."""
    for why in (_why_moved(plan, before, now), _why_not_alone(plan, before, now)):
        if why is not None:
            return why
    for cell_id, keys in _others(plan, before).items():
        found = now.load.keys.get(cell_id)
        if found is not None and (why := _why_late(plan, cell_id, keys, found, before.load.seconds)) is not None:
            return why
    return _why_lost(now, over=False)


def is_done(plan: DrillPlan, before: DrillSeen, now: DrillSeen) -> bool:
    """Tell whether what the system does about the deed is done: another instance serves, or the cell is empty."""
    if plan.kind is DrillKind.EVACUATE:
        slot_map = slot_map_of(now.snapshot)
        return slot_map.move is NO_MOVE and not slot_map.counts()[plan.cell_id]
    record, was = now.snapshot.cells.get(plan.cell_id), before.snapshot.cells[plan.cell_id]
    return record is not None and record.generation > was.generation and serves(now.snapshot, plan.cell_id)


def is_back(plan: DrillPlan, before: DrillSeen, now: DrillSeen) -> bool:
    """Tell whether the cell has about as many slots as before; whether it is well otherwise is not said."""
    had, has = (slot_map_of(seen.snapshot).counts()[plan.cell_id] for seen in (before, now))
    return has >= had - max(1.0, NOT_BACK * had)


class DrillFinding(msgspec.Struct, frozen=True):
    """What a drill found of one promise."""

    promise: str
    held: bool
    said: str


class DrillReport(msgspec.Struct, frozen=True):
    """All that is told of a drill."""

    environment: str
    kind: DrillKind
    cell: str
    drill: str
    who: str
    why: str
    began_ms: int
    held: bool
    stopped: Reason | None  # why it was stopped before its end; None: it was not
    findings: tuple[DrillFinding, ...]
    keys: dict[str, dict[str, KeysSeen]]  # by part, then by the cell that they belonged to before

    @property
    def verdict(self) -> str:
        """The verdict, in a sentence."""
        broken = "; ".join(finding.said for finding in self.findings if not finding.held)
        return "every promise held" if self.held else f"not every promise held: {self.stopped or broken}"


def findings(
    plan: DrillPlan, before: DrillSeen, during: DrillSeen, after: DrillSeen, times: Mapping[str, float | None]
) -> Iterator[DrillFinding]:
    """Judge every promise, by how it was before, until the deed was over, and at the end.

    `times` has the seconds from the deed until it was done and until all was well again; None for what did not come.
    """
    moved = _why_moved(plan, before, during) or _why_moved(plan, before, after)
    yield DrillFinding("0 moved", moved is None, moved or _unmoved(plan))
    alone = _why_not_alone(plan, before, during) or _why_not_alone(plan, before, after)
    yield DrillFinding("others untouched", alone is None, alone or "no other cell fell sick or got another instance")
    late = list(_lateness(plan, before, during))
    if plan.kind is not DrillKind.EVACUATE:  # whose way back makes keys of others wait while they move
        late += _lateness(plan, before, after)
    worst = next((said for said, held in late if not held), late[0][0] if late else "no other cell has events")
    yield DrillFinding("others' p99", all(held for _, held in late), worst)
    lost = _why_lost(after, over=True)
    yield DrillFinding("0 lost", lost is None, lost or _not_lost(after.load))
    for name, seconds in times.items():
        said = f"{name} after {seconds:.1f} s" if seconds is not None else f"{name}: not in time"
        yield DrillFinding(name, seconds is not None, said)


def lines_of(report: DrillReport) -> Iterator[str]:
    """Tell a report to a person."""
    yield f"{report.kind} of {report.cell} in {report.environment}, by {report.who}: {report.verdict}"
    if report.stopped is not None:
        yield f"stopped: {report.stopped}"
    for finding in report.findings:
        yield f"  {'held  ' if finding.held else 'BROKEN'}  {finding.promise}: {finding.said}"
    for part, keys in report.keys.items():
        figures = (f"{cell_id} {each.p99_ms:.0f} ms of {each.events}" for cell_id, each in sorted(keys.items()))
        yield f"p99 of keys by their cell, {part}: {', '.join(figures) or 'none'}"


def _others(plan: DrillPlan, seen: DrillSeen) -> dict[str, KeysSeen]:
    return {cell_id: keys for cell_id, keys in sorted(seen.load.keys.items()) if cell_id != plan.cell_id}


def _why_moved(plan: DrillPlan, before: DrillSeen, now: DrillSeen) -> Reason | None:
    owners, after = slot_map_of(before.snapshot).owners, slot_map_of(now.snapshot).owners
    allowed = {plan.cell_id} if plan.kind is DrillKind.EVACUATE else set[str]()
    moved = sum(a != b and not {a, b} & allowed for a, b in zip(owners, after, strict=True))
    return f"{moved} slots moved that this drill does not touch" if moved else None


def _unmoved(plan: DrillPlan) -> str:
    return f"no slot moved but from {plan.cell_id} and to it" if plan.kind is DrillKind.EVACUATE else "no slot moved"


def _why_not_alone(plan: DrillPlan, before: DrillSeen, now: DrillSeen) -> Reason | None:
    for cell_id, was in sorted(before.snapshot.cells.items()):
        record = now.snapshot.cells.get(cell_id)
        if cell_id == plan.cell_id or was.retired or record is None:
            continue
        if record.generation != was.generation:
            return f"{cell_id} got another instance, and nothing was done to it"
        if (why := why_sick(now.snapshot, now.conditions.get(cell_id))) is not None:
            return f"{cell_id} {why}"
    return None


def _why_late(plan: DrillPlan, cell_id: str, before: KeysSeen, now: KeysSeen, before_s: float) -> Reason | None:
    limit = limit_ms(plan, before.p99_ms)
    if now.sure_ms > limit:
        told = f"p99 of {cell_id}'s keys is {now.sure_ms:.0f} ms at least, above {limit:.0f} ms"
        return f"{told}; it was {before.p99_ms:.0f} ms"
    open_limit = max(MIN_OPEN, OPEN_S * before.events / before_s)
    return f"{now.open} events of {cell_id}'s keys wait, for seconds by now" if now.open > open_limit else None


def _lateness(plan: DrillPlan, before: DrillSeen, during: DrillSeen) -> Iterator[tuple[str, bool]]:
    """Say of each other cell's keys how late events were, and whether that held; the longest p99 comes first."""
    others = _others(plan, before)
    seen = {cell_id: during.load.keys.get(cell_id, KeysSeen(0, 0.0)) for cell_id in others}
    for cell_id in sorted(others, key=lambda each: -seen[each].p99_ms):
        was, now = others[cell_id], seen[cell_id]
        why = _why_late(plan, cell_id, was, now, before.load.seconds)
        allowed = limit_ms(plan, was.p99_ms)
        yield (
            why or f"{cell_id}'s keys: {was.p99_ms:.0f} → {now.p99_ms:.0f} ms, {allowed:.0f} ms allowed",
            why is None,
        )


def _why_lost(now: DrillSeen, *, over: bool) -> Reason | None:
    if now.load.dead_letters:
        return f"{now.load.dead_letters} dead letters came: cellrouter dlq list"
    if not over or now.load.sent is None or (left := now.load.sent - now.load.done) <= 0:
        return None
    return f"{left} of {now.load.sent} events that were sent are not done"


def _not_lost(load: ProbeSeen) -> str:
    if load.sent is None:
        return "no dead letter came; the events of others are not counted one by one"
    return f"each of {load.sent} events that were sent is done"
