"""One tenant sends ten times as much as before: what the other tenants notice of it.

The load is open-loop, at 40 % of what the router can do; events take so long in their cells that each cell is busy to
40 % too. With three tenants a cell, the noisy tenant's cell then gets 1.6 times what it can take. Latency is from
enqueue to delete, measured by the queue; an event in a hold queue is not settled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Final

from benchmarks.figures import medians, table
from benchmarks.open_loop import LOAD, Effort, Interval, begin, measured, real_times, saturation, set_rates
from benchmarks.world import Options, World, world

TENANTS_PER_CELL: Final = 3
LOUDER: Final = 10  # times


async def run(options: Options) -> dict[str, Any]:
    """Measure several runs, each with a router of its own; print the median of each figure, return medians and runs."""
    options = replace(real_times(options), tenants=TENANTS_PER_CELL * options.cells)
    runs: list[dict[str, dict[str, float]]] = []
    async with world(options) as stage:
        rate = LOAD * await saturation(stage)
        service_s = LOAD * options.concurrency * options.cells / rate
        print(f"{rate:.0f} events a second over {options.cells} cells of {1000 * service_s:.0f} ms", flush=True)
        for number in range(options.runs):
            runs.append(await _run(stage, rate, service_s))
            ratios = (f"{name} {figures['goodput_ratio']:.2f}" for name, figures in runs[-1].items())
            print(f"run {number + 1}: goodput to that before: {', '.join(ratios)}", flush=True)
    columns = {name: medians([found[name] for found in runs]) for name in runs[0]}
    print(f"\n{table(columns)}\n\nOne tenant {LOUDER} times louder; goal for all others: goodput_ratio 0.90 or more")
    return {**columns, "rate": rate, "runs": runs}


async def _run(stage: World, rate: float, service_s: float) -> dict[str, dict[str, float]]:
    await stage.reset(service_s=service_s)
    noisy = next(iter(stage.tenants))
    groups = _groups(stage, noisy)
    normal = dict.fromkeys(stage.tenants, rate / len(stage.tenants))
    async with stage.router() as process:
        await begin(stage, normal)
        _, before = await measured(stage, process, groups)
        await set_rates(stage, normal | {noisy: LOUDER * normal[noisy]})
        effort, during = await measured(stage, process, groups)
    return {name: _figures(effort, before[name], during[name]) for name in groups}


def _groups(stage: World, noisy: str) -> dict[str, Callable[[str], bool]]:
    cell = stage.tenants[noisy]
    return {
        "all others": lambda account: account != noisy,
        "on its cell": lambda account: account != noisy and stage.tenants[account] == cell,
        "on other cells": lambda account: stage.tenants[account] != cell,
        "itself": lambda account: account == noisy,
    }


def _figures(effort: Effort, before: Interval, during: Interval) -> dict[str, float]:
    return {
        "before_per_s": before.events_per_s,
        "during_per_s": during.events_per_s,
        "before_p99_ms": before.p99_ms,
        "during_p99_ms": during.p99_ms,
        "goodput_ratio": during.events_per_s / before.events_per_s,
        "p99_ratio": during.p99_ms / before.p99_ms,
        **asdict(effort),
    }
