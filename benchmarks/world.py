"""What a measured router works with: a stub of SQS, stub cells, and a real Valkey with the slot map and live leases."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import aiohttp
from redis.asyncio import Redis

from benchmarks.processes import BenchError, Child, Cores, child
from cell_worker.contract.protocol import InstanceRecord
from cell_worker.lease import Heartbeat
from router.adapters.clock import SystemClock
from router.adapters.redis.registry import RedisRegistry
from router.core.models import CellRecord
from router.core.registry import Change
from router.core.slot_map.slots import SlotMap, assign
from tests.support.keys import SECRET, lease_key, ring
from tests.support.servers import valkey

ENVIRONMENT: Final = "bench"
QUEUE: Final = "cellrouter-events"
LEASE_TTL_S: Final = 10.0
START_TIMEOUT_S: Final = 90.0
CALL_TIMEOUT_S: Final = 600.0
QUICK_STOP: Final = {"CELLROUTER_SOURCE_WAIT_S": "2"}
"""Settings with short long polls, because a stop waits for these, and only the drain's figures need them long."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line, which every suite gets."""

    events: int  # in a run
    runs: int
    cells: int
    concurrency: int  # events at once that each cell declares
    tenants: int  # over all cells
    service_ms: float  # for an event in its cell; 0: the suite's own choice
    sqs_ms: float  # that SQS takes for an answer; negative: the suite's own choice
    seconds: float  # length of each measured interval
    seed: int = 1  # of simulated runs
    only: Sequence[str] = ()  # parts of the names of the scenarios or faults to run; none: all
    roc: bool = False  # simulate the main rule with other limits too
    scale: bool = False  # detector: what it costs by the number of cells, instead of what it finds
    picture: Path | None = None  # scaling: draw the week here; flames: the graphs, into this folder

    def wants(self, name: str) -> bool:
        """Tell whether `only` allows what has this name."""
        return not self.only or any(part in name for part in self.only)


class Stub:
    """Sends commands to a stub's process."""

    def __init__(self, session: aiohttp.ClientSession, process: Child, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.process = process
        self._session = session

    async def __call__(self, command: str, **arguments: Any) -> Any:
        """Send a command and return the answer. Raises BenchError when the stub gives none."""
        try:
            async with self._session.post(f"{self.url}/bench/{command}", json=arguments) as response:
                response.raise_for_status()
                return await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise BenchError(f"{self.process.name}, {command}: {error}\n{self.process.tail()}") from error


@dataclass(slots=True)
class World:
    """Everything but the measured process. `tenants` maps each account to its cell."""

    options: Options
    folder: Path
    cores: Cores
    sqs: Stub
    cells: Stub
    addresses: list[str]
    redis_url: str
    tenants: dict[str, str] = field(default_factory=dict)

    async def reset(self, *, service_s: float | None = None) -> None:
        """Empty the queues, and make every cell take `service_s` seconds an event, or as the options say."""
        await self.sqs("reset", source=QUEUE, accounts=list(self.tenants))
        await self.sqs("delay", seconds=max(0.0, self.options.sqs_ms) / 1000)
        await self.cells("reset")
        for cell in range(len(self.addresses)):
            await self.cells(
                "service", cell=cell, seconds=self.options.service_ms / 1000 if service_s is None else service_s
            )

    def router(
        self, settings: Mapping[str, str] = QUICK_STOP, name: str = "router"
    ) -> AbstractAsyncContextManager[Child]:
        """Run a router until the context ends, which begins when it polls.

        `settings` are CELLROUTER_* variables beside those that say where everything is.
        """
        return self.measured(name, ["-m", "router", "router"], settings)

    def hand_rolled(self, *, each: bool = False) -> AbstractAsyncContextManager[Child]:
        """Run the hand-rolled job until the context ends, which begins when it polls; with a POST for each event."""
        how = "each" if each else "batched"
        return self.measured(
            "hand_rolled", ["-m", "benchmarks.hand_rolled", how, self.sqs.url, QUEUE, *self.addresses], {}
        )

    @asynccontextmanager
    async def measured(self, name: str, arguments: list[str], settings: Mapping[str, str]) -> AsyncIterator[Child]:
        """Run Python with these arguments on the core of its own until the context ends, which begins when it polls."""
        async with child(name, arguments, self.folder, self.cores.measured, {**self.environ(), **settings}) as process:
            await self._polling(process)
            yield process

    async def _polling(self, process: Child) -> None:
        deadline = perf_counter() + START_TIMEOUT_S
        while not (await self.sqs("state"))["polls"]:
            process.check()
            if perf_counter() > deadline:
                raise BenchError(f"{process.name} does not poll:\n{process.tail()}")
            await pause(0.02)

    def environ(self) -> dict[str, str]:
        """The router's variables. Those CELLROUTER_* of the caller that are not among them reach the router too."""
        return {
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_EC2_METADATA_DISABLED": "true",
            "CELLROUTER_ENVIRONMENT": ENVIRONMENT,
            "CELLROUTER_SECRET": SECRET,
            "CELLROUTER_AWS_ENDPOINT_URL": self.sqs.url,
            "CELLROUTER_REDIS_URL": self.redis_url,
            "CELLROUTER_SOURCE_QUEUE": QUEUE,
            "CELLROUTER_CELLS_COUNT": str(self.options.cells),
            "CELLROUTER_CELLS_LEASE_TTL_S": str(LEASE_TTL_S),
            "CELLROUTER_API_PORT": "0",
            "CELLROUTER_LOG_LEVEL": os.environ.get("CELLROUTER_LOG_LEVEL", "warning"),
        }


@asynccontextmanager
async def world(options: Options, *, stubs: bool = True) -> AsyncIterator[World]:
    """Start what a measured router works with, and end every process of it when the context ends.

    Without `stubs` the cells are in the slot map, and nobody serves them: the caller starts their workers.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cellrouter-bench-")))
        cores = Cores.of_this_machine()
        redis_url = stack.enter_context(valkey())
        timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        queues, (port,) = await _stub(stack, "sqs_stub", [], folder, cores.stubs[0])
        sqs = Stub(session, queues, port)
        sizes = [str(options.cells if stubs else 0), str(options.concurrency)]
        workers, (port, *ports) = await _stub(stack, "cell_stub", sizes, folder, cores.stubs[-1])
        addresses = [f"127.0.0.1:{port}" for port in ports]
        owners = await _register(stack, options, redis_url, addresses)
        made = World(options, folder, cores, sqs, Stub(session, workers, port), addresses, redis_url)
        made.tenants = _tenants(owners, options.tenants)
        yield made


def cell_id(index: int) -> str:
    """Return the name of the stub cell with this index."""
    return f"cell-{index:04d}"


async def pause(seconds: float) -> None:
    """Wait in real time, because a bench measures the real world."""
    await asyncio.sleep(seconds)  # noqa: TID251 - a benchmark's real time


async def _stub(
    stack: AsyncExitStack, name: str, arguments: list[str], folder: Path, cores: frozenset[int]
) -> tuple[Child, list[int]]:
    """Start a stub; its process, and the ports that it prints when it is ready."""
    start = ["-m", f"benchmarks.{name}", *arguments]
    process = await stack.enter_async_context(child(name, start, folder, cores, {}, prints=True))
    assert process.process.stdout is not None
    line = await asyncio.to_thread(process.process.stdout.readline)
    if not line:
        raise BenchError(f"{name} did not start:\n{process.tail()}")
    return process, [int(port) for port in line.split()]


async def _register(stack: AsyncExitStack, options: Options, redis_url: str, addresses: Sequence[str]) -> SlotMap:
    """Write to the registry what a controller and workers would; the leases live as long as the stack."""
    redis = Redis.from_url(redis_url)
    stack.push_async_callback(redis.aclose)
    registry = RedisRegistry(redis, ENVIRONMENT, ring(ENVIRONMENT), SystemClock())
    names = [cell_id(index) for index in range(options.cells)]
    for name, address in zip(names, addresses, strict=False):  # no address: a worker has the lease
        record = InstanceRecord(ENVIRONMENT, name, 1, f"{name}-bench", address, options.concurrency, 0)
        heartbeat = Heartbeat(redis, record, lease_key(record), LEASE_TTL_S)
        heartbeat.ready = True
        beating = asyncio.create_task(heartbeat.run())
        stack.push_async_callback(_cancelled, beating)
    epoch = await registry.lead("bench", 3600, 0)
    assert epoch is not None, "nobody else leads in a new Valkey"
    slot_map = SlotMap(epoch, assign(None, dict.fromkeys(names, 1.0)))
    await registry.write(epoch, Change([CellRecord(name, generation=1) for name in names], slot_map))
    return slot_map


def _tenants(slot_map: SlotMap, wanted: int) -> dict[str, str]:
    """Map accounts to their cells: as many for each cell, and the cells in turn."""
    cells = sorted(set(slot_map.owners))
    accounts: dict[str, list[str]] = {cell: [] for cell in cells}
    for number in count(100_000_000_000, 7_919):
        if all(len(found) * len(cells) >= wanted for found in accounts.values()):
            break
        accounts[slot_map.cell_of(str(number))].append(str(number))
    each = -(-wanted // len(cells))
    return {accounts[cell][turn]: cell for turn in range(each) for cell in cells}


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
