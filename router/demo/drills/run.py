"""One drill on a running system, put together of its parts; and drills that are repeated."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cell_worker.contract.protocol import MAX_FAULT_S, Fault, FaultKind
from router.adapters.http_session import http_session
from router.bootstrap.queues import queues_of
from router.bootstrap.registry import by_hand, open_registry
from router.bootstrap.workers import inject_fault
from router.core.drills.judging import DrillPlan, DrillReport
from router.core.drills.kinds import AUDIT_READ, DrillKind, victim_of, why_refused
from router.core.drills.schedule import DrillWindow, Every
from router.core.edits.decided import record_in
from router.core.edits.kinds import DrainEdit, UncordonEdit
from router.core.environments import LIVE
from router.core.errors import CellUnavailableError, ChaosRefusedError, NothingToChangeError
from router.core.messages.parser import Extraction
from router.core.models import Target
from router.core.registry import DrillAction
from router.demo.drills.live import LiveLoad
from router.demo.drills.probe import TENANTS, ProbeLoad
from router.demo.stress.events import StressError, StressMessage, archived, made_up, read_archive
from router.demo.stress.routers import StressRouters, urls_in
from router.ports import Clock, RegistryReader
from router.services.drill_schedule import next_due_ms, repeat_drills
from router.services.drills import DrillDeed, Drilling, DrillLoad, DrillRefusedError
from router.services.operations import Operations
from router.settings import Settings

DELAY_S: Final = 0.5  # by which each event and canary of a slow instance takes longer,
FACTOR: Final = 3.0  # and so many times what the handler takes
WORK_MS: Final = 2.0
PADDING: Final = 200  # bytes of a made-up event

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """What the command line asks of a drill."""

    kind: DrillKind
    cell_id: str  # empty: each in its turn
    why: str
    watch_s: float
    rate: float  # events a second of the drill's own load; not in live
    p99_ms: float | None
    archive: Path | None
    routers: tuple[str, ...]  # their URLs; empty: as they have reported themselves


def check(options: DrillOptions, settings: Settings) -> None:
    """See whether such drills are done here at all. Raises DrillRefusedError."""
    why = why_refused(settings.environment, options.kind, in_live=settings.drills.in_live, chaos=settings.chaos)
    if why is not None:
        raise DrillRefusedError(why)


async def run_drill(options: DrillOptions, settings: Settings, clock: Clock, tell: Tell) -> DrillReport:
    """Do one drill now, and report. Raises DrillRefusedError where nothing was done."""
    check(options, settings)
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(open_registry(settings))
        snapshot = await registry.snapshot()
        cell_id = options.cell_id or victim_of(snapshot, await registry.audit(AUDIT_READ))
        record_in(snapshot.cells, cell_id)
        plan = DrillPlan(
            settings.environment,
            options.kind,
            cell_id,
            uuid.uuid4().hex[:8],
            by_hand(),
            options.why,
            options.watch_s,
            options.p99_ms,
            settings.cells.launch_timeout_s,
        )
        operations = Operations(registry, clock, plan.who)
        try:
            load = await _load(stack, options, plan, settings, options.routers or urls_in(snapshot, settings), clock)
        except StressError as error:
            raise DrillRefusedError(str(error)) from error
        deed = _deed(plan, settings, registry, operations)
        return await Drilling(plan, registry, operations, deed, load, clock, tell).run()


async def run_drills(
    options: DrillOptions,
    every: Every,
    window: DrillWindow,
    settings: Settings,
    clock: Clock,
    tell: Tell,
    reported: Callable[[DrillReport], None],
) -> None:
    """Do a drill whenever one is due, until cancelled. Raises DrillRefusedError where none is ever done."""
    check(options, settings)

    async def due() -> int:
        async with open_registry(settings) as registry:
            return await next_due_ms(registry, options.kind, every, window, clock)

    async def drill() -> None:
        reported(await run_drill(options, settings, clock, tell))

    await repeat_drills(due, drill, clock, tell)


async def _load(
    stack: AsyncExitStack,
    options: DrillOptions,
    plan: DrillPlan,
    settings: Settings,
    urls: tuple[str, ...],
    clock: Clock,
) -> DrillLoad:
    session = await stack.enter_async_context(http_session())
    if settings.environment == LIVE:
        return LiveLoad(session, urls, clock)
    run, source = f"d{plan.drill_id}", settings.source
    make = (
        made_up(run, WORK_MS, PADDING)
        if options.archive is None
        else archived(run, _few(read_archive(options.archive, Extraction(source.partition_key, source.event_id))))
    )
    queue, _ = await queues_of(stack, settings)
    probe = ProbeLoad(run, queue, make, StressRouters(session, urls, run), options.rate, clock)
    stack.callback(probe.close)
    return probe


def _few(archive: Sequence[StressMessage]) -> list[StressMessage]:
    """Take the events of so few keys that each key is counted; a message with several events is of several keys."""
    alone = [message for message in archive if message.events == 1]
    keys = set(list(dict.fromkeys(message.key for message in alone))[:TENANTS])
    if not keys:
        raise StressError("--archive: has no message with one event alone, which can be accounted for")
    return [message for message in alone if message.key in keys]


def _deed(plan: DrillPlan, settings: Settings, registry: RegistryReader, operations: Operations) -> DrillDeed:
    if plan.kind is DrillKind.EVACUATE:
        return Evacuation(plan, operations)
    fault = Fault(FaultKind.CRASH)
    if plan.kind is DrillKind.SLOW:
        seconds = min(MAX_FAULT_S, 2 * plan.limit_s)  # it ends by itself, should this process be killed
        fault = Fault(FaultKind.SLOW, seconds, delay_s=DELAY_S, factor=FACTOR)
    return FaultOfADrill(plan.cell_id, fault, settings, registry)


class FaultOfADrill:
    """Has an instance misbehave; what of it lasts ends by itself too."""

    def __init__(self, cell_id: str, fault: Fault, settings: Settings, registry: RegistryReader) -> None:
        self._cell_id = cell_id
        self._fault = fault
        self._settings = settings
        self._registry = registry
        self._target: Target | None = None  # that has it

    async def do(self) -> None:
        """Inject the fault into the cell's admitted instance."""
        snapshot = await self._registry.snapshot()
        lease = snapshot.lease(self._cell_id, record_in(snapshot.cells, self._cell_id).generation)
        if lease is None or not lease.live:
            raise CellUnavailableError(f"{self._cell_id} has no instance that serves now")
        self._target = lease.target()
        await inject_fault(self._settings, self._target, self._fault)

    async def undo(self) -> None:
        """End the fault, unless its instance is gone."""
        if self._target is None or self._fault.kind is FaultKind.CRASH:
            return
        try:
            await inject_fault(self._settings, self._target, Fault(self._fault.kind, 0))
        except (CellUnavailableError, ChaosRefusedError):
            snapshot = await self._registry.snapshot()
            if record_in(snapshot.cells, self._cell_id).generation <= self._target.generation:
                raise
        self._target = None


class Evacuation:
    """Drains the cell, and gives it its share again."""

    def __init__(self, plan: DrillPlan, operations: Operations) -> None:
        self._plan = plan
        self._operations = operations
        self._begun = False

    async def do(self) -> None:
        """Drain the cell, as a person does."""
        self._begun = True
        await self._operations.change(DrainEdit(self._plan.cell_id), self._plan.why, action=DrillAction.DRAINED)

    async def undo(self) -> None:
        """Uncordon the cell, also where it is not known whether it was drained."""
        if not self._begun:
            return
        with suppress(NothingToChangeError):  # it was not drained, or a person was faster
            await self._operations.change(
                UncordonEdit(self._plan.cell_id), self._plan.why, action=DrillAction.UNCORDONED
            )
        self._begun = False
