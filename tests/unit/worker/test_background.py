"""A handler's background component works while the instance has the cell, and again after whatever stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cell_worker import clock as worker_clock
from cell_worker.api import RetryEvent
from cell_worker.components.background import HEALTHY_AFTER_S, BackgroundError, Backgrounds
from cell_worker.store.store import FencedError
from tests.support.fake_clock import FakeClock, play


class Pump:
    """Counts its runs; each does what the test says."""

    name = "pump"

    def __init__(self, work: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        self.runs = 0
        self.working = False
        self._work = work

    async def run(self) -> None:
        self.runs += 1
        self.working = True
        try:
            await self._work(self.runs)
        finally:
            self.working = False

    async def check(self) -> str:
        return "pumps"

    async def restart(self) -> None:
        """Nothing to replace."""


class World:
    """A worker's background components on virtual time."""

    def __init__(self, pump: Pump) -> None:
        self.taken = asyncio.Event()
        self.broken = False
        self.backgrounds = Backgrounds(self._check)
        (self.component,) = self.backgrounds.around([pump])

    def _check(self, name: str) -> None:
        if self.broken:
            raise RuntimeError(f"injected into {name}")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Virtual time for all of the worker."""
    clock = FakeClock()
    for name in ("monotonic", "sleep", "jitter"):
        monkeypatch.setattr(worker_clock, name, getattr(clock, name))
    return clock


async def forever(_: int) -> None:
    """Work until cancelled."""
    await asyncio.Event().wait()


def test_it_waits_until_the_instance_has_the_cell_and_ends_with_it(clock: FakeClock) -> None:
    """A standby touches nothing."""

    async def story() -> None:
        pump = Pump(forever)
        world = World(pump)
        running = asyncio.create_task(world.backgrounds.run(world.taken))
        await clock.sleep(5)
        assert (pump.runs, await world.component.check()) == (0, "pumps; waits until this instance has the cell")
        world.taken.set()
        await clock.sleep(5)
        assert (pump.runs, await world.component.check()) == (1, "pumps")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await clock.sleep(1)
        assert not pump.working

    play(clock, story())


def test_one_that_fails_runs_again_and_is_sick_until_it_has_run_for_a_while(clock: FakeClock) -> None:
    """Raising, returning and being cancelled are all failures. The pauses grow."""

    async def work(run: int) -> None:
        if run == 1:
            raise RetryEvent("no table")
        if run == 2:
            raise asyncio.CancelledError
        if run > 3:
            await forever(run)

    async def story() -> None:
        pump = Pump(work)
        world = World(pump)
        world.taken.set()
        running = asyncio.create_task(world.backgrounds.run(world.taken))
        await clock.sleep(0.1)
        with pytest.raises(BackgroundError, match="RetryEvent: no table"):
            await world.component.check()
        await clock.sleep(4)
        assert pump.runs == 4
        with pytest.raises(BackgroundError, match="it has ended, which it should not"):
            await world.component.check()
        await clock.sleep(HEALTHY_AFTER_S)
        assert await world.component.check() == "pumps"
        running.cancel()

    play(clock, story())


def test_a_restart_has_it_begin_anew(clock: FakeClock) -> None:
    """Also in the pause after a failure, and at once."""

    async def story() -> None:
        pump = Pump(forever)
        world = World(pump)
        world.taken.set()
        running = asyncio.create_task(world.backgrounds.run(world.taken))
        await clock.sleep(1)
        world.broken = True
        await clock.sleep(60)
        assert not pump.working
        with pytest.raises(BackgroundError, match="injected into pump"):
            await world.component.check()
        world.broken = False
        await world.component.restart()
        await clock.sleep(0.1)
        assert pump.working
        assert await world.component.check() == "pumps"
        runs = pump.runs
        await world.component.restart()
        await clock.sleep(0.1)
        assert (pump.runs, pump.working) == (runs + 1, True)
        running.cancel()

    play(clock, story())


def test_an_instance_that_has_lost_the_cell_is_told(clock: FakeClock) -> None:
    """The worker ends for it, as for any of its own tasks."""

    async def work(_: int) -> None:
        raise FencedError("taken")

    async def story() -> None:
        world = World(Pump(work))
        world.taken.set()
        with pytest.raises(FencedError):
            await world.backgrounds.run(world.taken)

    play(clock, story())
