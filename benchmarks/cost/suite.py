"""What an event costs, in one run: the router beside peers, lower bounds, real workers, many cells and low rates.

CPU is of the measured processes alone, without the stubs. All rows of CPU are measured in turns, run by run, and a
ratio is the median over pairs of runs: only ratios travel from one machine to another.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from benchmarks import detector_scale, map_suite
from benchmarks.cost import emulators, routers, workers
from benchmarks.cost.envoy import proxied
from benchmarks.cost.report import CPU, Found, Goal, SkippedError, costs, others, verdicts
from benchmarks.world import Options, World, cell_id, world
from tests.support.servers import ministack

ROUTER: Final = "router"
PEER: Final = "hand-rolled"
ENVOY: Final = "Envoy, one proxied request"
WAY: Final = "router and four workers"
DRAIN: Final = "receive and delete, {}"
BATCH: Final = "worker, {} events a POST, {}"
RATE: Final = "router, {} events/s"
RATES: Final = (10, 100, 1000)
SIZES: Final = (1, 10, 50)
SHARES: Final = {1: 0.2, 10: 0.5, 50: 1.0}
"""Of the events of a run, for a worker that gets so many in a POST: all take about as long."""
FEW_EVENTS: Final = 600  # where the store is an emulator's
CELLS: Final = (4, 400)
MANY: Final = "router, {} cells, 400 tenants"
LEADERS: Final = (4, 100, 1000)  # cells
HALF: Final = "receive to dispatch, half load"
BACKLOG: Final = "memory with a backlog"
ON: Final = {"MiniStack": ("router on MiniStack", "bare drain of MiniStack")} | {
    "LocalStack": ("router on LocalStack", "bare drain of LocalStack")
}
GOALS: Final = (
    Goal("router to Envoy", ROUTER, 0.9, to=ENVOY),
    Goal("hand-rolled to router", PEER, 5, to=ROUTER, at_least=True),
    Goal("router to receive and delete of its own transport", ROUTER, 2, to=DRAIN.format("lean")),
    Goal("worker, 50 events a POST, µs an event", BATCH.format(50, "SQLite"), 60),
    Goal("worker, 10 events a POST, µs an event", BATCH.format(10, "SQLite"), 100),
    Goal("router and four workers, µs an event", WAY, 200),
    Goal("router at 100 events/s to full load", RATE.format(100), 2, to=ROUTER),
    Goal("what two routers bear to one, by their CPU", ROUTER, 1.8, to="two routers", times=2, at_least=True),
    Goal("receive to dispatch at half load, p99 in ms", HALF, 5, figure="p99_ms"),
    Goal("memory with a backlog, MB", BACKLOG, 150, figure="rss_mb"),
    Goal("its growth, MB a million events", BACKLOG, 5, figure="growth_mb_per_million_events"),
    Goal("400 cells to 4", MANY.format(400), 1.15, to=MANY.format(4)),
    Goal("router to a bare drain on MiniStack", ON["MiniStack"][0], 0.9, "events_per_s", ON["MiniStack"][1], 1, True),
    Goal(
        "router to a bare drain on LocalStack", ON["LocalStack"][0], 0.9, "events_per_s", ON["LocalStack"][1], 1, True
    ),
)
Measuring = Callable[[], Awaitable[Mapping[str, float]]]


async def run(options: Options) -> dict[str, Any]:
    """Measure all parts, or those that `only` names; print tables of them and of the goals, and return all figures."""
    found = Found()
    try:
        await _measure(options, found)
    finally:  # also when it is interrupted: what was measured until then
        print(f"\n{costs(found, ROUTER)}\n\n{others(found)}\n\n{verdicts(found, GOALS)}")
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
    return {"machine": machine, **found.as_json(GOALS)}


async def _measure(options: Options, found: Found) -> None:
    with ExitStack() as stack:
        aws = await _ministack(stack, options)
        async with world(options) as stage:
            parts = _in_turns(stage, options, aws)
            for _ in range(options.runs):
                for row, measuring in parts.items():
                    if options.wants(row):
                        await found.take(row, measuring)
            for row, measuring in _once(stage, found).items():
                if options.wants(row):
                    await found.take(row, measuring)
            await _on_emulators(stage, found, aws)
    await _in_process(options, found)


def _in_turns(stage: World, options: Options, aws: str) -> dict[str, Measuring]:
    """Return the rows of CPU an event, in the order in which each run measures them."""
    few = min(FEW_EVENTS, options.events)
    stores = {
        "SQLite": lambda size: workers.in_batches(stage, size, int(options.events * SHARES[size]), {}),
        "DynamoDB": lambda size: workers.on_dynamodb(stage, size, few, aws),
    }
    return {
        ROUTER: partial(routers.whole, stage),
        PEER: partial(routers.hand_rolled, stage),
        f"{PEER}, a POST an event": partial(routers.hand_rolled, stage, each=True),
        ENVOY: partial(proxied, stage),
        **{DRAIN.format(name): partial(routers.drained, stage, name) for name in routers.TRANSPORTS},
        **{BATCH.format(size, name): partial(on, size) for name, on in stores.items() for size in SIZES},
        WAY: partial(workers.end_to_end, options),
        "two routers": partial(routers.two, stage),
        **{MANY.format(count): partial(routers.many_cells, options, count, max(CELLS)) for count in CELLS},
        **{RATE.format(rate): partial(routers.at_rate, stage, rate) for rate in RATES},
    }


def _once(stage: World, found: Found) -> dict[str, Measuring]:
    """Return the rows that are measured once, after the others."""

    async def half_load() -> Mapping[str, float]:
        if ROUTER not in found.runs:
            raise SkippedError(f"half of what the row '{ROUTER}' bears, and that was not measured")
        rate = found.rows()[ROUTER]["events_per_s"] / 2
        figures = await routers.from_receive_to_dispatch(stage, rate)
        return {"p99_ms": figures["p99_ms"], "p50_ms": figures["p50_ms"], "rate": rate, "cost_us": figures[CPU]}

    return {
        "idle router": partial(routers.idle, stage),
        HALF: half_load,
        BACKLOG: partial(routers.backlog, stage),
    }


async def _ministack(stack: ExitStack, options: Options) -> str:
    """Start MiniStack where a part needs it; its endpoint, empty without."""
    needs = (ON["MiniStack"][0], *(BATCH.format(size, "DynamoDB") for size in SIZES))
    return await asyncio.to_thread(stack.enter_context, ministack()) if any(map(options.wants, needs)) else ""


async def _on_emulators(stage: World, found: Found, aws: str) -> None:
    for name, (routed, bare) in ON.items():
        if not stage.options.wants(routed):
            continue
        with ExitStack() as stack:
            try:
                endpoint = aws if name == "MiniStack" else await asyncio.to_thread(_entered, stack, name)
            except SkippedError as why:
                found.skip(routed, str(why))
                continue
            emulator = emulators.Emulator(stage, endpoint)
            await emulator.make()
            for _ in range(stage.options.runs):
                await found.take(routed, emulator.routed)
                await found.take(bare, emulator.drained)


def _entered(stack: ExitStack, name: str) -> str:
    return stack.enter_context(emulators.started(name))


async def _in_process(options: Options, found: Found) -> None:
    """Measure what needs no process: maps, and the leader's look."""
    if options.wants("map"):
        for title, figures in (await map_suite.times(("slot map", "uhashring"), options.runs)).items():
            found.runs[f"map: {title}"] = [figures]
            print(f"map: {title}: look-up {figures['lookup_ns']:,.0f} ns", flush=True)
    for count in LEADERS:
        cells = [cell_id(number) for number in range(count)]
        if options.wants(row := f"leader, {count} cells"):
            await found.take(row, partial(detector_scale.measured, cells, options.seed))
