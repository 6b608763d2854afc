"""What router and peers cost on stubs: at full load, at low rates, two at once, of many cells, with a backlog."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from statistics import linear_regression
from time import perf_counter
from typing import Final

import aiohttp

from benchmarks.loads import at_a_rate, at_once
from benchmarks.world import QUEUE, QUICK_STOP, Options, World, pause, world
from tests.support.servers import free_port

TRANSPORTS: Final = ("raw", "lean", "aiohttp", "aiobotocore")
BACKLOG: Final = 50
"""How often the events of a run are in the queue when memory is looked at: a million, if a run has 20 000."""
LOOK_S: Final = 0.25
START_S: Final = 4.0
"""How long two routers have to start: one alone could do the warm-up, and the other's start would count."""
_LANE: Final = re.compile(r'^cellrouter_event_lane_seconds_bucket\{.*le="([^"]+)".*\} (\S+)$', re.MULTILINE)


async def whole(stage: World) -> dict[str, float]:
    """Measure a router with all that it does: metrics, samples, canaries, leases, reports."""
    await stage.reset()
    async with stage.router() as process:
        return await at_once(stage, stage.options.events, router=process)


async def hand_rolled(stage: World, *, each: bool = False) -> dict[str, float]:
    """Measure the same job hand-rolled, in batches or with a POST for each event."""
    await stage.reset()
    async with stage.hand_rolled(each=each) as process:
        return await at_once(stage, stage.options.events // (2 if each else 1), hand_rolled=process)


async def drained(stage: World, transport: str) -> dict[str, float]:
    """Measure what receiving and deleting alone cost by a transport."""
    await stage.reset()
    start = ["-m", "benchmarks.cost.drainer", transport, stage.sqs.url, QUEUE, "0"]
    async with stage.measured(f"drainer-{transport}", start, {}) as process:
        return await at_once(stage, stage.options.events, drainer=process)


async def at_rate(stage: World, rate: float) -> dict[str, float]:
    """Measure a router whose events come evenly, so many a second."""
    await stage.reset()
    async with stage.router() as process:
        return await at_a_rate(stage, rate, router=process)


async def idle(stage: World) -> dict[str, float]:
    """Measure what a router takes that has nothing to do, in ms of CPU a second."""
    await stage.reset()
    async with stage.router() as process:
        await pause(1)
        before, began = process.cpu_s(), perf_counter()
        await pause(stage.options.seconds)
        return {"cpu_ms_per_s": 1000 * (process.cpu_s() - before) / (perf_counter() - began)}


async def two(stage: World) -> dict[str, float]:
    """Measure two routers at one queue. They share a core here, so that only their CPU says what they can do."""
    await stage.reset()
    async with stage.router(name="router-1") as one, stage.router(name="router-2") as other:
        await pause(START_S)
        return await at_once(stage, stage.options.events, router=one, other=other)


async def many_cells(options: Options, cells: int, tenants: int) -> dict[str, float]:
    """Measure a router of so many cells, and as many tenants as there are with the most cells."""
    async with world(replace(options, cells=cells, tenants=tenants)) as stage:
        return await whole(stage)


async def from_receive_to_dispatch(stage: World, rate: float) -> dict[str, float]:
    """Measure how long events stay in a router at a rate, by its own metric, in ms."""
    await stage.reset()
    port = free_port()
    async with AsyncExitStack() as stack:
        settings = {**QUICK_STOP, "CELLROUTER_API_PORT": str(port)}
        process = await stack.enter_async_context(stage.router(settings))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        url = f"http://127.0.0.1:{port}/metrics"
        await at_a_rate(replace_seconds(stage, 1), rate, router=process)
        before = await _waits(session, url)
        figures = await at_a_rate(stage, rate, router=process)
        waits = await _waits(session, url)
        waits.subtract(before)
        return {**figures, "p50_ms": 1000 * quantile(waits, 0.5), "p99_ms": 1000 * quantile(waits, 0.99)}


def replace_seconds(stage: World, seconds: float) -> World:
    """Return the same stage with shorter intervals."""
    return replace(stage, options=replace(stage.options, seconds=seconds))


async def _waits(session: aiohttp.ClientSession, url: str) -> Counter[float]:
    """Read the events that waited at most so long, over all cells, by each upper bound in seconds."""
    found: Counter[float] = Counter()
    async with session.get(url) as response:
        for bound, number in _LANE.findall(await response.text()):
            found[float(bound)] += round(float(number))
    return found


def quantile(waits: Mapping[float, int], part: float) -> float:
    """Return a quantile of cumulative buckets, within a bucket by proportion, as Prometheus does."""
    wanted, below, bound_below = part * max(waits.values()), 0, 0.0
    for bound, number in sorted(waits.items()):
        if number >= wanted:
            return bound_below if bound == float("inf") else _between(bound_below, bound, below, number, wanted)
        below, bound_below = number, bound
    return bound_below


def _between(low: float, high: float, below: int, number: int, wanted: float) -> float:
    return low + (high - low) * (wanted - below) / max(1, number - below)


async def backlog(stage: World) -> dict[str, float]:
    """Look at a router's memory while it works on a long queue: the most, and how it grows once it has begun."""
    await stage.reset()
    waiting = BACKLOG * stage.options.events
    seen: list[tuple[float, float]] = []  # events settled, MB
    async with stage.router() as process:
        await stage.sqs("load", count=waiting)
        until = perf_counter() + 3 * stage.options.seconds
        while perf_counter() < until:
            await pause(LOOK_S)
            seen.append(((await stage.sqs("state"))["settled"], process.rss_mb()))
    later = [(settled, rss) for settled, rss in seen if 2 * settled > seen[-1][0]]
    return {"backlog": waiting, "settled": seen[-1][0], "rss_mb": max(rss for _, rss in seen), **_growth(later)}


def _growth(seen: Sequence[tuple[float, float]]) -> dict[str, float]:
    slope = linear_regression([settled for settled, _ in seen], [rss for _, rss in seen]).slope
    return {"growth_mb_per_million_events": slope * 1e6}
