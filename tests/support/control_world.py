"""Data plane and control plane in memory, on virtual time: controllers, routers and instances, which may all die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from router.core.models import CellRecord, Event, InstanceView, LeaseView, Reason, Vitals, cell_ids
from router.core.policy import Policy
from router.core.registry import AuditEntry, Snapshot
from router.core.slot_map.slots import NO_MOVE, SlotMap
from router.ports import Provisioner
from router.services import policy
from router.services.canary import canary_through
from router.services.control_plane.controller import Controller, ControllerConfig
from router.services.data_plane.event_router import EventRouter
from router.services.unforeseen import Unforeseen
from tests.support.fake_cells import WELL, FakeCell, Instances, Sickness
from tests.support.memory_registry import MemoryRegistry, Wire
from tests.support.router_world import LEASE_TTL_S, World

MOST_CELLS = 8
DEFAULT_IMAGE = "worker:1"  # of instances that are launched without one
START_S = 0.5  # how long an instance takes from its launch until it is ready


@dataclass
class Process:
    """A router or a controller, and its way to the registry."""

    task: asyncio.Task[None]
    wire: Wire
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def kill(self) -> None:
        """End it at once, without a drain and without another word to the registry."""
        self.wire.cut = True
        self.task.cancel()


class Machines:
    """The Provisioner port, shared by all controllers: its instances run, renew their leases and die."""

    can_launch = True
    takes_images = True

    def __init__(self, world: ControlWorld) -> None:
        self._world = world
        self.images: dict[tuple[str, int], str] = {}
        self.faulty: dict[str, Sickness | None] = {}  # image → what is wrong with each instance of it; None: it ends
        self.running: dict[tuple[str, int], asyncio.Task[None]] = {}
        self.ended: set[tuple[str, int]] = set()
        self.broken: set[str] = set()  # cells whose instances end as soon as they start
        self.rehearses = False  # what all handlers say
        self.launches: list[tuple[str, int]] = []
        self.vitals: dict[str, Vitals] = {}  # what instances say of themselves, by cell

    async def launch(self, cell_id: str, generation: int, image: str | None = None) -> None:
        self.launches.append((cell_id, generation))
        self.images[cell_id, generation] = image or DEFAULT_IMAGE
        sickness = self.faulty.get(image or "", WELL)
        if sickness is not None and sickness is not WELL:
            self._world.cells.cells[cell_id].sick[generation] = sickness
        if cell_id in self.broken or sickness is None:
            self.ended.add((cell_id, generation))
        else:
            self.start(cell_id, generation, f"{cell_id}:{generation}")

    def start(self, cell_id: str, generation: int, address: str) -> None:
        """Have an instance run at this address."""
        self.running[cell_id, generation] = asyncio.create_task(self._beat(cell_id, generation, address))

    async def stop(self, cell_id: str, generation: int) -> None:
        self.end(cell_id, generation)

    def end(self, cell_id: str, generation: int) -> None:
        """End an instance at once; its lease runs out by itself."""
        self.running.pop((cell_id, generation)).cancel()
        self.ended.add((cell_id, generation))

    async def observe(self) -> list[InstanceView]:
        running = [InstanceView(*key, running=True, image=self.images.get(key, "")) for key in self.running]
        return running + [InstanceView(*key, running=False, detail="exit code 1") for key in self.ended]

    async def _beat(self, cell_id: str, generation: int, address: str) -> None:
        clock, fence = self._world.clock, self._world.cells.cells[cell_id].fence
        lease = LeaseView(
            *(cell_id, generation, f"i{generation}", address, 16), ready=True, live=True, rehearses=self.rehearses
        )
        await clock.sleep(START_S)
        while True:
            if not (self._world.control.down or self._world.control.refusing or self._world.control.cells_refused):
                record = self._world.control.contents.cells.get(cell_id, CellRecord(cell_id))
                fence.raise_to(record.fence)
                vitals = self.vitals.get(cell_id)
                lease = replace(lease, fenced=fence.reached(), beat=lease.beat + 1, vitals=vitals)
                self._world.control.contents.leases[cell_id, generation] = (lease, clock.monotonic() + LEASE_TTL_S)
            await clock.sleep(LEASE_TTL_S / 4)


class ControlWorld(World):
    """A world whose registry is kept by controllers, with routers and cells."""

    def __init__(self, cells: int, **options: Any) -> None:
        super().__init__(MOST_CELLS, **options)
        self.first = cells
        self.warm_up_s = 60.0
        self.control = MemoryRegistry(self.clock)
        self.controllers: list[Controller] = []
        self.routers: list[EventRouter] = []
        self.machines = Machines(self)
        self.instances = Instances()
        self.strangers: list[str] = []  # events that had their effect in a cell that their key did not belong to then
        for cell in self.cells.cells.values():
            cell.finishes = True
        self.cells.on_effect = self._note_stranger

    async def ensure(self, cell_id: str) -> Sequence[str]:
        """The CellResources port: nothing is ever missing."""
        return ()

    async def remove(self, cell_id: str) -> Reason | None:
        """Keep everything that a removed cell has."""
        return None

    async def with_hold_queues(self) -> Sequence[str]:
        """List the cells in whose hold queues something lies."""
        return [cell_id for cell_id, queue in self.holds.items() if len(queue)]

    def provisioner(self) -> Provisioner:
        """Make the provisioner of one more controller: all of them know the same machines."""
        return self.machines

    def controller(self, name: str) -> Process:
        """Start a controller under this name."""
        wire: Any = Wire(self.control)
        config = ControllerConfig(
            name, self.first, launch_timeout_s=10, lease_ttl_s=LEASE_TTL_S, warm_up_s=self.warm_up_s
        )
        canary = canary_through(self.cells, Unforeseen(self.notes, self.clock))
        made = Controller(config, wire, self.provisioner(), self, canary, self.instances, self.clock, self.notes)
        self.controllers.append(made)
        return Process(asyncio.create_task(made.run()), wire)

    def routing_process(self, name: str) -> Process:
        """Start a router under this name."""
        wire, stop = Wire(self.control), asyncio.Event()
        self.routers.append(self.router(name, wire))
        return Process(asyncio.create_task(self.routers[-1].run(stop)), wire, stop)

    @asynccontextmanager
    async def running(
        self, controllers: int = 1, routers: int = 1
    ) -> AsyncIterator[tuple[list[Process], list[Process]]]:
        """Run controllers and routers with all cells serving; the routers that are left are drained at the end."""
        control = [self.controller(f"controller-{i}") for i in range(controllers)]
        await self.until(lambda: self.serving() == self.first, "all cells serve")
        data = [self.routing_process(f"router-{i}") for i in range(routers)]
        try:
            yield control, data
        finally:
            for process in data:
                process.stop.set()
            await asyncio.gather(*(process.task for process in data), return_exceptions=True)
            instances = self.machines.running.values()
            for task in (*(process.task for process in control), *instances):
                task.cancel()

    def serving(self) -> int:
        """Count the cells with a verified instance, once there is a slot map."""
        has = self.control.contents
        verified = sum(0 < r.generation == r.verified and not r.retired for r in has.cells.values())
        return verified if has.slot_map is not None else 0

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
        """Let time pass until the condition is true. Raises AssertionError."""
        deadline = self.clock.now + seconds
        while not condition():
            assert self.clock.now < deadline, f"not within {seconds:g} s: {what}"
            await self.clock.sleep(0.1)

    def at_rest(self) -> bool:
        """Tell whether nothing moves, and slots and pins are where the policy wants them."""
        has = self.control.contents
        if has.slot_map is None or has.slot_map.move is not NO_MOVE or has.policy.scaling_from:
            return False
        wanted = set(cell_ids(has.policy.cells or self.first)) - has.policy.draining
        counts = has.slot_map.counts()
        even = max(counts.values()) - min(counts.values()) <= 1 or bool(has.policy.weights or has.policy.cordoned)
        return set(counts) == wanted and even and dict(has.slot_map.pins) == dict(has.policy.pins)

    async def decide(self, edit: Callable[[Policy], Policy]) -> None:
        """Change the policy as a person does."""
        audit = AuditEntry(self.clock.time_ms(), "me", "change", "", "for the test")
        await policy.change(self.control, edit, audit)

    def map(self) -> SlotMap:
        """Return the slot map in force."""
        assert self.control.contents.slot_map is not None
        return self.control.contents.slot_map

    async def look(self) -> Snapshot:
        """Read everything in the registry."""
        return await self.control.snapshot()

    def _note_stranger(self, cell: FakeCell, event: Event) -> None:
        slot_map = self.control.contents.slot_map  # None after the registry has lost it: routers use what they know
        if slot_map is not None and self.cells.cells[slot_map.cell_of(event.partition_key)] is not cell:
            self.strangers.append(event.event_id)

    def inversions(self) -> list[tuple[str, int, int]]:
        """List the events whose effect came after that of a later event of their key: (key, later, this)."""
        last: dict[str, int] = {}
        found = []
        for event_id in self.cells.order:
            key, number = self.keys[event_id], int(event_id[1:])
            if number <= last.get(key, -1):
                found.append((key, last[key], number))
            last[key] = max(number, last.get(key, -1))
        return found


def actions(entries: Sequence[AuditEntry]) -> list[str]:
    """List the actions of audit entries, in order."""
    return [entry.action for entry in entries]
