"""Troubles that are no plain fault, on a whole system: what is told of each, what the ladder does, what others notice.

In half of them no instance is to blame, so none may be replaced: a router's slow path, dearer tenants, long jobs. In
the others one is, though not all the time or not before it is launched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.figures import p99
from benchmarks.throttle import throttled
from benchmarks.world import pause
from cell_worker.contract.protocol import Fault, FaultKind
from router.bootstrap.workers import inject_fault
from router.core.detection.assessment import SICK, Verdict
from router.core.errors import CellUnavailableError
from router.core.models import LeaseView
from router.core.registry import AuditEntry
from router.settings import load
from tests.support.servers import ministack, valkey
from tests.support.sick_system import COST_S, SickSystem, now_ms
from tests.support.system import System
from tests.support.tcp_proxy import TcpProxy

POLLERS: Final = 10  # loops of a router: MiniStack looks for messages for a long poll only every 100 ms
LEARN_S: Final = 60.0  # for which the load runs first: until then nothing is measured by a cell's baseline
TROUBLE_S: Final = 75.0
SETTLE_S: Final = 180.0  # for everything to be done afterwards
LOOK_S: Final = 0.5
PATH_S: Final = 0.15  # each way
FACTOR: Final = 4.0
COHORT: Final = 8  # of a cell's twelve tenants
JOB_S: Final = 30.0
JOBS: Final = 32  # two for each place of the cell
FLAP_S: Final = 10.0
FLAP_EVERY_S: Final = 25.0
MEASURE_S: Final = 5.0
QUOTA: Final = 0.7  # of the CPU that an instance needs
SLOW_PATH: Final = "slow path"


@dataclass(slots=True)
class Struck:
    """A cell that is in trouble, and what became of it so far."""

    world: SickSystem
    cell_id: str
    proxy: TcpProxy  # in the path of one router to the cell's first instance
    generation: int  # at the begin
    done: str = ""  # what was done, in words
    to_blame: set[int] = field(default_factory=set)  # generations
    told: dict[str, float] = field(default_factory=dict)  # what the leader said of which cell, after how many seconds
    served: dict[str, list[int]] = field(default_factory=dict)  # the generations that had the traffic, by cell

    async def look(self) -> None:
        """Note which instances have the traffic."""
        for cell_id, generation in (await self.world.generations()).items():
            served = self.served.setdefault(cell_id, [])
            if generation not in served:
                served.append(generation)

    def healthy_replaced(self) -> int:
        """Count the instances that have lost the traffic though nothing was wrong with them."""
        gone = [(cell_id, each) for cell_id, served in self.served.items() for each in served[:-1]]
        return sum(cell_id != self.cell_id or each not in self.to_blame for cell_id, each in gone)

    async def inject(self, fault: Fault) -> None:
        """Make the instance fail that has the traffic, unless it is gone."""
        with suppress(CellUnavailableError, AssertionError):
            await self.world.inject(self.cell_id, fault)

    async def as_it_was(self) -> bool:
        """Tell whether the instance of the begin still has the traffic."""
        return (await self.world.generations())[self.cell_id] == self.generation

    async def tenants(self, count: int) -> list[str]:
        """Return so many of the cell's tenants."""
        slot_map = await self.world.map()
        return [key for key in self.world.keys if slot_map.cell_of(key) == self.cell_id][:count]

    async def lease_of_next(self) -> LeaseView:
        """Wait for the lease of the cell's next instance."""
        while (lease := (await self.world.snapshot()).lease(self.cell_id, self.generation + 1)) is None:
            await pause(LOOK_S / 10)
        return lease


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is done to a cell, and what the leader should say of it."""

    name: str
    strike: Callable[[Struck], Awaitable[None]]  # lasts for as long as the trouble does
    right: frozenset[str] = frozenset(SICK)  # what may be told of the cell


async def _slow_path(at: Struck) -> None:
    at.done = f"every packet between one of three routers and the cell takes {PATH_S * 1000:.0f} ms"
    at.proxy.delay_s = PATH_S
    await pause(TROUBLE_S)
    at.proxy.delay_s = 0.0


async def _heavy_cohort(at: Struck) -> None:
    keys = await at.tenants(COHORT)
    at.done = f"events of {len(keys)} of its tenants take x{FACTOR:g}"
    at.world.cost_s |= dict.fromkeys(keys, FACTOR * COST_S)
    await pause(TROUBLE_S)
    at.world.cost_s.clear()


async def _long_jobs(at: Struck) -> None:
    keys = await at.tenants(JOBS)
    at.done = f"{JOBS} events that take {JOB_S:g} s each, of {len(keys)} tenants"
    await at.world.system.send([{"key": keys[i % len(keys)], "sleep": JOB_S} for i in range(JOBS)])
    await pause(TROUBLE_S)


async def _flapping(at: Struck) -> None:
    at.done = f"x{FACTOR:g} for {FLAP_S:g} s of each {FLAP_EVERY_S:g} s"
    at.to_blame = {at.generation}
    for _ in range(round(TROUBLE_S / FLAP_EVERY_S)):
        if await at.as_it_was():
            await at.inject(Fault(FaultKind.SLOW, FLAP_S, factor=FACTOR))
        await pause(FLAP_EVERY_S)


async def _throttled(at: Struck) -> None:
    pid = at.world.system.pid(at.cell_id)
    at.to_blame = {at.generation}
    async with throttled(pid, QUOTA * await _cpu_of(pid)) as at.done:
        for _ in range(round(TROUBLE_S)):
            if not await at.as_it_was():
                break
            await pause(1)


async def _slow_next(at: Struck) -> None:
    at.done = "SIGKILL; the next instance takes x3 from its start"
    at.to_blame = {at.generation, at.generation + 1}
    at.world.system.kill(at.cell_id)
    target = (await at.lease_of_next()).target()
    await inject_fault(load(at.world.system.environ), target, Fault(FaultKind.SLOW, TROUBLE_S, factor=3))
    await pause(TROUBLE_S)


async def _cpu_of(pid: int) -> float:
    """Measure the seconds of CPU that a process uses in a second."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    await pause(MEASURE_S)
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system) / MEASURE_S


SYSTEMS: Final[tuple[tuple[Trouble, ...], ...]] = (  # each trouble in another cell; three replacements at most
    (
        Trouble("a router's slow path", _slow_path, frozenset({SLOW_PATH})),
        Trouble("heavy tenants", _heavy_cohort, frozenset({Verdict.WORKLOAD, Verdict.SLOW})),
        Trouble("long jobs", _long_jobs, frozenset({Verdict.WORKLOAD})),
    ),
    (
        Trouble("flapping", _flapping),
        Trouble("CPU throttled", _throttled),
        Trouble("slow from its start", _slow_next),
    ),
)
COLUMNS: Final = ("told_s", "healthy_replaced", "lost", "twice", "moved", "others_p99_ms", "p99_ratio")


async def in_trouble(troubles: Sequence[Trouble], folder: Path, cells: int, seconds: float) -> dict[str, Any]:
    """Bring one trouble after the other over a new system, print what became of each, and return its figures."""
    async with AsyncExitStack() as stack:
        redis_url, endpoint = stack.enter_context(valkey()), stack.enter_context(ministack())
        world = SickSystem(System(redis_url, endpoint, folder, cells=max(cells, len(troubles)), fifo=False))
        world.system.environ["CELLROUTER_SOURCE_POLLERS"] = str(POLLERS)
        await stack.enter_async_context(world.open())
        port = int((await world.lease("cell-0000")).address.rpartition(":")[2])
        proxy = await stack.enter_async_context(TcpProxy(port))
        world.routers.append(await world.system.detoured_router(port, proxy.port))
        await pause(LEARN_S)
        found = {}
        for number, trouble in enumerate(troubles):
            found[trouble.name] = await _suffered(trouble, world, proxy, f"cell-{number:04d}", seconds)
        return found


async def _suffered(
    trouble: Trouble, world: SickSystem, proxy: TcpProxy, victim: str, quiet_s: float
) -> dict[str, Any]:
    await world.well()
    slot_map, quiet_ms, sent_before = await world.map(), now_ms(), len(world.system.sent)
    await pause(quiet_s)
    at, began_ms = Struck(world, victim, proxy, (await world.generations())[victim]), now_ms()
    listening = asyncio.create_task(_listen(at, began_ms))
    try:
        await trouble.strike(at)
    finally:
        listening.cancel()
    ended_ms, names = now_ms(), world.system.sent[sent_before:]
    lost = await world.not_committed(names, SETTLE_S)
    await at.look()
    committed, map_after = world.committed(), await world.map()
    quiet, during = (p99_of_others(world, victim, *span) for span in ((quiet_ms, began_ms), (began_ms, ended_ms)))
    told = [seconds for what, seconds in at.told.items() if what in trouble.right]
    figures = {
        "done": at.done,
        "told": at.told,
        "ladder": ladder_words(await world.audit(began_ms)),
        "told_s": min(told, default=None),
        "healthy_replaced": at.healthy_replaced(),
        "lost": len(lost),
        "twice": sum(committed[name] > 1 for name in names),
        "moved": sum(a != b for a, b in zip(slot_map.owners, map_after.owners, strict=True)),
        "events": len(names),
        "baseline_p99_ms": quiet,
        "others_p99_ms": during,
        "p99_ratio": during / quiet,
    }
    print(_described(trouble.name, victim, figures), flush=True)
    return figures


async def _listen(at: Struck, began_ms: int) -> None:
    """Note what the leader says first of each cell and when, and which instances serve, until cancelled."""
    while True:
        await at.look()
        for cell_id, condition in (await at.world.conditions()).items():
            found = condition.assessment
            said = [found.verdict] if found.verdict not in (Verdict.HEALTHY, Verdict.WATCHED) else []
            for what in (*said, *([SLOW_PATH] if found.slow_paths else [])):
                name = what if cell_id == at.cell_id else f"{cell_id} {what}"
                at.told.setdefault(name, (now_ms() - began_ms) / 1000)
        await pause(LOOK_S)


def ladder_words(audit: Sequence[AuditEntry]) -> list[str]:
    """List what was done to which cell, in order, and why; what is repeated is left out."""
    said = (f"{entry.action} {entry.cell_id}: {entry.why.partition('; its last words:')[0]}" for entry in audit)
    return [each for each, _ in groupby(said)]


def _described(name: str, victim: str, figures: Mapping[str, Any]) -> str:
    told = ", ".join(f"{what} after {seconds:.1f} s" for what, seconds in figures["told"].items())
    return "\n".join(
        [f"{name}, {victim}: {figures['done']}", f"  told: {told or 'nothing'}"]
        + [f"  {line}" for line in figures["ladder"] or ["nothing is done"]]
    )


def p99_of_others(world: SickSystem, victim: str, since_ms: int, until_ms: int) -> float:
    """Return the p99 latency in milliseconds of the events that were sent to other cells in this time."""
    world.look()
    sent_at_ms = world.system.sent_at_ms
    done = {deed["event"]: deed["at_ms"] for deed in reversed(world.deeds) if deed["cell"] != victim}
    return p99([at_ms - sent_at_ms[name] for name, at_ms in done.items() if since_ms <= sent_at_ms[name] < until_ms])


def figures_of(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay out the figures of one run, a line for each trouble."""
    titles = ["told, s", "healthy rep.", "lost", "twice", "moved", "p99, ms", "to before"]
    lines = [" " * 22 + "".join(f"{title:>13}" for title in titles)]
    for name, row in rows.items():
        figures = ["-" if row[column] is None else f"{row[column]:.3g}" for column in COLUMNS]
        lines.append(f"{name:22}" + "".join(f"{figure:>13}" for figure in figures))
    return "\n".join([*lines, "goals: no healthy instance replaced, and nothing lost, done twice or moved"])
