"""Loads of events for measured processes: all at once, or at an even rate; and what an event costs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.processes import Child
from benchmarks.world import CALL_TIMEOUT_S, World, pause

SETTLE_S: Final = 2.0
"""How long an open-loop load runs before it is measured."""
US: Final = "us_per_event"


async def burst(stage: World, events: int, total: int) -> None:
    """Enqueue so many events at once, and wait until `total` events are settled since the reset."""
    await stage.sqs("load", count=events)
    await stage.sqs("wait", settled=total, timeout_s=CALL_TIMEOUT_S / 2)


async def at_once(stage: World, events: int, **processes: Child) -> dict[str, float]:
    """Measure from the first to the last of the events, after a warm-up that is not counted."""
    warm_up = max(100, events // 10)
    await burst(stage, warm_up, warm_up)
    before = await _begin(stage, processes)
    await burst(stage, events, warm_up + events)
    return await _figures(stage, processes, before)


async def at_a_rate(stage: World, rate: float, **processes: Child) -> dict[str, float]:
    """Measure some seconds of an even load, of so many events a second. It goes on until the next reset."""
    tenants = len(stage.tenants)
    await stage.sqs("rates", rates=[rate / tenants] * tenants)
    await pause(SETTLE_S)
    before = await _begin(stage, processes)
    await pause(stage.options.seconds)
    return await _figures(stage, processes, before)


def per_event(used_s: float, events: float) -> dict[str, float]:
    """Say what CPU seconds for some events are for one of them, and how many a core bears."""
    return {f"cpu_{US}": used_s / events * 1e6, "events_per_s_per_core": events / used_s}


async def _begin(stage: World, processes: Mapping[str, Child]) -> dict[str, float]:
    await stage.sqs("window")
    return {**await stage.cells("state"), **_cpu_s(stage, processes)}


def _cpu_s(stage: World, processes: Mapping[str, Child]) -> dict[str, float]:
    everything = {**processes, "queue_stub": stage.sqs.process, "cell_stubs": stage.cells.process}
    return {name: process.cpu_s() for name, process in everything.items()}


async def _figures(stage: World, processes: Mapping[str, Child], before: Mapping[str, float]) -> dict[str, float]:
    used = {name: cpu_s - before[name] for name, cpu_s in _cpu_s(stage, processes).items()}
    window, after = await stage.sqs("window"), await stage.cells("state")
    events, seconds = len(window["done"]), window["until_last_s"]
    together = sum(used[name] for name in processes)
    return {
        **per_event(together, events),
        **{f"{name}_{US}": cpu_s / events * 1e6 for name, cpu_s in used.items()},
        "events_per_s": events / seconds,
        "events_per_post": (after["events"] - before["events"]) / max(1, after["batches"] - before["batches"]),
        "messages_per_receive": window["received"] / window["receives"],
        "messages_per_delete": events / window["deletes"],
        "rss_mb": sum(process.rss_mb() for process in processes.values()),
    }
