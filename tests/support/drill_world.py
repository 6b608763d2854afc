"""Drills on a whole system in memory, on virtual time: real controllers and routers, and the drill's own load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from router.core.drills.judging import DrillPlan, DrillReport
from router.core.drills.kinds import DrillKind
from router.core.load.findings import RouterSaid, Totals
from router.core.load.tallies import RunTallies
from router.core.telemetry import EventTimed
from router.demo.drills.probe import ProbeLoad
from router.demo.drills.run import Evacuation
from router.demo.stress.events import made_up
from router.services.drills import DrillDeed, Drilling
from router.services.operations import Operations
from tests.support.control_world import ControlWorld
from tests.support.fake_cells import Sickness
from tests.support.fake_clock import play

VICTIM: Final = "cell-0001"
CELLS: Final = 3
RATE: Final = 40.0
WATCH_S: Final = 12.0


class Counted:
    """What the routers of a world have counted of one run."""

    def __init__(self, world: ControlWorld, run: str) -> None:
        self._world = world
        self._run = run
        self._tallies = RunTallies()
        self._read = 0

    async def totals(self) -> Totals:
        """Take in the records since the last call."""
        records = self._world.notes.records
        for record in records[self._read :]:
            if isinstance(record, EventTimed):
                self._tallies.note(record)
        self._read = len(records)
        raw = msgspec.json.encode(self._tallies.view(self._run))
        return Totals([msgspec.json.decode(raw, type=RouterSaid)])


@dataclass
class Hit:
    """A deed in this world: kills or slows down the victim's instance, and remembers what became of it."""

    world: ControlWorld
    kind: DrillKind
    done_at: float = 0.0
    undone_at: float = 0.0
    undone: int = 0

    async def do(self) -> None:
        generation = self.world.control.contents.cells[VICTIM].generation
        self.done_at = self.world.clock.now
        if self.kind is DrillKind.KILL:
            self.world.machines.end(VICTIM, generation)
        else:
            self.world.cells.cells[VICTIM].sick[generation] = Sickness(extra_s=0.5)

    async def undo(self) -> None:
        self.undone += 1
        self.undone_at = self.world.clock.now
        self.world.cells.cells[VICTIM].sick.clear()


Meddle = Callable[["DrillWorld"], Awaitable[None]]


@dataclass
class DrillWorld:
    """One system, with all that its drills have told."""

    system: ControlWorld
    told: list[str] = field(default_factory=list)

    def drilling(self, kind: DrillKind, drill_id: str = "0000000a", **options: Any) -> tuple[Drilling, Any]:
        """Make a drill of the victim, and what it does."""
        system = self.system
        plan = DrillPlan("stress", kind, VICTIM, drill_id, f"me-{drill_id}", "to see", WATCH_S, **options)
        operations = Operations(system.control, system.clock, plan.who)
        deed: DrillDeed = Evacuation(plan, operations) if kind is DrillKind.EVACUATE else Hit(system, kind)
        run = f"d{drill_id}"
        load = ProbeLoad(run, system.source, made_up(run, 1, 0), Counted(system, run), RATE, system.clock)
        return Drilling(plan, system.control, operations, deed, load, system.clock, self.told.append), deed

    async def until_told(self, text: str) -> None:
        """Let time pass until the drill has said this."""
        await self.system.until(lambda: any(text in each for each in self.told), text, 600)

    async def report(self, kind: DrillKind, meddle: Meddle | None = None, **options: Any) -> DrillReport:
        """Do a drill, while somebody meddles with the system."""
        meddling = asyncio.ensure_future(meddle(self)) if meddle is not None else None
        report = await self.drilling(kind, **options)[0].run()
        if meddling is not None:
            await meddling
        return report

    def audit(self) -> list[str]:
        """List what the audit has of drills, in order."""
        entries = self.system.control.contents.audit
        return [f"{entry.action}: {entry.why}" for entry in entries if entry.action.startswith("drill")]


def in_drill_world(story: Callable[[DrillWorld], Awaitable[None]]) -> None:
    """Play a story in a system whose cells serve, with a router."""
    world = DrillWorld(ControlWorld(CELLS))

    async def played() -> None:
        async with world.system.running(routers=1):
            await world.system.until(lambda: len(world.system.control.contents.routers) == 1, "the router reports")
            await story(world)

    play(world.system.clock, played())
