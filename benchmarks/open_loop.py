"""What the open-loop suites share: a rate well below what the router can do, and what a rung of it looked like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.figures import p99
from benchmarks.processes import Child
from benchmarks.whole_router import burst
from benchmarks.world import Options, World, pause

LOAD: Final = 0.4
"""Of the rate at which the router is saturated."""
SQS_MS: Final = 10.0
SETTLE_S: Final = 2.0
"""Of load before the first rung."""


@dataclass(frozen=True, slots=True)
class Rung:
    """What became of the events of some tenants that were settled within a rung."""

    events_per_s: float
    p50_ms: float
    p99_ms: float  # from enqueue to the delete that settled it, at the queue


@dataclass(frozen=True, slots=True)
class Effort:
    """What the router did for all of them."""

    router_cpu_share: float
    messages_per_receive: float


def real_times(options: Options) -> Options:
    """An SQS that takes as long for an answer as the real one: with none, a router would poll for single messages."""
    return replace(options, sqs_ms=SQS_MS if options.sqs_ms < 0 else options.sqs_ms)


async def saturation(stage: World) -> float:
    """Events a second that a router alone can take from these cells."""
    events = stage.options.events
    await stage.reset()
    async with stage.router():
        await burst(stage, events // 4, events // 4)
        await stage.sqs("window")
        await burst(stage, events, events + events // 4)
        return float(events / (await stage.sqs("window"))["until_last_s"])


async def begin(stage: World, rates: Mapping[str, float]) -> None:
    """Start the load, account → events a second, and let it settle."""
    await set_rates(stage, rates)
    await pause(SETTLE_S)
    await stage.sqs("window")


async def set_rates(stage: World, rates: Mapping[str, float]) -> None:
    """Account → events a second."""
    await stage.sqs("rates", rates=[rates[account] for account in stage.tenants])


async def rung(
    stage: World, process: Child, groups: Mapping[str, Callable[[str], bool]]
) -> tuple[Effort, dict[str, Rung]]:
    """Let a rung pass; what it was like, for all and for each group of accounts."""
    begun = process.cpu_s()
    await pause(stage.options.seconds)
    window = await stage.sqs("window")
    seconds = window["seconds"]
    effort = Effort((process.cpu_s() - begun) / seconds, window["received"] / max(1, window["receives"]))
    took = {
        name: sorted(1000 * latency for account, latency in window["done"] if chosen(account))
        for name, chosen in groups.items()
    }
    return effort, {name: _phase(found, seconds) for name, found in took.items()}


def _phase(took: Sequence[float], seconds: float) -> Rung:
    return Rung(len(took) / seconds, took[len(took) // 2] if took else 0.0, p99(took))
