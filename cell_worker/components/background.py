"""Runs a handler's background components: each by itself, again after a failure, and never in standby.

A component that fails takes nothing else with it. It is not healthy until it has run for a while again, so that whoever
watches the cell's components restarts it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import structlog

from cell_worker import clock
from cell_worker.api import Background, Component
from cell_worker.contract.protocol import Reason
from cell_worker.store.store import FencedError

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 10.0
HEALTHY_AFTER_S: Final = 10.0
"""How long a component must have run since it failed, to count as healthy again."""
LOOK_EVERY_S: Final = 0.5
"""How soon a component is stopped into which a fault is injected."""


class BackgroundError(Exception):
    """A background component doesn't run, or has not run for long since it failed; the text says why it failed."""


class BackgroundComponent:
    """A handler's component with the work that it does in the background."""

    def __init__(self, component: Background, check_injected: Callable[[str], None]) -> None:
        self._component = component
        self._check_injected = check_injected
        self._again = asyncio.Event()
        self._log = structlog.get_logger("background").bind(component=component.name)
        self._why_failing: Reason | None = None
        self._began_at: float | None = None  # None while it doesn't run

    @property
    def name(self) -> str:
        """The component's own name, which it is known by."""
        return self._component.name

    async def check(self) -> str:
        """Say what the component says, and whether it waits. Raises BackgroundError while it fails."""
        if self._why_failing is not None:
            if self._began_at is None or clock.monotonic() - self._began_at < HEALTHY_AFTER_S:
                raise BackgroundError(self._why_failing)
            self._why_failing = None
        detail = await self._component.check()
        return detail if self._began_at is not None else f"{detail}; waits until this instance has the cell"

    async def restart(self) -> None:
        """Restart the component, and have it begin its work anew."""
        await self._component.restart()
        self._why_failing = None
        self._again.set()

    async def run(self) -> None:
        """Have it work until cancelled. Raises FencedError: the rest is for the successor to do."""
        pause_s = FIRST_PAUSE_S
        while True:
            self._again.clear()
            began_at = clock.monotonic()
            why = await self._run_once()
            if why is None:
                pause_s = FIRST_PAUSE_S
                continue
            if self._why_failing is None:
                self._log.error("a background component fails, and begins anew", why=why)
            if clock.monotonic() - began_at >= HEALTHY_AFTER_S:
                pause_s = FIRST_PAUSE_S
            self._why_failing = why
            await self._pause(pause_s * (0.5 + clock.jitter() / 2))
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)

    async def _run_once(self) -> Reason | None:
        """Have it work until it is restarted, and say why it has ended if not for that. Raises FencedError."""
        working = asyncio.ensure_future(self._component.run())
        self._began_at = clock.monotonic()
        try:
            while not working.done() and not self._again.is_set():
                self._check_injected(self.name)
                await self._until_restarted(LOOK_EVERY_S, working)
            if not working.done():
                return None
            await working
        except FencedError:
            raise
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return "it was cancelled"
        except Exception as error:  # noqa: BLE001 - a handler's component is the handler's code
            return f"{type(error).__name__}: {error}"
        finally:
            self._began_at = None
            working.cancel()
            await asyncio.wait([working])
        return "it has ended, which it should not"

    async def _pause(self, seconds: float) -> None:
        if not self._again.is_set():
            await self._until_restarted(seconds)

    async def _until_restarted(self, seconds: float, *others: asyncio.Future[Any]) -> None:
        """Wait until it is restarted, one of the others is done, or the time is over."""
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._again.wait()),
            asyncio.ensure_future(clock.sleep(seconds)),
        ]
        try:
            await asyncio.wait([*waits, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class Backgrounds:
    """The background components of one worker."""

    def __init__(self, check_injected: Callable[[str], None]) -> None:
        self._check_injected = check_injected
        self._found: list[BackgroundComponent] = []

    def around(self, components: Sequence[Component]) -> list[Component]:
        """Put what runs in the background into components that have it run; leave the others as they are."""
        return [self._around(each) for each in components]

    def _around(self, component: Component) -> Component:
        if not inspect.iscoroutinefunction(getattr(component, "run", None)):
            return component
        background = BackgroundComponent(cast("Background", component), self._check_injected)
        self._found.append(background)
        return background

    async def run(self, taken: asyncio.Event) -> None:
        """Have all of them work, once this instance has the cell, until cancelled. Raises FencedError."""
        await taken.wait()
        await asyncio.gather(asyncio.Event().wait(), *(each.run() for each in self._found))
