"""A worker's runtime on a store in memory, and batches for it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, ParamSpec

import msgspec

from cell_worker.api import Cell, Event
from cell_worker.contract.protocol import EventBatch, EventResult, WireEvent
from cell_worker.metrics import WorkerMetrics
from cell_worker.runtime import Identity, Runtime
from tests.support.aio import run
from tests.support.memory_store import MemoryStore, Volume

P = ParamSpec("P")
Handle = Callable[[Event, Cell], Awaitable[Mapping[str, object] | None]]


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a coroutine a test, which runs in an event loop of its own."""
    return functools.wraps(test)(lambda *args, **given: run(test(*args, **given)))


async def make(
    handler: Handle, *, concurrency: int = 4, timeout_s: float = 30, generation: int = 1, volume: Volume | None = None
) -> tuple[Runtime, MemoryStore]:
    """Make a runtime of cell-0000 in standby, and its store in memory."""
    store = MemoryStore(volume)
    await store.open(generation)
    identity = Identity("cell-0000", generation, "test", side_effects=True)
    runtime = Runtime(identity, handler, store, WorkerMetrics(), concurrency=concurrency, event_timeout_s=timeout_s)
    return runtime, store


def batch(*ids: str, deadline_s: float = 30) -> EventBatch:
    """A batch for cell-0000 with an event for each id. The id `canary` is a canary."""
    events = [WireEvent(name, "key", 1, msgspec.Raw(b'{"x": 1}'), canary=name == "canary") for name in ids]
    return EventBatch("cell-0000", 1, 1, deadline_s, events)


async def results(runtime: Runtime, work: EventBatch) -> dict[int, EventResult]:
    """Process a batch and return every result by its index."""
    return {result.index: result async for together in runtime.process(work) for result in together}


async def one_result(runtime: Runtime, work: EventBatch | None = None) -> EventResult:
    """Process a batch of one event and return its result."""
    (result,) = (await results(runtime, work or batch("a"))).values()
    return result


async def turns(count: int = 20) -> None:
    """Give every task that can go on time to do so."""
    for _ in range(count):
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop, no wait


async def emit(event: Event, cell: Cell) -> None:
    """Emit one line about the event."""
    cell.emit({"id": event.event_id})
