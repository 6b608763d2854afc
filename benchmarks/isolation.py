"""One cell becomes 50 times slower, then dies: what the other cells notice, compared with the interval before.

The load is open-loop, at 40 % of what the router can do, even over the tenants. The victim's lease lives on, so only
its answers show that it is sick. Latency is from enqueue to delete, measured by the queue.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Final

from benchmarks.figures import medians, table
from benchmarks.open_loop import LOAD, Effort, Interval, begin, measured, real_times, saturation
from benchmarks.world import Options, World, cell_id, world

SERVICE_MS: Final = 5.0
SLOWER: Final = 50  # times
VICTIM: Final = 0  # the index of the cell


async def run(options: Options) -> dict[str, Any]:
    """Measure several runs, each with a router of its own; print the median of each figure, return medians and runs."""
    options = replace(real_times(options), service_ms=options.service_ms or SERVICE_MS)
    runs: list[dict[str, dict[str, float]]] = []
    async with world(options) as stage:
        rate = LOAD * await saturation(stage)
        print(
            f"{rate:.0f} events a second over {options.cells} cells of {options.service_ms:g} ms an event", flush=True
        )
        for number in range(options.runs):
            runs.append(await _run(stage, rate))
            ratios = (f"{name} {figures['p99_ratio']:.2f}" for name, figures in runs[-1].items())
            print(f"run {number + 1}: p99 of the others to the baseline's: {', '.join(ratios)}", flush=True)
    columns = {name: medians([found[name] for found in runs]) for name in runs[0]}
    print(f"\n{table(columns)}\n\nThe other cells; goals: throughput_ratio 0.95 or more, p99_ratio 1.2 or less")
    return {**columns, "rate": rate, "runs": runs}


async def _run(stage: World, rate: float) -> dict[str, dict[str, float]]:
    groups = {
        "others": lambda account: stage.tenants[account] != cell_id(VICTIM),
        "victim": lambda account: stage.tenants[account] == cell_id(VICTIM),
    }
    await stage.reset()
    async with stage.router() as process:
        await begin(stage, dict.fromkeys(stage.tenants, rate / len(stage.tenants)))
        baseline = await measured(stage, process, groups)
        await stage.cells("service", cell=VICTIM, seconds=SLOWER * stage.options.service_ms / 1000)
        slow = await measured(stage, process, groups)
        await stage.cells("kill", cell=VICTIM)
        dead = await measured(stage, process, groups)
    intervals = {"baseline": baseline, f"{SLOWER} x slower": slow, "dead": dead}
    return {name: _figures(effort, found, baseline[1]["others"]) for name, (effort, found) in intervals.items()}


def _figures(effort: Effort, found: dict[str, Interval], baseline: Interval) -> dict[str, float]:
    others = found["others"]
    return {
        **asdict(others),
        "throughput_ratio": others.events_per_s / baseline.events_per_s,
        "p99_ratio": others.p99_ms / baseline.p99_ms,
        "victim_events_per_s": found["victim"].events_per_s,
        "victim_p99_ms": found["victim"].p99_ms,
        **asdict(effort),
    }
