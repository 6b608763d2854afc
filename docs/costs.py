"""What cellrouter costs on AWS: prices and sizes are inputs, and the rest is arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Final

HOURS: Final = 730  # in a month
PRICES: Final = {
    "vCPU hour": 0.04048,  # Fargate, Linux on x86
    "GB hour": 0.004445,  # of a task's memory
    "million SQS requests": 0.40,
    "million S3 writes": 5.00,
    "million S3 reads": 0.40,
    "million write units": 0.625,  # DynamoDB on demand
    "million read units": 0.125,
    "million key requests": 3.00,
    "table GB": 0.45,  # with point-in-time recovery
    "S3 GB": 0.023,
    "Firehose GB": 0.029,
    "log GB": 0.53,  # taken in, and kept for a month
    "alarm": 0.10,
    "metric": 0.30,
    "secret": 0.40,
    "key": 1.00,
    "Valkey node hour": 0.0256,  # cache.t4g.small
    "endpoint hour": 0.01,  # an interface endpoint in one zone
    "endpoint GB": 0.01,
}
"""List prices of us-east-1, in US dollars."""
SEEN: Final = {
    "vCPU hour": "March 2026",
    "GB hour": "March 2026",
    "million SQS requests": "March 2026",
    "million write units": "July 2025",
    "million read units": "July 2025",
    "log GB": "June 2026, but for the $ 0.03 of keeping it",
    "metric": "February 2026",
    "endpoint hour": "June 2026",
}
"""When a page that quotes AWS' list was last seen to name the same price. Of the others nobody has looked."""
MILLION_EVENTS: Final = {
    "million SQS requests": 1.2,  # one to send, a tenth each to receive and to delete
    "million write units": 5.0,  # 3.7 where events come together, 8 for one alone: cell-table.md
    "million read units": 0.5,
    "million S3 writes": 1.0,  # by whoever puts the object there that the event is about
    "million S3 reads": 1.0,
    "million key requests": 0.1,
    "Firehose GB": 5.0,  # a record counts as 5 KB at least
    "log GB": 0.02,
    "endpoint GB": 20.0,  # what tasks send and receive
    "table GB": 0.3,  # ids, until they expire
    "S3 GB": 5.0,  # objects and findings, for a month
}
"""What a million events take, at the throughput of these sizes: a call carries ten of them."""
POLLS: Final = HOURS * 3600 / 10 / 1e6
"""Millions of long polls of one router at one queue in a month."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is of everything."""

    name: str
    events: float  # a month
    cells: int
    cell_vcpu: float
    cell_gb: float
    routers: int
    router_vcpu: float
    router_gb: float
    zones: int = 2


SIZES: Final = (
    Size("small", 10e6, 4, 0.5, 1, 2, 0.5, 1),
    Size("medium", 300e6, 20, 1, 2, 4, 1, 2),
    Size("large", 3000e6, 100, 1, 2, 12, 1, 2, zones=3),
)
ROUTER_US: Final = 65
WORKER_US: Final = 95
"""CPU an event of a router and of a worker whose handler does nothing, at full load: performance.md."""
SLOWER: Final = 2.0
"""How much longer a vCPU takes than the core of these figures: TLS, a shared core, receives of fewer than ten."""
BUSY: Final = 0.5
"""The share of a vCPU that is planned for: the rest is for bursts, and for a zone that fails."""
THROUGHPUTS: Final = (1_000, 10_000, 100_000, 1_000_000)  # events a second, all month
SQS_TIERS: Final = ((0.0, 0.40), (100e9, 0.30), (200e9, 0.24))
"""From how many requests a month on a million of them costs so much."""
ABOUT_THROUGHPUTS: Final = f"""\
Tasks of one vCPU and 2 GB, busy to {BUSY:.0%}: a router has one event loop, and so has a worker. An event takes the CPU
that the bench measures, {ROUTER_US} µs in a router and {WORKER_US} µs in a worker whose handler does nothing, times
{SLOWER:g} for TLS, shared cores and receives of fewer than ten. Your handler comes on top. The requests are a router's,
to receive and to delete ten messages at a time; the last column is what single messages would cost. A standard queue
has about 120,000 messages in flight at most: a million events a second, a tenth of a second each, need two or three
source queues, in environments of their own.
"""
Line = tuple[str, float, float]
"""What for, how much of it, and its price."""


def cell(size: Size) -> Iterator[Line]:
    """List what a cell costs a month, whatever it does."""
    yield "vCPU hours", HOURS * size.cell_vcpu, PRICES["vCPU hour"]
    yield "GB hours", HOURS * size.cell_gb, PRICES["GB hour"]
    yield "million polls of its hold queue", POLLS * size.routers, PRICES["million SQS requests"]
    yield "alarms", 3, PRICES["alarm"]
    yield "secret", 1, PRICES["secret"]
    canaries = 1 + min(size.routers, 4)  # a second: the leader's, and what all routers send together
    yield "canaries: million write units", HOURS * 3600 * canaries / 1e6, PRICES["million write units"]
    yield "canaries, outbox: million read units", HOURS * 3600 * (canaries + 1) / 1e6, PRICES["million read units"]


def platform(size: Size) -> Iterator[Line]:
    """List what all cells share, a month, whatever they do."""
    yield "routers: vCPU hours", HOURS * size.routers * size.router_vcpu, PRICES["vCPU hour"]
    yield "routers: GB hours", HOURS * size.routers * size.router_gb, PRICES["GB hour"]
    yield "two controllers: vCPU hours", HOURS * 2 * 0.5, PRICES["vCPU hour"]
    yield "two controllers: GB hours", HOURS * 2 * 1, PRICES["GB hour"]
    yield "two Valkey nodes: hours", HOURS * 2, PRICES["Valkey node hour"]
    yield "million polls of source and quarantine queue", POLLS * 3 * size.routers, PRICES["million SQS requests"]
    yield "key", 1, PRICES["key"]
    yield "secret", 1, PRICES["secret"]
    yield "alarms", 9, PRICES["alarm"]
    yield "metrics of Container Insights and of our own", 60, PRICES["metric"]
    yield "if made, 11 interface endpoints: hours", HOURS * 11 * size.zones, PRICES["endpoint hour"]


def million_events() -> Iterator[Line]:
    """List what a million events cost."""
    for name, count in MILLION_EVENTS.items():
        yield name, count, PRICES[name]


def total(lines: Iterator[Line]) -> float:
    """Add up what lines come to."""
    return sum(count * price for _, count, price in lines)


def table(title: str, lines: Iterator[Line]) -> str:
    """Write lines as a table in Markdown, with the sum at its end."""
    rows = list(lines)
    written = [f"| {what} | {count:,.6g} | {price:,.6g} | {count * price:,.2f} |" for what, count, price in rows]
    return "\n".join(
        [
            f"| {title} | how much | price | $ |",
            "|---|--:|--:|--:|",
            *written,
            f"| **together** | | | {total(iter(rows)):,.2f} |",
            "",
        ]
    )


def sizes() -> str:
    """Write what the three sizes cost a month, as a table in Markdown."""
    head = "| size | million events | cells | cells, $ | platform, $ | events, $ | together, $ | a million events, $ |"
    rows = [head, "|---|--:|--:|--:|--:|--:|--:|--:|"]
    for size in SIZES:
        cells, shared = size.cells * total(cell(size)), total(platform(size))
        events = size.events / 1e6 * total(million_events())
        together = cells + shared + events
        rows.append(
            f"| {size.name} | {size.events / 1e6:,.0f} | {size.cells} | {cells:,.0f} | {shared:,.0f} | {events:,.0f} "
            f"| {together:,.0f} | {together / size.events * 1e6:,.2f} |"
        )
    return "\n".join([*rows, ""])


def sqs_bill(requests: float) -> float:
    """Return what so many requests of a month cost."""
    bounds = [*(begin for begin, _ in SQS_TIERS), float("inf")]
    parts = zip(pairwise(bounds), SQS_TIERS, strict=True)
    return sum(max(0.0, min(requests, end) - begin) / 1e6 * price for (begin, end), (_, price) in parts)


def tasks(events_per_s: float, us_per_event: float) -> int:
    """Return how many tasks of one vCPU carry so many events a second, with what is kept free."""
    return ceil(events_per_s * us_per_event * SLOWER / 1e6 / BUSY)


def throughputs() -> str:
    """Write what carries which throughput, as a table in Markdown."""
    rows = [
        ABOUT_THROUGHPUTS,
        "| events/s | a month | routers | workers | SQS requests a month | their bill, $ | by single messages, $ |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for rate in THROUGHPUTS:
        events, routers = rate * HOURS * 3600, max(2, tasks(rate, ROUTER_US))
        ten, one = 0.2 * events, 2 * events  # to receive and to delete
        rows.append(
            f"| {rate:,} | {events / 1e9:,.1f} billion | {routers} | {tasks(rate, WORKER_US)} | "
            f"{ten / 1e9:,.2f} billion | {sqs_bill(ten):,.0f} | {sqs_bill(one):,.0f} |"
        )
    return "\n".join([*rows, ""])


def page() -> str:
    """Write all tables of the page on costs."""
    small = SIZES[0]
    listed = (f"| {name} | {price:,.6g} | {SEEN.get(name, '')} |" for name, price in PRICES.items())
    prices = "\n".join(["| a | $ | seen as of |", "|---|--:|---|", *listed, ""])
    tables = (
        ("## The sum", sizes()),
        ("## A cell a month", table(f"a cell of the size {small.name}", cell(small))),
        ("## The platform a month", table(f"the platform of the size {small.name}", platform(small))),
        ("## By throughput", throughputs()),
        ("## A million events", table("a million events", million_events())),
        ("## Prices", prices),
    )
    return "\n".join(f"{heading}\n\n{text}" for heading, text in tables)
