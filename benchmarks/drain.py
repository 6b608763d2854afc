"""SIGTERM under full load: how long the router takes to end, and what becomes of what it had.

A second router then takes the rest, so that every event reaches its cell. The cells know which came twice or never.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import Any, Final

from benchmarks.figures import medians, table
from benchmarks.world import CALL_TIMEOUT_S, Options, World, pause, world

SERVICE_MS: Final = 20.0
PART_DONE: Final = 0.2
"""The share of the events that is settled when the signal comes."""


async def run(options: Options) -> dict[str, Any]:
    """Measure several drains, print the median of each figure, and return medians and runs."""
    options = replace(options, service_ms=options.service_ms or SERVICE_MS)
    runs: list[dict[str, float]] = []
    async with world(options) as stage:
        for number in range(options.runs):
            runs.append(await _run(stage))
            print(f"run {number + 1}: {runs[-1]['seconds_to_exit']:.2f} s to exit", flush=True)
    figures = medians(runs)
    print(f"\n{table({'drain': figures})}\n\ngoals: exit code 0, nothing lost, delivered again or left hidden")
    return {**figures, "runs": runs}


async def _run(stage: World) -> dict[str, float]:
    events = stage.options.events
    await stage.reset()
    async with stage.router({}) as process:  # {}: with long polls as long as in production
        await stage.sqs("load", count=events)
        await stage.sqs("wait", settled=int(PART_DONE * events), timeout_s=CALL_TIMEOUT_S / 2)
        begun = perf_counter()
        code = await process.stop()
        seconds = perf_counter() - begun
    state = await stage.sqs("state")
    async with stage.router():
        await stage.sqs("wait", settled=events, timeout_s=CALL_TIMEOUT_S / 2)
        while any((await stage.sqs("state"))["elsewhere"].values()):
            await pause(0.1)
    cells = await stage.cells("state")
    return {
        "seconds_to_exit": seconds,
        "exit_code": code,
        "settled": state["settled"],
        "visible": state["visible"],
        "still_hidden": state["hidden"],  # until their visibility timeout is over
        "in_hold_queues": sum(state["elsewhere"].values()),
        "lost": events - (cells["events"] - cells["again"]),
        "delivered_again": cells["again"],
    }
