"""Drills that are repeated, on virtual time: each once in its period, whoever restarts and whatever refuses one."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from router.core.drills.kinds import DrillKind, noted
from router.core.drills.schedule import DrillWindow, Every
from router.core.registry import AuditEntry, DrillAction
from router.services.drill_schedule import next_due_ms, repeat_drills
from router.services.drills import DrillRefusedError
from tests.support.fake_clock import FakeClock, play
from tests.support.memory_registry import MemoryRegistry

DAY_S = 86_400.0
WINDOW = DrillWindow(600, 960)


class Repeating:
    """Processes that do a drill each day, and restart as they are told."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.registry = MemoryRegistry(self.clock)
        self.begun: list[float] = []  # in hours of the day
        self.told: list[str] = []
        self.refusals = 0

    async def drill(self) -> None:
        """Do one, or refuse it."""
        if self.refusals:
            self.refusals -= 1
            raise DrillRefusedError("not all is well")
        at_ms = self.clock.time_ms()
        self.begun.append(at_ms / 3600e3 % 24)
        why = noted(DrillKind.KILL, f"{len(self.begun):08x}", "text")
        self.registry.contents.audit.append(AuditEntry(at_ms, "me", DrillAction.BEGUN, "", why))
        await self.clock.sleep(90)

    async def process(self) -> None:
        """Be one process that repeats drills."""

        async def due() -> int:
            return await next_due_ms(self.registry, DrillKind.KILL, Every.DAY, WINDOW, self.clock)

        await repeat_drills(due, self.drill, self.clock, self.told.append)

    async def for_days(self, days: float, processes: int = 1) -> None:
        """Run so many processes for so long, and end them."""
        running = [asyncio.ensure_future(self.process()) for _ in range(processes)]
        await self.clock.sleep(days * DAY_S)
        for each in running:
            each.cancel()
            with suppress(asyncio.CancelledError):
                await each


def test_each_day_has_one_drill_inside_the_window_whoever_restarts() -> None:
    """Three restarts a day, and two processes that do the same, add none."""
    world = Repeating()

    async def story() -> None:
        for _ in range(30):
            await world.for_days(1 / 3, processes=2)

    play(world.clock, story())
    assert len(world.begun) in (10, 11)
    assert all(10 <= hour < 16 for hour in world.begun)


def test_a_drill_that_is_refused_is_tried_again_and_an_outage_ends_nothing() -> None:
    """After ten minutes, still inside the window; what can't be read now is read later."""
    world = Repeating()

    async def story() -> None:
        world.refusals = 3
        world.registry.down = True
        running = asyncio.ensure_future(world.for_days(2))
        await world.clock.sleep(600)
        world.registry.down = False
        await running

    play(world.clock, story())
    assert world.refusals == 0
    assert len(world.begun) in (2, 3)
    assert sum("not all is well" in text for text in world.told) == 3
    assert any("can't be told when" in text for text in world.told)
