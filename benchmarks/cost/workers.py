"""Real workers whose handler does nothing: what a batch costs them on each store, and the whole way of an event."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Final

from benchmarks.cost.senders import measured, proven_post, send, until_listening
from benchmarks.loads import at_once
from benchmarks.processes import Child, child
from benchmarks.world import ENVIRONMENT, LEASE_TTL_S, Options, World, cell_id, world
from cell_worker.contract.keys import cell_secret
from cell_worker.contract.protocol import resource_name
from tests.support.keys import SECRET
from tests.support.servers import free_port
from tests.support.stores import REGION, make_table

ALONE: Final = "cell-9999"
"""A cell that is in no slot map: no router sends it anything."""
CONNECTIONS: Final = 4
"""POSTs under way at once."""
CONCURRENCY: Final = 200
"""What a worker declares: as many events as its POSTs carry, since routers send no more at once."""
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": REGION}
_names: Final = count()


@asynccontextmanager
async def worker(
    stage: World, cell: str, cores: frozenset[int], more: Mapping[str, str]
) -> AsyncIterator[tuple[Child, int]]:
    """Run the first instance of a cell until the context ends, which begins when it listens; yields its port too."""
    port, name = free_port(), f"{cell}-{next(_names)}"
    settings = {
        "CELL_ID": cell,
        "CELL_GENERATION": "1",
        "CELL_ENVIRONMENT": ENVIRONMENT,
        "CELL_SECRET": cell_secret(SECRET, ENVIRONMENT, cell),
        "CELL_HANDLER": "benchmarks.no_handler:handle",
        "CELL_REDIS_URL": stage.redis_url,
        "CELL_DATA_DIR": str(stage.folder / name),
        "CELL_CONCURRENCY": str(CONCURRENCY),
        "CELL_LEASE_TTL_S": str(LEASE_TTL_S),
        "CELL_SINK": "none",
        "CELL_PORT": str(port),
        **CREDENTIALS,
        **more,
    }
    async with child(name, ["-m", "cell_worker"], stage.folder, cores, settings) as process:
        await until_listening(port, process, cell)
        yield process, port


async def in_batches(stage: World, size: int, events: int, more: Mapping[str, str]) -> dict[str, float]:
    """Measure a worker's CPU for each of the events, in POSTs of so many."""
    async with worker(stage, ALONE, stage.cores.measured, more) as (process, port):
        posts, warm_up, name = events // size, events // size // 10 + 1, f"{next(_names)}-"
        await send(port, (proven_post(ALONE, number, size, name) for number in range(warm_up)), CONNECTIONS)
        requests = (proven_post(ALONE, warm_up + number, size, name) for number in range(posts))
        return await measured(process, port, requests, CONNECTIONS, posts * size)


async def on_dynamodb(stage: World, size: int, events: int, endpoint: str) -> dict[str, float]:
    """Measure as `in_batches`, with a table there as the cell's store."""
    os.environ.update(CREDENTIALS)
    table = resource_name("cellrouter", ENVIRONMENT, f"{ALONE}-{next(_names)}")
    await make_table(endpoint, table)
    more = {"CELL_STORE": "dynamodb", "CELL_STORE_TABLE": table, "AWS_ENDPOINT_URL": endpoint}
    return await in_batches(stage, size, events, more)


async def end_to_end(options: Options) -> dict[str, float]:
    """Measure router and real workers together, for an event's whole way from the queue until it is deleted there."""
    async with world(replace(options, concurrency=CONCURRENCY), stubs=False) as stage, AsyncExitStack() as stack:
        await stage.reset()
        workers = {}
        for number in range(options.cells):
            cores = stage.cores.stubs[number % len(stage.cores.stubs)]
            process, _ = await stack.enter_async_context(worker(stage, cell_id(number), cores, {}))
            workers[f"worker_{number}"] = process
        router = await stack.enter_async_context(stage.router())
        found = await at_once(stage, options.events, router=router, **workers)
        spent = {name: found.pop(f"{name}_us_per_event") for name in workers}
        return {**found, "workers_us_per_event": sum(spent.values())}
