"""What a cell's store takes: events a second and CPU an event on SQLite and on DynamoDB, for few and many at once.

Every event is looked up and committed with one line of 300 bytes, while the outbox is emptied beside. DynamoDB is
MiniStack, and a stub whose transactions take as long as on AWS: neither is AWS. The stub's own CPU counts as the
store's, since it runs in the same process.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, Final

from benchmarks.figures import table
from benchmarks.world import Options, pause
from cell_worker.components.sink import NullSink
from cell_worker.contract.protocol import EventName
from cell_worker.store.sqlite import SqliteStore
from cell_worker.store.store import Store
from tests.support.servers import ministack
from tests.support.stores import on_table
from tests.support.strict_dynamodb import strict_dynamo

AT_ONCE: Final = (1, 16, 256)  # events
LINE: Final = b"x" * 299 + b"\n"
TRANSACTION_S: Final = 0.015  # what one of some items takes on AWS, within a region
MAX_EVENTS: Final = 5000


@contextmanager
def _sqlite() -> Iterator[Callable[[], Store]]:
    with tempfile.TemporaryDirectory(prefix="cellrouter-store-") as folder:
        yield lambda: SqliteStore(Path(folder, "store.db"))


@contextmanager
def _ministack() -> Iterator[Callable[[], Store]]:
    with ministack() as endpoint, on_table(endpoint) as make:
        yield make


@contextmanager
def _stub() -> Iterator[Callable[[], Store]]:
    with strict_dynamo() as (server, endpoint), on_table(endpoint, made=True) as make:
        server.told.in_flight_s = TRANSACTION_S
        yield make


KINDS: Final = {"SQLite": _sqlite, "MiniStack": _ministack, "stub, 15 ms": _stub}


async def run(options: Options) -> dict[str, Any]:
    """Measure each kind of store, print their figures beside each other, and return them."""
    columns = {}
    for name, kind in KINDS.items():
        with ExitStack() as stack:
            make = await asyncio.to_thread(stack.enter_context, kind())  # it has a loop of its own
            columns[name] = await _figures(make, options)
    print(table(columns))
    return columns


async def _figures(make: Callable[[], Store], options: Options) -> dict[str, float]:
    store = make()
    await store.open(1)
    await store.take()
    emptying = asyncio.create_task(NullSink(store).run())
    found: dict[str, float] = {}
    for at_once in AT_ONCE:
        events = min(options.events, MAX_EVENTS, 200 * at_once)
        runs = [await _measured(store, f"{at_once}-{run}", at_once, events) for run in range(options.runs)]
        found[f"events/s, {at_once} at once"] = median(rate for rate, _ in runs)
        found[f"CPU an event, µs, {at_once} at once"] = median(cpu for _, cpu in runs)
    while await store.outbox_size():
        await pause(0.1)
    emptying.cancel()
    await store.close()
    return found


async def _measured(store: Store, name: str, at_once: int, events: int) -> tuple[float, float]:
    """Return events a second, and microseconds of CPU an event."""
    numbers = iter(range(events))

    async def work() -> None:
        for number in numbers:
            event = EventName("tenant", f"{name}-{number}")
            assert not await store.seen(event)
            assert await store.commit(event, [LINE])

    began, cpu = perf_counter(), process_time()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return events / (perf_counter() - began), 1e6 * (process_time() - cpu) / events
