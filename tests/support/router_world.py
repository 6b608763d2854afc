"""A whole data plane in memory, on virtual time: queues, cells, and the real services in between."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf
from typing import Any

from router.adapters.memory import MemorySource
from router.core.detection.samples import RouterSample
from router.core.errors import RegistryUnavailableError
from router.core.lanes.retry import RetryPolicy
from router.core.lanes.standing import LOOK_AHEAD
from router.core.messages.dead_letter import DeadLetter, entries
from router.core.messages.parser import Extraction, Parser
from router.core.messages.parts import Parts
from router.core.models import CellRecord, Draft, HoldCause, LeaseView, RouterReport, RouterView, Traffic
from router.core.policy import Policy
from router.core.registry import AuditEntry, Condition, Snapshot
from router.core.slot_map.routing import KnownRouting
from router.core.slot_map.slots import SlotMap, assign
from router.core.telemetry import EventHeld, Record
from router.ports import EventTracer
from router.services.data_plane.archive.archivist import Archivist
from router.services.data_plane.consumer import ConsumerConfig
from router.services.data_plane.dispatcher import DispatcherConfig
from router.services.data_plane.event_router import DataPlaneConfig, EventRouter, Queues, assemble
from router.services.data_plane.payloads import PayloadConfig, Payloads
from router.services.data_plane.quarantine import QuarantineConfig
from tests.support.attribute_keys import KEYS
from tests.support.fake_cells import FakeCells
from tests.support.fake_clock import FakeClock
from tests.support.memory_payloads import MemoryPayloads

VISIBILITY_S = 30
LEASE_TTL_S = 2.0


class Notes:
    """An Observer that keeps the records it is given."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.keep = True

    def observe(self, record: Record) -> None:
        if self.keep:
            self.records.append(record)

    def count(self, kind: type) -> int:
        return sum(isinstance(record, kind) for record in self.records)

    def count_held(self, cause: HoldCause) -> int:
        return sum(isinstance(record, EventHeld) and record.cause is cause for record in self.records)


class StaticRegistry:
    """A RouterRegistry in which the test says what is there."""

    def __init__(self, clock: FakeClock, cells: list[str]) -> None:
        self._clock = clock
        self.slot_map: SlotMap | None = SlotMap(1, assign(None, dict.fromkeys(cells, 1.0)))
        self.cells = {cell: CellRecord(cell, 1) for cell in cells}
        self.live = dict.fromkeys(cells, True)
        self.concurrency = 16
        self.decided = Policy()
        self.audit: list[AuditEntry] = []
        self.reports: list[RouterReport] = []
        self.offers: list[tuple[SlotMap, Policy]] = []
        self.down = False
        self.refusing = False  # it answers and takes no writes
        self.cushioned: frozenset[str] = frozenset()
        self.twins: tuple[LeaseView, ...] = ()  # leases of instances beside those that serve
        self._beats: dict[str, int] = {}  # when each lease was renewed, in ms

    def _lease_state(self, cell_id: str) -> tuple[bool, int, int, str, str, int]:
        """Return a lease from `live` to `beat`; it is renewed as long as its instance lives and can write."""
        now = self._clock.time_ms()
        if self.live[cell_id] and not self.refusing:
            self._beats[cell_id] = now
        beat = self._beats.get(cell_id, 0)
        ended_ms = max(0, now - beat - round(LEASE_TTL_S * 1000))
        return self.live[cell_id] and not ended_ms, ended_ms, 0, "", "", beat

    async def policy(self) -> Policy:
        if self.down:
            raise RegistryUnavailableError("is down")
        return self.decided

    async def change_policy(self, policy: Policy, audit: AuditEntry) -> bool:
        if self.down:
            raise RegistryUnavailableError("is down")
        if policy.version != self.decided.version:
            return False
        self.decided = replace(policy, version=policy.version + 1)
        self.audit.append(audit)
        return True

    async def report(self, report: RouterReport, ttl_s: float) -> None:
        if self.down or self.refusing:
            raise RegistryUnavailableError("is down")
        self.reports.append(report)

    async def note_sample(self, router_id: str, sample: RouterSample) -> None:
        return

    async def conditions(self) -> Mapping[str, Condition]:
        return {}

    async def note_traffic(self, router_id: str, traffic: Mapping[str, Traffic]) -> None:
        return

    async def offer(self, slot_map: SlotMap, policy: Policy) -> None:
        if self.down:
            raise RegistryUnavailableError("is down")
        self.offers.append((slot_map, policy))

    async def changed(self, within_s: float) -> None:
        await self._clock.sleep(within_s)

    async def snapshot(self) -> Snapshot:
        if self.down:
            raise RegistryUnavailableError("is down")
        leases = tuple(
            LeaseView(
                c.cell_id,
                c.generation,
                "i",
                f"{c.cell_id}:{c.generation}",
                self.concurrency,
                True,
                *self._lease_state(c.cell_id),
            )
            for c in self.cells.values()
        )
        now_ms, cells = self._clock.time_ms(), dict(self.cells)
        reports = {report.router_id: report for report in self.reports}
        routers = tuple(RouterView(report, live=True) for report in reports.values())
        leases += self.twins
        return Snapshot(now_ms, self.slot_map, cells, leases, "", self.decided, routers, self.cushioned)


class Memory:
    """A RoutingMemory that outlives a router."""

    def __init__(self) -> None:
        self.known: KnownRouting | None = None

    def load(self) -> KnownRouting | None:
        return self.known

    def save(self, known: KnownRouting) -> None:
        self.known = known


class World:
    """One source queue, its dead-letter queue, cells with hold queues, and routers to run."""

    def __init__(
        self,
        cells: int = 4,
        *,
        max_attempts: int = 3,
        max_messages: int = 400,
        quarantine_s: float = 900,
        fifo: bool = False,
        max_kills: int = 4,
        clock: FakeClock | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.cell_ids = [f"cell-{i:04d}" for i in range(cells)]
        self.source = MemorySource("source.fifo" if fifo else "source", self.clock)
        self.aside = MemorySource("source-aside.fifo", self.clock) if fifo else None
        self.look_ahead = LOOK_AHEAD
        self.dead = MemorySource("dead", self.clock)
        self.quarantine = MemorySource("quarantine", self.clock)
        self.holds = {cell: MemorySource(f"hold-{cell}", self.clock) for cell in self.cell_ids}
        self.cells = FakeCells(self.clock, self.cell_ids)
        self.registry = StaticRegistry(self.clock, self.cell_ids)
        self.memory = Memory()
        self.notes = Notes()
        self.max_attempts = max_attempts
        self.max_messages = max_messages
        self.quarantine_s = quarantine_s
        self.max_kills = max_kills
        self.objects = MemoryPayloads()
        self.payloads = Payloads(PayloadConfig("payloads"), self.objects)
        self.tracer: EventTracer | None = None
        self.archive: Callable[[], Archivist | None] = lambda: None  # for each router
        self.sent: set[str] = set()
        self.sent_at: dict[str, float] = {}
        self.keys: dict[str, str] = {}  # event id → key, of events that `send_steadily` sent

    async def send(self, count: int, *, key: Callable[[int], str] = lambda i: f"tenant-{i % 50}") -> None:
        """Put events into the source queue."""
        for _ in range(count):
            number = len(self.sent)
            self.sent.add(f"e{number}")
            self.sent_at[f"e{number}"] = self.clock.now
            tenant, name = key(number), f"e{number}"
            await self.source.send([self._draft(json.dumps({"event_id": name, "tenant": tenant}), tenant, name)])

    async def send_steadily(self, rates: Mapping[str, float], seconds: float) -> None:
        """Send each key's events at its rate, in events a second, without waiting for their effects (open loop)."""
        step_s, owed = 0.1, dict.fromkeys(rates, 0.0)
        for _ in range(round(seconds / step_s)):
            for tenant, rate in rates.items():
                owed[tenant] += rate * step_s
                while owed[tenant] >= 1:
                    owed[tenant] -= 1
                    self.keys[f"e{len(self.sent)}"] = tenant
                    await self.send(1, key=lambda _, tenant=tenant: tenant)  # type: ignore[misc] # bound at once
            await self.clock.sleep(step_s)

    def latencies(self, keys: Collection[str], sent_from: float, sent_to: float) -> list[float]:
        """List the seconds from send to effect of those keys' events, sorted; infinite for events without effect."""
        done = {name: at for cell in self.cells.cells.values() for name, at in cell.done_at.items()}
        return sorted(
            done.get(name, inf) - at
            for name, at in self.sent_at.items()
            if sent_from <= at < sent_to and self.keys.get(name) in keys
        )

    async def send_raw(self, body: str, *, group: str) -> None:
        """Put any body into the source queue."""
        await self.source.send([self._draft(body, group, f"raw {len(self.sent)} {body}")])

    def _draft(self, body: str, group: str, name: str) -> Draft:
        return Draft(body, group_id=group, dedup_id=name) if self.source.fifo else Draft(body)

    def router(self, name: str = "router", registry: Any = None) -> EventRouter:
        """A router process's data plane, with its own way to the registry or the world's."""
        config = DataPlaneConfig(
            consumer=ConsumerConfig(pollers=2, wait_s=2, max_messages=self.max_messages),
            source_name="source",
            dispatcher=DispatcherConfig(
                retry=RetryPolicy(self.max_attempts, 1.0, 60.0),
                max_events=self.max_messages,
                max_bytes=64 * 1024 * 1024,
                max_kills=self.max_kills,
            ),
            quarantine=QuarantineConfig(name, self.quarantine_s),
            visibility_s=VISIBILITY_S,
            lease_ttl_s=LEASE_TTL_S,
            drain_timeout_s=20,
            look_ahead=self.look_ahead,
        )
        queues = Queues(self.source, self.dead, self.quarantine, lambda cell: self.holds[cell], self.aside)
        return assemble(
            config,
            queues,
            registry or self.registry,
            self.memory,
            self.cells,
            Parser(Extraction(event_id="event_id")),
            self.payloads,
            KEYS,
            self.clock,
            self.notes,
            self.tracer,
            self.archive(),
        )

    @asynccontextmanager
    async def routing(self, name: str = "router") -> AsyncIterator[EventRouter]:
        """Run a router, and drain it at the end."""
        stop, router = asyncio.Event(), self.router(name)
        running = asyncio.create_task(router.run(stop))
        try:
            yield router
        finally:
            stop.set()
            await running

    async def settled(self, seconds: float = 600) -> None:
        """Wait until every queue but the dead-letter queue is empty. Raises AssertionError when that takes longer."""
        deadline = self.clock.now + seconds
        queues = [self.source, *self.holds.values()]
        while left := {queue.name: len(queue) for queue in queues if len(queue)}:
            assert self.clock.now < deadline, f"not settled after {seconds} s: {left}"
            await self.clock.sleep(0.1)

    async def dead_letters(self) -> list[DeadLetter]:
        """Take all dead letters out of their queue."""
        letters: list[DeadLetter] = []
        parts = Parts()
        while messages := await self.dead.receive(10, 0, VISIBILITY_S):
            letters += [entry.letter for entry in entries(messages, parts)]
            await self.dead.delete(messages)
        return letters

    @asynccontextmanager
    async def replacing(self, after_s: float = 1.0) -> AsyncIterator[None]:
        """Replace dead instances by the next generation after a while, as a controller does."""

        async def keep() -> None:
            while True:
                await self.clock.sleep(after_s)
                for cell_id, cell in self.cells.cells.items():
                    stuck = cell.stuck(self.registry.cells[cell_id].generation)
                    if stuck and not self.registry.live[cell_id]:
                        self.replace(cell_id)
                    elif stuck:
                        self.registry.live[cell_id] = False

        keeping = asyncio.create_task(keep())
        try:
            yield
        finally:
            keeping.cancel()

    def keys_of(self, cell_id: str, count: int) -> list[str]:
        """Return so many keys that a cell owns."""
        names = (f"tenant-{i}" for i in itertools.count())
        return list(itertools.islice((name for name in names if self.owner(name) == cell_id), count))

    def crash(self, cell_id: str) -> None:
        """Let the cell's instance stop answering, and end its lease."""
        self.cells.cells[cell_id].down = True
        self.registry.live[cell_id] = False

    def replace(self, cell_id: str) -> None:
        """End the cell's instance, and let the next generation serve."""
        self.cells.cells[cell_id].ended.add(self.registry.cells[cell_id].generation)
        self.registry.cells[cell_id] = replace(
            self.registry.cells[cell_id], generation=self.registry.cells[cell_id].generation + 1
        )
        self.registry.live[cell_id] = True
        cell = self.cells.cells[cell_id]
        cell.down, cell.dies_after = False, None

    def owner(self, key: str) -> str:
        """Return the cell that owns a key."""
        assert self.registry.slot_map is not None
        return self.registry.slot_map.cell_of(key)
