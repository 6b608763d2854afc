"""Fault injection: an instance that fails on purpose, so that people and tests see what the system makes of it.

Guarantees: every fault ends by itself, at the latest when the worker drains; leases, health checks and commands go on
as they are. While nothing is injected, an event pays for one look into an empty dict.
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
from cell_worker.protocol import Fault, FaultKind

T = TypeVar("T")
Handle = Callable[[Event, Cell], Awaitable[Mapping[str, Any] | None]]

GARBAGE: Final = b'{"index": "no valid result", \n'


class InjectedError(Exception):
    """What a handler raises that is told to fail."""


@dataclass(frozen=True, slots=True)
class _Running:
    """A fault under way."""

    fault: Fault
    over: asyncio.Future[None]
    timer: asyncio.TimerHandle
    ends_at: float  # by the worker's monotonic clock

    def text(self) -> str:
        """For people."""
        fault = self.fault
        details = {
            FaultKind.SLOW: f" (+{fault.delay_s:g} s, x{fault.factor:g})",
            FaultKind.ERRORS: f" (rate {fault.rate:g})",
            FaultKind.COMPONENT: f" ({fault.component})",
        }
        left_s = max(0.0, self.ends_at - clock.monotonic())
        return f"{fault.kind.value}{details.get(fault.kind, '')} for {left_s:.0f} s more"


class Chaos:
    """What is injected now: one fault of a kind at most."""

    def __init__(self, *, allowed: bool = False) -> None:
        self.allowed = allowed
        self._running: dict[FaultKind, _Running] = {}
        self._log = structlog.get_logger("chaos")

    def inject(self, fault: Fault) -> None:
        """Begin it, in the place of one of its kind. Without any time it only ends that one."""
        self.end(fault.kind)
        if fault.kind is FaultKind.CRASH:
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.seconds:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(fault.seconds, self.end, fault.kind)
            running = _Running(fault, loop.create_future(), timer, clock.monotonic() + fault.seconds)
            self._running[fault.kind] = running
            self._log.warning("a fault is injected", fault=running.text())

    def end(self, kind: FaultKind) -> None:
        """Now; nothing when there is none of this kind."""
        running = self._running.pop(kind, None)
        if running is not None:
            running.timer.cancel()
            running.over.set_result(None)
            self._log.warning("an injected fault has ended", kind=kind.value)

    def end_all(self) -> None:
        """Now: what waits for an end goes on."""
        for kind in list(self._running):
            self.end(kind)

    def said(self) -> str:
        """What is injected, for people; empty when nothing is."""
        return ", ".join(running.text() for running in self._running.values())

    async def hold(self, gone: asyncio.Future[Any]) -> None:
        """While the worker hangs: until that is over, or nobody waits any more."""
        while (hang := self._running.get(FaultKind.HANG)) is not None and not gone.done():
            await asyncio.wait([hang.over, gone], return_when=asyncio.FIRST_COMPLETED)

    def line(self, line: bytes) -> bytes:
        """A result line as it is sent."""
        return GARBAGE if FaultKind.GARBAGE in self._running else line

    def around(self, handler: Handle) -> Handle:
        """The handler, as what is injected makes it."""
        return _Handler(handler, self)

    def part(self, component: Component) -> Component:
        """The component, as what is injected makes it."""
        return _Part(component, self)

    async def through(self, call: Callable[[], Awaitable[T]]) -> T:
        """A call of the handler. Raises RetryEvent, InjectedError."""
        if not self._running:
            return await call()
        if broken := self._broken():
            raise RetryEvent(f"injected: the component {broken} fails")
        slow, errors = self._running.get(FaultKind.SLOW), self._running.get(FaultKind.ERRORS)
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
        """Raises InjectedError when this one is to fail."""
        if self._broken() == component:
            raise InjectedError("injected: it fails until it is restarted")

    def restarted(self, component: str) -> None:
        """What was injected into it is over."""
        if self._broken() == component:
            self.end(FaultKind.COMPONENT)

    def _broken(self) -> str:
        running = self._running.get(FaultKind.COMPONENT)
        return running.fault.component if running is not None else ""


class _Handler:
    def __init__(self, handler: Handle, chaos: Chaos) -> None:
        self._handler = handler
        self._canary: Callable[[Cell], Awaitable[None]] = getattr(handler, "canary", _nothing)
        self._chaos = chaos

    async def __call__(self, event: Event, cell: Cell) -> Mapping[str, Any] | None:
        return await self._chaos.through(lambda: self._handler(event, cell))

    async def canary(self, cell: Cell) -> None:
        await self._chaos.through(lambda: self._canary(cell))


class _Part:
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


async def _nothing(_: Cell) -> None:
    """A handler without a canary."""
