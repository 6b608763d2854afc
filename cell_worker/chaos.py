"""Fault injection: an instance fails on purpose, so that people and tests see what the system does about it.

Guarantees: every fault ends by itself, at the latest when the worker drains. The lease, health checks and commands go
on as usual. While no fault is injected, an event pays no more than a look into an empty dict.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from cell_worker import clock
from cell_worker.api import Cell, Component, Event, RetryEvent
from cell_worker.contract.protocol import Fault, FaultKind, Reason

T = TypeVar("T")
Handle = Callable[[Event, Cell], Awaitable[Mapping[str, Any] | None]]

GARBAGE: Final = b'{"index": "no valid result", \n'


class InjectedError(Exception):
    """What a handler or a component raises because a fault is injected into it."""


@dataclass(frozen=True, slots=True)
class _RunningFault:
    """A fault that has begun and not yet ended."""

    fault: Fault
    over: asyncio.Future[None]  # done when the fault has ended
    timer: asyncio.TimerHandle
    ends_at: float  # by the worker's monotonic clock

    def text(self) -> str:
        """Describe the fault, and how many seconds of it are left."""
        fault, rate = self.fault, f", rate {self.fault.rate:g}"
        details = {
            FaultKind.SLOW: f" (+{fault.delay_s:g} s, x{fault.factor:g}{rate if fault.rate < 1 else ''})",
            FaultKind.ERRORS: f" (rate {fault.rate:g})",
            FaultKind.COMPONENT: f" ({fault.component})",
        }
        left_s = max(0.0, self.ends_at - clock.monotonic())
        return f"{fault.kind.value}{details.get(fault.kind, '')} for {left_s:.0f} s more"


class Chaos:
    """The faults that are injected into this instance now, at most one of each kind."""

    def __init__(self, *, allowed: bool = False) -> None:
        self.allowed = allowed
        self._running: dict[FaultKind, _RunningFault] = {}
        self._log = structlog.get_logger("chaos")

    def inject(self, fault: Fault) -> None:
        """Begin a fault and end a running one of its kind. A fault of 0 seconds only ends that one."""
        self.end(fault.kind)
        if fault.kind is FaultKind.CRASH:
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.seconds:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(fault.seconds, self.end, fault.kind)
            running = _RunningFault(fault, loop.create_future(), timer, clock.monotonic() + fault.seconds)
            self._running[fault.kind] = running
            self._log.warning("a fault is injected", fault=running.text())

    def end(self, kind: FaultKind) -> None:
        """End the running fault of this kind now, if there is one."""
        running = self._running.pop(kind, None)
        if running is not None:
            running.timer.cancel()
            running.over.set_result(None)
            self._log.warning("an injected fault has ended", kind=kind.value)

    def end_all(self) -> None:
        """End every running fault now. Whatever waited for their end goes on."""
        for kind in list(self._running):
            self.end(kind)

    def why_failing(self) -> Reason | None:
        """Name the injected faults. None when nothing is injected."""
        return ", ".join(running.text() for running in self._running.values()) or None

    async def wait_while_hung(self, gone: asyncio.Future[Any]) -> None:
        """Wait while the worker is told to hang: until that fault is over, or the client is gone."""
        while (hang := self._running.get(FaultKind.HANG)) is not None and not gone.done():
            await asyncio.wait([hang.over, gone], return_when=asyncio.FIRST_COMPLETED)

    def line(self, line: bytes) -> bytes:
        """Replace a result line by garbage while that is injected. Else return it unchanged."""
        return GARBAGE if FaultKind.GARBAGE in self._running else line

    def around_handler(self, handler: Handle) -> Handle:
        """Wrap the handler so that injected faults act on its events and canaries."""
        return _FaultyHandler(handler, self)

    def around_component(self, component: Component) -> Component:
        """Wrap a component so that an injected fault acts on it and a restart of it ends that fault."""
        return _FaultyComponent(component, self)

    async def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call the handler, its canary or its rehearsal, under what is injected. Raises RetryEvent or InjectedError."""
        if not self._running:
            return await call()
        if broken := self._broken_component():
            raise RetryEvent(f"injected: the component {broken} fails")
        slow, errors = self._running.get(FaultKind.SLOW), self._running.get(FaultKind.ERRORS)
        if slow is not None and clock.jitter() >= slow.fault.rate:
            slow = None  # it hits others
        if slow is not None:
            await asyncio.wait([slow.over], timeout=slow.fault.delay_s)
        if errors is not None and clock.jitter() < errors.fault.rate:
            raise InjectedError("injected: the handler fails")
        begun = clock.monotonic()
        result = await call()
        if slow is not None:
            await asyncio.wait([slow.over], timeout=(slow.fault.factor - 1) * (clock.monotonic() - begun))
        return result

    def check(self, component: str) -> None:
        """Check one component under what is injected. Raises InjectedError when it is told to fail."""
        if self._broken_component() == component:
            raise InjectedError("injected: it fails until it is restarted")

    def restarted(self, component: str) -> None:
        """End the fault that is injected into this component, if there is one."""
        if self._broken_component() == component:
            self.end(FaultKind.COMPONENT)

    def _broken_component(self) -> str | None:
        running = self._running.get(FaultKind.COMPONENT)
        return None if running is None else running.fault.component


class _FaultyHandler:
    def __init__(self, handler: Handle, chaos: Chaos) -> None:
        self._handler = handler
        self._canary: Callable[[Cell], Awaitable[None]] = getattr(handler, "canary", _no_canary)
        self._chaos = chaos
        if (rehearse := getattr(handler, "rehearse", None)) is not None:
            self.rehearse = lambda event, cell: chaos.call(lambda: rehearse(event, cell))

    async def __call__(self, event: Event, cell: Cell) -> Mapping[str, Any] | None:
        return await self._chaos.call(lambda: self._handler(event, cell))

    async def canary(self, cell: Cell) -> None:
        await self._chaos.call(lambda: self._canary(cell))


class _FaultyComponent:
    def __init__(self, component: Component, chaos: Chaos) -> None:
        self._component = component
        self._chaos = chaos

    @property
    def name(self) -> str:
        return self._component.name

    async def check(self) -> str:
        self._chaos.check(self.name)
        return await self._component.check()

    async def restart(self) -> None:
        await self._component.restart()
        self._chaos.restarted(self.name)


async def _no_canary(_: Cell) -> None:
    """Stands for the canary of a handler that has none."""
