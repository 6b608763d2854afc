"""A whole system of real processes under a steady load, whose cells are made to fail, and what became of them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from cell_worker.contract.protocol import Fault
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import RedisRegistry
from router.bootstrap.registry import open_registry
from router.bootstrap.workers import inject_fault
from router.core.models import LeaseView, Rung
from router.core.registry import AuditEntry, Condition, Snapshot
from router.core.slot_map.slots import SlotMap
from router.settings import load
from tests.support.aio import until
from tests.support.system import Role, System

TENANTS: Final = 48
ROUTERS: Final = 2
BURST: Final = 6  # events that are sent at once
BURSTS: Final = 10  # a second
COST_S: Final = 0.04
LEARN_S: Final = 15.0  # how long the load runs until every tenant's baseline is known
LOOK_S: Final = 0.05
SETTINGS: Final = {
    "cells_handler": "tests.support.deeds:Steady",
    "cells_lease_ttl_s": "2",
    "cells_warm_up_s": "3",
    "retry_max_attempts": "50",  # injected errors count as attempts
}


@dataclass(frozen=True, slots=True)
class Episode:
    """What became of a cell whose instance was made to fail."""

    began_ms: int
    ended_ms: int
    safe_s: float  # from the fault until no router uses the sick instance or waits for it
    serving_s: float  # from the fault until the next instance did its first event
    audit: list[AuditEntry]  # entries about the cell during the episode
    moved: int  # tenants whose events go to another cell now

    def actions(self) -> list[str]:
        """List the actions of the audit entries, in order."""
        return [entry.action for entry in self.audit]

    def why(self, action: str) -> str:
        """Return the reason of the first entry with this action."""
        return next(entry.why for entry in self.audit if entry.action == action)


class SickSystem:
    """One system for several faults, one after the other."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.routers: list[Role] = []
        self.keys: list[str] = []  # tenants: the same number in each cell, and one cell after the other in turn
        self.cost_s: dict[str, float] = {}  # what an event of a key costs; COST_S for keys that are not here
        self.deeds: list[dict[str, Any]] = []  # all that `look` has read
        self._read = 0
        self._registry: RedisRegistry
        system.environ |= {f"CELLROUTER_{name.upper()}": value for name, value in SETTINGS.items()}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Start the system and load it for long enough that every tenant's baseline is known."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.system.running())
            self.routers = [await self.system.router() for _ in range(ROUTERS)]
            self._registry = await stack.enter_async_context(open_registry(load(self.system.environ)))
            self.keys = _tenants(await self.map())
            loading = asyncio.create_task(self._load())
            stack.push_async_callback(_ended, loading)
            await pause(LEARN_S)
            yield
            assert not loading.done(), loading

    async def snapshot(self) -> Snapshot:
        """Read everything in the registry."""
        return await self._registry.snapshot()

    async def map(self) -> SlotMap:
        """Return the slot map in force."""
        found = (await self.snapshot()).slot_map
        assert found is not None
        return found

    async def generations(self) -> dict[str, int]:
        """Return the admitted generation of each cell."""
        return {cell_id: record.generation for cell_id, record in (await self.snapshot()).cells.items()}

    async def lease(self, cell_id: str) -> LeaseView:
        """Return the lease of the cell's admitted instance."""
        snapshot = await self.snapshot()
        lease = snapshot.lease(cell_id, snapshot.cells[cell_id].generation)
        assert lease is not None, f"{cell_id} has none"
        return lease

    async def audit(self, since_ms: int, cell_id: str = "") -> list[AuditEntry]:
        """Read the audit entries since then, of one cell or of all."""
        entries = await self._registry.audit(1000)
        return [entry for entry in entries if entry.at_ms >= since_ms and cell_id in ("", entry.cell_id)]

    async def conditions(self) -> Mapping[str, Condition]:
        """Return what the leader says of each cell."""
        return await self._registry.conditions()

    async def cli(self, *arguments: str) -> str:
        """Run a command beside the load, and return what it prints."""
        done = await asyncio.to_thread(self.system.cli, *arguments)
        return done.stdout + done.stderr

    async def inject(self, cell_id: str, fault: Fault) -> None:
        """Inject a fault as `cellrouter chaos` does, without starting a process for it."""
        await inject_fault(load(self.system.environ), (await self.lease(cell_id)).target(), fault)

    async def well(self, limit_s: float = 90) -> None:
        """Wait until nothing is wrong with any cell, as the controller sees it."""

        async def all_well() -> bool:
            records = (await self.snapshot()).cells.values()
            return await self.system.leader.serves_all() and all(r.treatment.rung is Rung.WELL for r in records)

        await until(all_well, "all cells are well", limit_s)

    async def falls_ill(self, cell_id: str, strike: Callable[[], Awaitable[object]], limit_s: float = 120) -> Episode:
        """Make a cell's instance fail, and wait until another serves at every router and has done its first event."""
        before = await self.snapshot()
        generation, began_ms, owners = before.cells[cell_id].generation, now_ms(), await self._owners()
        striking = asyncio.ensure_future(strike())
        try:
            safe_ms = await asyncio.wait_for(self._replaced(cell_id, generation), limit_s)
            await striking
        except TimeoutError as error:
            audit, treatment = await self.audit(began_ms), (await self.snapshot()).cells[cell_id].treatment
            found = (await self.conditions()).get(cell_id)
            raise AssertionError(f"not replaced within {limit_s:g} s: {treatment}\n{found}\n{audit}") from error
        first: list[int] = []

        async def served() -> bool:
            self.look()
            mine = [deed for deed in self.deeds if deed["cell"] == cell_id and deed["generation"] > generation]
            first[:] = [deed["at_ms"] for deed in mine]
            return bool(mine)

        await until(served, "it has done an event", 60)
        audit, after = await self.audit(began_ms, cell_id), await self._owners()
        moved = sum(owners[key] != after[key] for key in self.keys)
        safe_s, serving_s = (safe_ms - began_ms) / 1000, (min(first) - began_ms) / 1000
        return Episode(began_ms, now_ms(), safe_s, serving_s, audit, moved)

    async def accounted(self, limit_s: float = 120) -> None:
        """Wait until every sent event is done; then each must be committed once, and none be a dead letter."""
        names = set(self.system.sent)

        async def all_committed() -> bool:
            return names <= self.committed().keys()

        try:
            await until(all_committed, "every event is committed", limit_s)
        except AssertionError as error:
            missing = sorted(names - self.committed().keys())
            raise AssertionError(f"{len(missing)} are not done: {missing[:20]}\n{self.system.logs()}") from error
        committed = self.committed()
        assert max(committed.values()) == 1, [name for name, times in committed.items() if times > 1]
        for queue in ("dead", "quarantine"):
            assert await self.system.size(f"{self.system.name}-{queue}") == 0

    async def not_committed(self, names: Iterable[str], limit_s: float) -> set[str]:
        """Wait until these events are committed, and return those that are not after so long."""
        deadline_ms = now_ms() + 1000 * limit_s
        while (missing := set(names) - self.committed().keys()) and now_ms() < deadline_ms:
            await pause(1)
        return missing

    def committed(self) -> Counter[str]:
        """Count for each event the cells whose stores have it; within one store it can't be twice."""
        found: Counter[str] = Counter()
        for path in (self.system.directory / "data" / "cells").glob("*/store.db"):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as store:
                found.update(
                    name for (name,) in store.execute("SELECT substr(identity, instr(identity, '/') + 1) FROM done")
                )
        return found

    def look(self) -> None:
        """Read the events that were done since the last look."""
        with self.system.deeds_file.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
        self.deeds += map(json.loads, whole.splitlines())
        self._read += len(whole) + 1 if whole else 0

    async def _replaced(self, cell_id: str, generation: int) -> int:
        """Wait until every router has another instance; returns when the last one stopped using the sick one, in ms."""
        safe_ms = 0
        while True:
            at_ms = now_ms()
            lanes = await asyncio.gather(*(router.lanes() for router in self.routers))
            mine = [lane for found in lanes for lane in found if lane["cell_id"] == cell_id]
            if len(mine) < len(self.routers) or any(_uses(lane, generation) for lane in mine):
                safe_ms = 0
            elif not safe_ms:
                safe_ms = at_ms
            if mine and all(lane["generation"] > generation and lane["state"] == "serving" for lane in mine):
                return safe_ms or at_ms
            await pause(LOOK_S)

    async def _owners(self) -> dict[str, str]:
        slot_map = await self.map()
        return {key: slot_map.cell_of(key) for key in self.keys}

    async def _load(self) -> None:
        """Send open-loop, all tenants in turn: when the machine is late, what was due meanwhile is sent at once."""
        begun = SystemClock().monotonic()
        for number in count():
            await pause(max(0.0, begun + number / BURSTS - SystemClock().monotonic()))
            keys = [self.keys[(BURST * number + i) % len(self.keys)] for i in range(BURST)]
            await self.system.send([{"key": key, "sleep": self.cost_s.get(key, COST_S)} for key in keys])


def now_ms() -> int:
    """Return the time of this machine's clock, which deeds and the audit stream use too."""
    return SystemClock().time_ms()


async def pause(seconds: float) -> None:
    """Wait in real time, which real processes need."""
    await asyncio.sleep(seconds)  # noqa: TID251 - a load and looks at it in real time


def _uses(lane: dict[str, Any], generation: int) -> bool:
    """Tell whether the lane sends events to this instance, or waits for its answers."""
    return bool(lane["generation"] == generation and (lane["state"] == "serving" or lane["in_flight"]))


def _tenants(slot_map: SlotMap) -> list[str]:
    cells = sorted(slot_map.cells())
    found: dict[str, list[str]] = {cell_id: [] for cell_id in cells}
    each = TENANTS // len(cells)
    names = (f"tenant-{number}" for number in count())
    while any(len(keys) < each for keys in found.values()):
        key = next(names)
        found[slot_map.cell_of(key)].append(key)
    return [found[cell_id][turn] for turn in range(each) for cell_id in cells]


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
