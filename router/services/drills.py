"""Does one drill: waits until all is steady, does the deed, watches, and takes back what it did, whatever happens.

Guarantees: nothing is done unless all was well for the whole time before. The first promise that breaks stops the
drill, and so do a lost sight of the system and whoever ends the command. What can be taken back is then taken back at
once. The audit has each drill's begin and its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from router.core.drills.judging import (
    DrillFinding,
    DrillPart,
    DrillPlan,
    DrillReport,
    DrillSeen,
    ProbeSeen,
    breach,
    findings,
    is_back,
    is_done,
    why_not_judged,
)
from router.core.drills.kinds import AUDIT_READ, noted, under_way, why_not_steady, why_not_well
from router.core.errors import CellRouterError, RegistryUnavailableError, SourceUnavailableError
from router.core.models import Reason
from router.core.registry import AuditEntry, DrillAction, Snapshot
from router.ports import Clock, OperatorReader
from router.services.operations import Operations

LOOK_S: Final = 1.0  # between two looks
WARM_UP_S: Final = 3.0  # of the load, in which nothing is judged
BLIND_S: Final = 15.0  # without a look that came to anything, after which the drill stops
UNDO_TRIES: Final = 30


class DrillRefusedError(CellRouterError):
    """A drill does not begin, or nothing was done in it; the text says why."""


class UnseenError(CellRouterError):
    """How the load goes can't be told now; the text says why."""


class DrillLoad(Protocol):
    """The load by which a drill is judged: its own, or that of the environment."""

    async def begin(self, snapshot: Snapshot) -> None:
        """Begin to send or to count, with the keys where they are now."""
        ...

    def enter(self, part: DrillPart) -> None:
        """Count for this part from now on."""
        ...

    async def seen(self, snapshot: Snapshot) -> ProbeSeen:
        """Say how the load goes in this part. Raises UnseenError."""
        ...

    async def finish(self) -> None:
        """Send no more, and wait until all is done that was sent, or until nothing more happens."""
        ...


class DrillDeed(Protocol):
    """What is done to the cell. Its calls raise a CellRouterError."""

    async def do(self) -> None:
        """Do it to the cell, now."""
        ...

    async def undo(self) -> None:
        """Take back what can be taken back; called whatever has become of it, perhaps more than once."""
        ...


@dataclass(slots=True)
class _Course:
    """How far a drill has come."""

    before: DrillSeen
    during: DrillSeen
    after: DrillSeen | None = None
    stopped: Reason | None = None
    done_s: float | None = None  # from the deed
    well_s: float | None = None


class Drilling:
    """One drill, from its begin to its report."""

    def __init__(
        self,
        plan: DrillPlan,
        registry: OperatorReader,
        operations: Operations,
        deed: DrillDeed,
        load: DrillLoad,
        clock: Clock,
        tell: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._registry = registry
        self._operations = operations
        self._deed = deed
        self._load = load
        self._clock = clock
        self._tell = tell
        self._keys: dict[DrillPart, ProbeSeen] = {}

    async def run(self) -> DrillReport:
        """Do the drill. Raises DrillRefusedError where nothing was done, and what the registry raises before that."""
        snapshot = await self._registry.snapshot()
        if (why := why_not_well(snapshot, await self._registry.conditions())) is not None:
            raise DrillRefusedError(f"a drill begins only where all is well: {why}")
        if (other := under_way(await self._registry.audit(AUDIT_READ), snapshot.now_ms)) is not None:
            raise DrillRefusedError(_of_another(other))
        began_ms = self._clock.time_ms()
        await self._note(DrillAction.BEGUN, self._plan.text)
        over, said = DrillAction.REFUSED, "it was interrupted before anything was done"
        try:
            await self._alone()
            before = await self._steady(snapshot)
            over, said = DrillAction.ENDED, "it was interrupted; what it did was taken back"
            report = await self._done(before, began_ms)
            said = report.verdict
        except DrillRefusedError as error:
            said = str(error)
            raise
        finally:
            with suppress(CellRouterError):
                await self._note(over, said)
        return report

    async def _alone(self) -> None:
        """Let the one that began first go on, where two have begun at once."""
        audit, now_ms = await self._registry.audit(AUDIT_READ), self._clock.time_ms()
        if (other := under_way(audit, now_ms, self._plan.drill_id)) is not None:
            raise DrillRefusedError(_of_another(other))

    async def _steady(self, snapshot: Snapshot) -> DrillSeen:
        """Watch while nothing is done yet, and return how it was. Raises DrillRefusedError unless all was well."""
        try:
            await self._load.begin(snapshot)
            self._tell(f"watching {self._plan.environment} for {self._plan.watch_s:g} s before anything is done")
            self._load.enter(DrillPart.WARM_UP)
            await self._clock.sleep(WARM_UP_S)
            self._load.enter(DrillPart.BEFORE)
            until = self._clock.monotonic() + self._plan.watch_s
            while True:
                await self._clock.sleep(LOOK_S)
                seen = await self._seen(DrillPart.BEFORE)
                why = why_not_well(seen.snapshot, seen.conditions) or why_not_steady(snapshot, seen.snapshot)
                if why is not None:
                    raise DrillRefusedError(f"nothing was done, since it was not steady: {why}")
                if self._clock.monotonic() >= until:
                    break
        except (UnseenError, RegistryUnavailableError, SourceUnavailableError) as error:
            raise DrillRefusedError(f"nothing was done, since it can't be watched: {error}") from error
        if (why := why_not_judged(self._plan, seen)) is not None:
            raise DrillRefusedError(f"nothing was done: {why}")
        return seen

    async def _done(self, before: DrillSeen, began_ms: int) -> DrillReport:
        course = _Course(before, before)
        began = self._clock.monotonic()
        try:
            self._load.enter(DrillPart.DURING)
            self._tell(self._plan.text)
            try:
                await self._deed.do()
            except CellRouterError as error:
                course.stopped = f"it could not be done: {error}"
            else:
                await self._watch(course, began)
        finally:
            not_undone = await self._undone()
        if course.stopped is not None:
            self._tell(f"stopped: {course.stopped}")
        course.stopped = course.stopped or not_undone
        self._load.enter(DrillPart.AFTER)
        await self._recovered(course, began)
        await self._load.finish()
        with suppress(UnseenError, RegistryUnavailableError):
            course.after = await self._seen(DrillPart.AFTER)
        return self._report(course, began_ms)

    async def _watch(self, course: _Course, began: float) -> None:
        """Look until what the system does about the deed is done, for long enough, or a promise is broken."""
        plan, seen_at = self._plan, began
        while course.stopped is None:
            await self._clock.sleep(LOOK_S)
            now = self._clock.monotonic()
            try:
                seen = await self._seen(DrillPart.DURING)
            except (UnseenError, RegistryUnavailableError) as error:
                if now - seen_at > BLIND_S:
                    course.stopped = f"it can't be watched for {BLIND_S:g} s: {error}"
                continue
            seen_at, course.during = now, seen
            if course.done_s is None and is_done(plan, course.before, course.during):
                course.done_s = now - began
                self._tell(f"{plan.cell_id}: {_done_text(plan)} after {course.done_s:.1f} s")
            course.stopped = breach(plan, course.before, course.during)
            if course.done_s is not None and now - began >= plan.watch_s:
                return
            if course.done_s is None and now - began > plan.limit_s:
                course.stopped = course.stopped or f"{plan.cell_id}: not {_done_text(plan)} in {plan.limit_s:g} s"

    async def _undone(self) -> Reason | None:
        """Take back what was done, and again where that fails; returns why it could not be."""
        why = None
        for _ in range(UNDO_TRIES):
            try:
                await self._deed.undo()
            except CellRouterError as error:
                why = f"what was done could not be taken back: {error}"
                await self._clock.sleep(LOOK_S)
            else:
                return None
        self._tell(why or "")
        return why

    async def _recovered(self, course: _Course, began: float) -> None:
        """Wait until all is well again, and for the limit of the drill at most."""
        until = self._clock.monotonic() + self._plan.limit_s
        while self._clock.monotonic() < until:
            with suppress(UnseenError, RegistryUnavailableError):
                seen = await self._seen(DrillPart.AFTER)
                course.after = seen
                if why_not_well(seen.snapshot, seen.conditions) is None and is_back(self._plan, course.before, seen):
                    course.well_s = self._clock.monotonic() - began
                    return
            await self._clock.sleep(LOOK_S)

    async def _seen(self, part: DrillPart) -> DrillSeen:
        snapshot = await self._registry.snapshot()
        if snapshot.slot_map is None:
            raise UnseenError("there is no slot map")
        load = await self._load.seen(snapshot)
        self._keys[part] = load
        return DrillSeen(snapshot, await self._registry.conditions(), load)

    def _report(self, course: _Course, began_ms: int) -> DrillReport:
        plan = self._plan
        times = {_done_text(plan): course.done_s} if course.done_s is not None else {}  # else it was stopped
        found: tuple[DrillFinding, ...] = tuple(
            findings(
                plan,
                course.before,
                course.during,
                course.after or course.during,
                {**times, "all well again": course.well_s},
            )
        )
        keys = {part.value: dict(load.keys) for part, load in self._keys.items()}
        held = course.stopped is None and all(finding.held for finding in found)
        return DrillReport(
            plan.environment,
            plan.kind,
            plan.cell_id,
            plan.drill_id,
            plan.who,
            plan.why,
            began_ms,
            held,
            course.stopped,
            found,
            keys,
        )

    async def _note(self, action: DrillAction, text: str) -> None:
        plan = self._plan
        await self._operations.note(action, noted(plan.kind, plan.drill_id, text), plan.why, plan.cell_id)


def _done_text(plan: DrillPlan) -> str:
    return _DONE[plan.kind.injects]


_DONE: Final[Mapping[bool, str]] = {True: "served by another instance", False: "empty"}


def _of_another(entry: AuditEntry) -> str:
    return f"one drill at a time: {entry.who} has begun another one ({entry.why})"
