"""CPU time an event in the router itself: queues, cells and registry are in memory and cost next to nothing.

Prints each part's share of the whole in the same run; absolute times depend on the machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any, Final

import msgspec
import uvloop

from benchmarks.notifications import body_token
from benchmarks.world import Options, cell_id
from router.adapters.aws.s3_payloads import S3PayloadStore
from router.adapters.clock import SystemClock
from router.adapters.one_thread import OneThread
from router.core.detection.samples import RouterSample
from router.core.lanes.retry import RetryPolicy
from router.core.messages.parser import Extraction, Parser
from router.core.models import (
    MAX_MESSAGE_BYTES,
    CellRecord,
    Depth,
    Draft,
    Event,
    LeaseView,
    Message,
    Outcome,
    Result,
    RouterReport,
    Target,
    Traffic,
)
from router.core.policy import NO_POLICY, Policy
from router.core.registry import AuditEntry, Condition, Snapshot
from router.core.slot_map.routing import KnownRouting
from router.core.slot_map.slots import SlotMap, assign
from router.core.telemetry import Record
from router.ports import EventTracer
from router.services.data_plane.archive.archivist import ArchiveConfig, Archivist
from router.services.data_plane.consumer import ConsumerConfig
from router.services.data_plane.dispatcher import DispatcherConfig
from router.services.data_plane.event_router import DataPlaneConfig, Queues, assemble
from router.services.data_plane.payloads import PayloadConfig, Payloads
from router.services.data_plane.quarantine import QuarantineConfig
from router.services.unforeseen import Unforeseen
from tests.support.attribute_keys import KEYS

CELLS: Final = [cell_id(index) for index in range(8)]
CONCURRENCY: Final = 64
MAX_MESSAGES: Final = 500
TURNS: Final = 5
SLOT_MAP: Final = SlotMap(1, assign(None, dict.fromkeys(CELLS, 1.0)))


class Notifications:
    """A queue that holds `count` notifications and costs no time."""

    name = "bench"
    fifo = False

    def __init__(self, count: int) -> None:
        self.left = count
        self.unsettled = count
        self.settled = asyncio.Event()

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop, as a real call takes
        count = min(max_messages, self.left)
        if not count:
            await asyncio.Event().wait()
        first, self.left = self.left, self.left - count
        return [_message(first - i) for i in range(count)]

    async def delete(self, messages: Sequence[Message]) -> list[Message]:
        self.unsettled -= len(messages)
        if not self.unsettled:
            self.settled.set()
        return []

    async def set_visibility(self, messages: Sequence[Message], seconds: int) -> None:
        return

    async def depth(self) -> Depth:
        """Say that nothing lies in it."""
        return Depth(0, 0, 0)

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        return []

    async def max_bytes(self) -> int:
        return MAX_MESSAGE_BYTES


class InstantCells:
    """Cells that process every event at once."""

    async def process(self, target: Target, batch: Sequence[Event]) -> AsyncIterator[Result]:
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop, as a real call takes
        for index in range(len(batch)):
            yield Result(index, Outcome.OK)


class SteadyRegistry:
    """A registry whose slot map and leases never change."""

    def __init__(self) -> None:
        leases = tuple(LeaseView(cell, 1, "i", "a:1", CONCURRENCY, ready=True, live=True) for cell in CELLS)
        self._snapshot = Snapshot(0, SLOT_MAP, {cell: CellRecord(cell, 1) for cell in CELLS}, leases, "")

    async def snapshot(self) -> Snapshot:
        return self._snapshot

    async def policy(self) -> Policy:
        return NO_POLICY

    async def change_policy(self, policy: Policy, audit: AuditEntry) -> bool:
        return False

    async def report(self, report: RouterReport, ttl_s: float) -> None:
        return

    async def note_sample(self, router_id: str, sample: RouterSample) -> None:
        return

    async def conditions(self) -> Mapping[str, Condition]:
        return {}

    async def note_traffic(self, router_id: str, traffic: Mapping[str, Traffic]) -> None:
        return

    async def offer(self, slot_map: SlotMap, policy: Policy) -> None:
        return

    async def changed(self, within_s: float) -> None:
        await asyncio.sleep(within_s)  # noqa: TID251 - the registry's poll


class NoMemory:
    """A RoutingMemory that remembers nothing."""

    def load(self) -> KnownRouting | None:
        return None

    def save(self, known: KnownRouting) -> None:
        return


class SilentObserver:
    """An Observer that records nothing."""

    def observe(self, record: Record) -> None:
        return


def _message(number: int) -> Message:
    body = msgspec.json.decode(body_token(b"%012d" % number, number), type=str)
    return Message(f"m{number}", "r", body, 0, 1)


class NoBucket:
    """An ArchiveStore that keeps no more than the sizes."""

    def __init__(self) -> None:
        self.bytes = 0

    async def put(self, key: str, body: bytes) -> None:
        self.bytes += len(body)


async def whole(count: int, share: float | None = None, archived_to: NoBucket | None = None) -> float:
    """Measure the CPU seconds that an event takes from when it is received to its delete, over `count` events.

    `share` of them is traced; None: there is no tracer.
    """
    tracer = None if share is None else _tracer(share)
    source, idle = Notifications(count), Notifications(0)
    config = DataPlaneConfig(
        "bench",
        ConsumerConfig(max_messages=MAX_MESSAGES),
        DispatcherConfig(RetryPolicy(), MAX_MESSAGES, 64 * 1024 * 1024),
        QuarantineConfig("bench", 0),
    )
    queues = Queues(source, idle, idle, lambda _: idle)
    parser, payloads = Parser(Extraction()), Payloads(PayloadConfig(), S3PayloadStore(None))
    registry, memory, observer = SteadyRegistry(), NoMemory(), SilentObserver()
    clock = SystemClock()
    with ExitStack() as stack:
        archive = None
        if archived_to is not None:
            beside, unforeseen = OneThread(stack, "archive"), Unforeseen(observer, clock)
            archive = Archivist(ArchiveConfig("bench", "r"), archived_to, beside, clock, observer, unforeseen)
        reads = parser, payloads, KEYS, clock, observer, tracer, archive
        router = assemble(config, queues, registry, memory, InstantCells(), *reads)
        begun = time.process_time()
        running = asyncio.create_task(router.run(asyncio.Event()))
        await source.settled.wait()
        if archive is not None:
            await archive.close(60)
        used = time.process_time() - begun
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return used / count


async def archiving(count: int) -> tuple[float, float]:
    """Measure what the archive takes of CPU and of its bucket for an event: the median of runs in turns."""
    more, bucket = [], NoBucket()
    for _ in range(TURNS):
        bucket.bytes = 0
        without = await asyncio.to_thread(uvloop.run, whole(count))
        more.append(await asyncio.to_thread(uvloop.run, whole(count, archived_to=bucket)) - without)
    return median(more), bucket.bytes / count


def _tracer(share: float) -> EventTracer:
    """Make a tracer whose spans are exported to nowhere."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: PLC0415 - an extra

    from cell_worker.contract.tracing.variables import Sampling  # noqa: PLC0415 - as above
    from router.adapters.tracing.spans import OtelTracer  # noqa: PLC0415 - as above

    class Nowhere(SpanExporter):
        def export(self, spans: Sequence[object]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    return OtelTracer(Sampling(by_parent=True, share=share), "bench", "bench", Nowhere())


def repeated(count: int, call: Callable[[], object]) -> float:
    """Measure the CPU seconds that a call takes, over `count` calls."""
    begun = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - begun) / count


async def run(options: Options) -> dict[str, Any]:
    """Measure the whole and its parts, print each with its share of the whole, and return the figures."""
    parser, message = Parser(Extraction()), _message(1)
    total = await asyncio.to_thread(uvloop.run, whole(options.events))
    archive, archived_bytes = await archiving(options.events)
    parts = {
        "receive to delete": total,
        "1 % traced": await asyncio.to_thread(uvloop.run, whole(options.events, 0.01)),
        "all traced": await asyncio.to_thread(uvloop.run, whole(options.events // 5, 1.0)),
        "the archive beside": archive,
        "of it: parse": repeated(options.events, lambda: parser.parse(message)),
        "of it: slot look-up": repeated(options.events, lambda: SLOT_MAP.cell_of("123456789012")),
    }
    for name, seconds in parts.items():
        print(f"{name:20} {seconds * 1e6:7.2f} us an event   {seconds / total:5.2f} of the whole")
    print(f"the archive takes {archived_bytes:.0f} bytes an event")
    return {name: {"us": seconds * 1e6, "ratio": seconds / total} for name, seconds in parts.items()}
