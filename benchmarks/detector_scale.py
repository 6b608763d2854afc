"""What the detector costs by the number of cells: the size of a router's report, and the leader's time.

Samplers, encoding and monitor are the real ones, and all cells are well and busy. Redis is a dictionary, and a canary
is answered at once: what its call costs is not in the figures.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from math import ceil, log
from random import Random  # noqa: TID251 - seeded: the same events in every run
from statistics import median
from time import process_time
from typing import Any, Final, cast

from benchmarks.figures import table
from benchmarks.world import Options, cell_id
from router.adapters.redis import scripts
from router.adapters.redis.registry import RedisRegistry
from router.core.control.observed import Desired, Observed
from router.core.control.treatment import conditions
from router.core.detection.samples import MAX_TENANTS, CanarySample, CellSampler, RouterSample, tenants_told
from router.core.models import CellRecord, LeaseView, Reason
from router.core.registry import Snapshot
from router.services.canary import MAX_RATE
from router.services.control_plane.controller import TICK_S
from router.services.control_plane.health import HealthMonitor
from router.services.loop_lag import LoopLag
from tests.support.keys import ring

CELLS: Final = (4, 30, 100, 300, 1000)
ROUTERS: Final = 3
TENANTS: Final = 33  # of each cell; each sends one event a second through every router
WARM_UP_S: Final = 25  # until the tenants are known and the window is full
MEASURED_S: Final = 10
NOTES: Final = f"""
{ROUTERS} routers; {TENANTS} tenants of each cell send one event a second through each of them. CPU is of one second.
longest hold: what the leader's event loop does at once, while nothing else can run. Without the calls of canaries,
of which each vantage point sends {MAX_RATE:g} a second at most.
goals for 1000 cells: a report of 100 kB or less, and 100 ms or less of the leader's CPU to take in and to assess"""


class Shelf:
    """Stands for Redis: keeps what each router said last, and counts the bytes of it."""

    def __init__(self) -> None:
        self.said: dict[bytes, bytes] = {}
        self.condition_bytes = 0
        self._now = 0

    def register_script(self, text: str) -> Callable[..., Awaitable[Any]]:
        """Return what stands for one of the registry's scripts."""
        known = {scripts.NOTE: self._note, scripts.SAMPLES: self._samples, scripts.LISTED: self._listed}
        return known.get(text, self._note_conditions)

    async def _note(self, keys: Sequence[str], args: Sequence[Any]) -> None:
        self._now += 1
        self.said[args[0].encode()] = b'{"at_ms":%d,"said":%s}' % (self._now, args[1])

    async def _samples(self, keys: Sequence[str], args: Sequence[Any]) -> list[bytes]:
        return [part for pair in self.said.items() for part in pair]

    async def _listed(self, keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
        return [b"0", []]  # no conditions: no other controller has led

    async def _note_conditions(self, keys: Sequence[str], args: Sequence[Any]) -> None:
        self.condition_bytes = sum(len(str(each)) for each in args)


class Stepped:
    """The Clock port; time passes when the bench says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time_ms(self) -> int:
        return round(self.now * 1000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop, not a wait

    def jitter(self) -> float:
        return 0.5


class Router:
    """One router's samplers, and the events that they see."""

    def __init__(self, name: str, keys: Mapping[str, Sequence[str]], draw: Random) -> None:
        self.name = name
        self._draw = draw
        self._keys = keys
        self._samplers = {each: CellSampler() for each in keys}

    def work(self, now: float) -> None:
        """Let every tenant send one event to its cell."""
        for each, sampler in self._samplers.items():
            for key in self._keys[each]:
                sampler.answered(key, self._draw.lognormvariate(log(0.1), 0.6), now)

    def sample(self, number: int, now: float) -> RouterSample:
        """Return the sample of the last second, as a reporter makes it."""
        samplers, found = self._samplers, {}
        for place, (each, sampler) in enumerate(samplers.items()):
            told = tenants_told(place, len(samplers), number)
            found[each] = sampler.sample(1, now, tenants=MAX_TENANTS // len(samplers), told=told)
        turns = ceil(len(samplers) / MAX_RATE)
        tried = [each for place, each in enumerate(samplers) if (place + number) % turns == 0]
        canaries = {each: (CanarySample(1, self._draw.lognormvariate(log(0.005), 0.1)),) for each in tried}
        return RouterSample(number, 0.0, found, canaries)


class Holds:
    """Finds for how long the event loop was held at most, in seconds of CPU."""

    longest_s = 0.0

    async def run(self) -> None:
        """Take every turn of the loop, and measure what lies between them, until cancelled."""
        while True:
            began = process_time()
            await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop, not a wait
            self.longest_s = max(self.longest_s, process_time() - began)


class Leader:
    """The monitor of a leader, and what it says of the cells."""

    def __init__(self, cells: Sequence[str], registry: RedisRegistry, clock: Stepped) -> None:
        self._registry = registry
        self._clock = clock
        self._monitor = HealthMonitor(registry, self._well, LoopLag(clock), clock, 60.0)
        records = {each: CellRecord(each, generation=1) for each in cells}
        leases = tuple(LeaseView(each, 1, "i", "a:1", 16, ready=True, live=True) for each in cells)
        self._snapshot = Snapshot(1, None, records, leases, "leader")
        self._desired = Desired(tuple(cells), can_launch=True)
        self.told_s = 0.0  # CPU of telling people
        self.canaries = 0

    async def second(self) -> None:
        """Look at the cells as often as a controller does, and say how they are."""
        for _ in range(round(1 / TICK_S)):
            news = await self._monitor.look(self._snapshot)
            await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop: canaries are sent
            if news:
                began = process_time()
                await self._registry.note_conditions(1, conditions(self._desired, self._observed()))
                self.told_s += process_time() - began
            self._clock.now += TICK_S

    async def _well(self, record: CellRecord, snapshot: Snapshot, within_s: float) -> Reason | None:
        self.canaries += 1
        return None

    def _observed(self) -> Observed:
        shown = self._snapshot
        return Observed(1, shown.cells, shown.leases, (), None, leases_trusted=True, health=self._monitor.health)


async def run(options: Options) -> dict[str, Any]:
    """Measure each number of cells; print the figures beside each other, and return them."""
    columns = {}
    for cells in CELLS:
        columns[f"{cells} cells"] = await measured([cell_id(number) for number in range(cells)], options.seed)
    print(table(columns))
    print(NOTES)
    return {"seed": options.seed, "cells": columns}


async def measured(cells: Sequence[str], seed: int) -> dict[str, float]:
    """Measure what looking at these cells costs a router and the leader, once all tenants are known."""
    clock, shelf = Stepped(), Shelf()
    registry = RedisRegistry(cast("Any", shelf), "live", ring("live"), clock)
    reports, router_s = await _reports(registry, shelf, cells, Random(seed))
    gc.collect()  # what the routers leave behind
    gc.freeze()  # as every process of ours does when it has begun
    leader, holds = Leader(cells, registry, clock), Holds()
    watching = asyncio.create_task(holds.run())
    looked: list[float] = []
    told: list[float] = []
    for number, shelf.said in enumerate(reports):
        if number == WARM_UP_S:
            holds.longest_s, leader.canaries = 0.0, 0
        began, leader.told_s = process_time(), 0.0
        await leader.second()
        looked.append(process_time() - began - leader.told_s)
        told.append(leader.told_s)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    looks = looked[WARM_UP_S:]
    return {
        "leader's CPU: take in and assess, ms": median(looks) * 1000,
        "report, kB": max(len(said) for report in reports[WARM_UP_S:] for said in report.values()) / 1000,
        "router's CPU, ms": router_s * 1000 / ROUTERS,
        "  the quickest second": min(looks) * 1000,
        "leader's CPU: tell people, ms": median(told[WARM_UP_S:]) * 1000,
        "leader's longest hold, ms": holds.longest_s * 1000,
        "conditions, kB a second": shelf.condition_bytes / 1000,
        "leader's canaries a second": leader.canaries / MEASURED_S,
    }


async def _reports(
    registry: RedisRegistry, shelf: Shelf, cells: Sequence[str], draw: Random
) -> tuple[list[dict[bytes, bytes]], float]:
    """Return what routers write in each second, and the CPU of a measured second in all routers."""
    keys = {each: [f"{draw.randrange(10**12):012}" for _ in range(TENANTS)] for each in cells}
    routers, found, router_s = [Router(f"router-{number}", keys, draw) for number in range(ROUTERS)], [], 0.0
    for number in range(WARM_UP_S + MEASURED_S):
        for router in routers:
            router.work(float(number))
            began = process_time()
            await registry.note_sample(router.name, router.sample(number, float(number)))
            router_s += (process_time() - began) * (number >= WARM_UP_S)
        found.append(dict(shelf.said))
    return found, router_s / MEASURED_S
