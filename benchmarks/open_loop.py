"""What the open-loop suites share: a load well below what the router can do, and what it was like in an interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.figures import p99
from benchmarks.loads import burst
from benchmarks.processes import Child
from benchmarks.world import Options, World, pause

LOAD: Final = 0.4
"""The load, as a share of the rate at which the router is saturated."""
SQS_MS: Final = 10.0
SETTLE_S: Final = 2.0
"""How long the load runs before the first interval."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The throughput and latency of some tenants' events, of those that were settled within an interval."""

    events_per_s: float
    p50_ms: float
    p99_ms: float  # from enqueue to the delete that settled it, at the queue


@dataclass(frozen=True, slots=True)
class Effort:
    """What the events of all tenants cost the router within an interval."""

    router_cpu_share: float  # of one core
    messages_per_receive: float


def real_times(options: Options) -> Options:
    """Return options with an SQS as slow as the real one: from an instant one, a router would get single messages."""
    return replace(options, sqs_ms=SQS_MS if options.sqs_ms < 0 else options.sqs_ms)


async def saturation(stage: World) -> float:
    """Measure how many events a second a router can bring to these cells."""
    events = stage.options.events
    await stage.reset()
    async with stage.router():
        await burst(stage, events // 4, events // 4)
        await stage.sqs("window")
        await burst(stage, events, events + events // 4)
        return float(events / (await stage.sqs("window"))["until_last_s"])


async def begin(stage: World, rates: Mapping[str, float]) -> None:
    """Start the load, in events a second for each account, and let it settle."""
    await set_rates(stage, rates)
    await pause(SETTLE_S)
    await stage.sqs("window")


async def set_rates(stage: World, rates: Mapping[str, float]) -> None:
    """Change the load, in events a second for each account."""
    await stage.sqs("rates", rates=[rates[account] for account in stage.tenants])


async def measured(
    stage: World, process: Child, groups: Mapping[str, Callable[[str], bool]]
) -> tuple[Effort, dict[str, Interval]]:
    """Let an interval pass; return what it cost the router, and what it was like for each group of accounts."""
    begun = process.cpu_s()
    await pause(stage.options.seconds)
    window = await stage.sqs("window")
    seconds = window["seconds"]
    effort = Effort((process.cpu_s() - begun) / seconds, window["received"] / max(1, window["receives"]))
    took = {
        name: sorted(1000 * latency for account, latency in window["done"] if chosen(account))
        for name, chosen in groups.items()
    }
    return effort, {name: _interval(found, seconds) for name, found in took.items()}


def _interval(took: Sequence[float], seconds: float) -> Interval:
    return Interval(len(took) / seconds, took[len(took) // 2] if took else 0.0, p99(took))
