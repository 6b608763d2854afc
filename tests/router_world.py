"""A whole data plane in memory, on virtual time: queues, cells, and the real services in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from router.adapters.memory import MemorySource
from router.core.dead_letter import DeadLetter, from_body
from router.core.messages import Extraction, Parser
from router.core.models import CellRecord, Draft, LeaseView
from router.core.retry import RetryPolicy
from router.core.slots import SlotMap, assign
from router.core.telemetry import Record
from router.ports import Snapshot
from router.services.consumer import Consumer, ConsumerConfig
from router.services.dispatcher import Dispatcher, DispatcherConfig
from router.services.event_router import EventRouter
from router.services.inbox import Inbox
from router.services.routing import RoutingWatcher
from tests.fake_cells import FakeCells
from tests.fake_clock import FakeClock

VISIBILITY_S = 30
LEASE_TTL_S = 2.0


class Notes:
    """The Observer port: keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def observe(self, record: Record) -> None:
        self.records.append(record)

    def count(self, kind: type) -> int:
        return sum(isinstance(record, kind) for record in self.records)


class StaticRegistry:
    """The part of the CellRegistry port that a router reads."""

    def __init__(self, clock: FakeClock, cells: list[str]) -> None:
        self._clock = clock
        self.slot_map: SlotMap | None = SlotMap(1, assign(None, dict.fromkeys(cells, 1.0)))
        self.cells = {cell: CellRecord(cell, 1) for cell in cells}
        self.live = dict.fromkeys(cells, True)

    async def snapshot(self) -> Snapshot:
        leases = tuple(
            LeaseView(c.cell_id, c.generation, "i", f"{c.cell_id}:{c.generation}", 16, True, self.live[c.cell_id])
            for c in self.cells.values()
        )
        return Snapshot(self._clock.time_ms(), self.slot_map, dict(self.cells), leases, "")


class World:
    """One source queue, its dead-letter queue, cells with hold queues, and routers to run."""

    def __init__(self, cells: int = 4, *, max_attempts: int = 3, max_messages: int = 400) -> None:
        self.clock = FakeClock()
        self.cell_ids = [f"cell-{i:04d}" for i in range(cells)]
        self.source = MemorySource("source", self.clock)
        self.dead = MemorySource("dead", self.clock)
        self.holds = {cell: MemorySource(f"hold-{cell}", self.clock) for cell in self.cell_ids}
        self.cells = FakeCells(self.clock, self.cell_ids)
        self.registry = StaticRegistry(self.clock, self.cell_ids)
        self.notes = Notes()
        self.max_attempts = max_attempts
        self.max_messages = max_messages
        self.sent: set[str] = set()

    async def send(self, count: int, *, key: Callable[[int], str] = lambda i: f"tenant-{i % 50}") -> None:
        """Put events into the source queue."""
        for _ in range(count):
            number = len(self.sent)
            self.sent.add(f"e{number}")
            await self.source.send([Draft(json.dumps({"event_id": f"e{number}", "tenant": key(number)}))])

    def router(self) -> EventRouter:
        """A router process's data plane."""
        inbox = Inbox(self.source, self.clock, self.notes, VISIBILITY_S)
        dispatcher = Dispatcher(
            DispatcherConfig(
                source_name="source",
                retry=RetryPolicy(self.max_attempts, 1.0, 60.0),
                max_events=self.max_messages,
                max_bytes=64 * 1024 * 1024,
                visibility_s=VISIBILITY_S,
                wait_s=2,
            ),
            Parser(Extraction()),
            self.cells,
            self.dead,
            lambda cell: self.holds[cell],
            self.clock,
            self.notes,
        )
        config = ConsumerConfig(pollers=2, wait_s=2, max_messages=self.max_messages)
        return EventRouter(
            inbox=inbox,
            consumer=Consumer(config, inbox, dispatcher.accept, dispatcher.relieve, self.clock),
            dispatcher=dispatcher,
            watcher=RoutingWatcher(self.registry, dispatcher.apply, self.clock, LEASE_TTL_S),
            clock=self.clock,
            drain_timeout_s=20,
        )

    @asynccontextmanager
    async def routing(self) -> AsyncIterator[EventRouter]:
        """A router that runs, and is drained at the end."""
        stop, router = asyncio.Event(), self.router()
        running = asyncio.create_task(router.run(stop))
        try:
            yield router
        finally:
            stop.set()
            await running

    async def settled(self, seconds: float = 600) -> None:
        """Until every queue but the dead-letter queue is empty. Raises AssertionError when that takes longer."""
        deadline = self.clock.now + seconds
        while len(self.source) or any(len(hold) for hold in self.holds.values()):
            left = {queue.name: len(queue) for queue in (self.source, *self.holds.values()) if len(queue)}
            assert self.clock.now < deadline, f"not settled after {seconds} s: {left}"
            await self.clock.sleep(0.1)

    async def dead_letters(self) -> list[DeadLetter]:
        """Take them all."""
        letters = []
        while messages := await self.dead.receive(10, 0, VISIBILITY_S):
            letters += [from_body(message.body) for message in messages]
            await self.dead.delete(messages)
        return letters

    def crash(self, cell_id: str) -> None:
        """The cell's instance stops answering and its lease ends."""
        self.cells.cells[cell_id].down = True
        self.registry.live[cell_id] = False

    def replace(self, cell_id: str) -> None:
        """The next generation serves."""
        self.registry.cells[cell_id] = replace(
            self.registry.cells[cell_id], generation=self.registry.cells[cell_id].generation + 1
        )
        self.registry.live[cell_id] = True
        cell = self.cells.cells[cell_id]
        cell.down, cell.dies_after = False, None

    def owner(self, key: str) -> str:
        """The cell that owns a key."""
        assert self.registry.slot_map is not None
        return self.registry.slot_map.cell_of(key)
