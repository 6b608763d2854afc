"""CPU time an event of the whole router as a process, beside the same job hand-rolled on the same stubs.

All events are in the queue from the beginning. With a rate they come open-loop instead, and batches are not full.
"""

from __future__ import annotations

from statistics import median
from typing import Any, Final

from benchmarks.figures import medians, table
from benchmarks.processes import Child
from benchmarks.world import CALL_TIMEOUT_S, Options, World, pause, world

GOAL: Final = 0.6  # the router's CPU an event, as a share of the hand-rolled job's
SETTLE_S: Final = 2.0
"""How long an open-loop load runs before it is measured."""


async def run(options: Options) -> dict[str, Any]:
    """Measure router and hand-rolled job in turns, print the median of each figure, return medians and runs."""
    found: dict[str, list[dict[str, float]]] = {"router": [], "hand-rolled": []}
    async with world(options) as stage:
        for number in range(options.runs):
            for name, start in (("router", stage.router), ("hand-rolled", stage.hand_rolled)):
                await stage.reset()
                async with start() as process:
                    figures = await (_at_a_rate if options.rate else _at_once)(stage, process)
                found[name].append(figures)
                print(f"run {number + 1}, {name}: {figures['us_per_event']:.1f} us an event", flush=True)
    columns = {name: medians(runs) for name, runs in found.items()}
    # Pairs are measured right after each other, because other work on the machine comes and goes.
    pairs = zip(found["router"], found["hand-rolled"], strict=True)
    ratio = median(mine["us_per_event"] / theirs["us_per_event"] for mine, theirs in pairs)
    print(f"\n{table(columns)}\n\nRATIO of CPU an event, router to hand-rolled: {ratio:.2f} (goal {GOAL:.2f} or less)")
    return {**columns, "ratio": ratio, "runs": found}


async def burst(stage: World, events: int, total: int) -> None:
    """Enqueue so many events at once, and wait until `total` events are settled since the reset."""
    await stage.sqs("load", count=events)
    await stage.sqs("wait", settled=total, timeout_s=CALL_TIMEOUT_S / 2)


async def _at_once(stage: World, process: Child) -> dict[str, float]:
    """Measure from the first to the last of the events, after a warm-up that is not counted."""
    warm_up, events = max(100, stage.options.events // 10), stage.options.events
    await burst(stage, warm_up, warm_up)
    before = await _begin(stage, process)
    await burst(stage, events, warm_up + events)
    return await _figures(stage, process, before)


async def _at_a_rate(stage: World, process: Child) -> dict[str, float]:
    """Measure some seconds of an even load."""
    tenants = len(stage.tenants)
    await stage.sqs("rates", rates=[stage.options.rate / tenants] * tenants)
    await pause(SETTLE_S)
    before = await _begin(stage, process)
    await pause(stage.options.seconds)
    return await _figures(stage, process, before)


async def _begin(stage: World, process: Child) -> dict[str, float]:
    await stage.sqs("window")
    return {**await stage.cells("state"), "cpu_s": process.cpu_s()}


async def _figures(stage: World, process: Child, before: dict[str, float]) -> dict[str, float]:
    used = process.cpu_s() - before["cpu_s"]
    window, after = await stage.sqs("window"), await stage.cells("state")
    events, seconds = len(window["done"]), window["until_last_s"]
    return {
        "us_per_event": used / events * 1e6,
        "events_per_s": events / seconds,
        "cpu_share": used / seconds,
        "events_per_post": (after["events"] - before["events"]) / (after["batches"] - before["batches"]),
        "new_connections": after["connections"] - before["connections"],
        "messages_per_receive": window["received"] / window["receives"],
        "messages_per_delete": events / window["deletes"],
        "rss_mb": process.rss_mb(),
    }
