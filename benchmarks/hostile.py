"""A hostile tenant's ten worst log objects beside a neighbour's ordinary ones, on one worker with one CPU.

The hostile tenant keeps several events of one object at work. The neighbour's log has 200 records and comes at a steady
rate. Its latency is from the POST to the worker to the result, as it sees it: who sends and S3 are other processes, on
the other CPUs. It is measured alone and beside the hostile tenant in turns, so that both see the same machine. A figure
is the median of the turns': one stall of the machine in one turn is not the hostile tenant's.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final, TypeVar

from benchmarks.figures import p99, table
from benchmarks.hostile_load import Sender, as_many_as_go, serve_s3, steadily
from benchmarks.processes import BenchError, Cores
from benchmarks.world import Options, pause
from tests.support.security_world import record
from tests.support.servers import valkey
from tests.support.worker_process import WorkerProcess

T = TypeVar("T")
NEIGHBOUR: Final = "neighbour"
WARM_UP_S: Final = 3.0
LOOK_EVERY_S: Final = 0.5  # at the memory
MOST_EVENTS: Final = 10**6  # of one sender at a time
QUANTILES: Final = {"p50": median, "p90": lambda latencies: quantiles(latencies, n=10)[-1], "p99": p99}
SHOWN: Final = (
    "events",
    *(f"{name}, ms" for name in QUANTILES),
    *(f"{name} ratio" for name in QUANTILES),
    "done",
    "memory, MiB",
)
GOAL: Final = 1.2
HANDLER: Final = "cell_worker.handlers.security:SecurityMonitor"
MIB: Final = 2**20


def _log(records: list[dict[str, Any]]) -> bytes:
    return json.dumps({"Records": records}, separators=(",", ":")).encode()


def _secrets(number: int, **more: Any) -> list[dict[str, Any]]:
    return [record("secretsmanager", "GetSecretValue", {"secretId": "s"}, **more) for _ in range(number)]


def _groups() -> bytes:
    return gzip.compress(_log([each | {"userIdentity": {"arn": each["eventID"]}} for each in _secrets(30_000)]), 1)


def _policies() -> bytes:
    texts = [{"Statement": [{"Effect": "Allow", "Principal": "a*" * 400_000}]} for _ in range(10)]
    return _log([record("s3", "PutBucketPolicy", {"bucketPolicy": text}) for text in texts])


OBJECTS: Final[Mapping[str, Callable[[], bytes]]] = {
    "one secret": lambda: _log(_secrets(4_000) * 5)[: 10 * MIB],
    "many groups": _groups,
    "{} 21 million times": lambda: gzip.compress(b'{"Records":[' + b"{}," * 21_000_000 + b"{}]}", 6),
    "one text": lambda: _log([record("s3", "GetObject", {"x": "y" * 10 * MIB})]),
    "deep nesting": lambda: b'{"Records":[' + b'{"a":' * 1_500_000 + b"1" + b"}" * 1_500_000 + b"]}",
    "all match": lambda: gzip.compress(_log([record("cloudtrail", "StopLogging", {})] * 60_000), 1),
    "long keys": lambda: _log(_secrets(10, userIdentity={"arn": "k" * 900_000})),
    "many gzip members": lambda: b"".join(gzip.compress(b" " * 10_000) for _ in range(1023)) + gzip.compress(_log([])),
    "cut off": lambda: gzip.compress(_log(_secrets(50_000)), 1)[:-9],
    "long policies": _policies,
}


async def run(options: Options) -> dict[str, Any]:
    """Measure the neighbour alone and beside each object, in turns; print a table, return its figures."""
    objects = {name: make() for name, make in OBJECTS.items()}
    objects[NEIGHBOUR] = gzip.compress(_log([record("s3", "GetObject", {"key": str(n)}) for n in range(200)]))
    columns = {}
    cores = Cores.of_this_machine()
    with (
        _pinned(frozenset().union(*cores.stubs)),
        tempfile.TemporaryDirectory(prefix="cellrouter-hostile-") as folder,
        valkey() as url,
        _s3(list(objects.values())) as endpoint,
        ProcessPoolExecutor(2, get_context("spawn")) as senders,
    ):
        for name in OBJECTS:
            with (
                tempfile.TemporaryDirectory(dir=folder) as volume,
                _worker(url, Path(volume), endpoint, cores.measured) as worker,
            ):
                columns[name] = await _Stage(worker, senders, objects).measure(name, options)
            print(f"{name}: {columns[name]}", flush=True)
    rows = {figure: {name: found[figure] for name, found in columns.items() if figure in found} for figure in SHOWN}
    print(f"\n{table(rows)}")
    print(f"\nThe neighbour; goal: the ratios {GOAL:g} or less")
    return columns


class _Stage:
    """One worker, and the events that are sent to it."""

    def __init__(self, worker: WorkerProcess, senders: ProcessPoolExecutor, objects: Mapping[str, bytes]) -> None:
        self._worker = worker
        self._senders = senders
        self._objects = objects
        self._sent = 0

    async def measure(self, name: str, options: Options) -> dict[str, float]:
        """Measure the neighbour's latency alone and beside the hostile tenant's events of one object, in turns."""
        await asyncio.to_thread(self._worker.ready)
        await asyncio.to_thread(self._worker.admit, 1)
        await self._neighbour(WARM_UP_S)
        turns = list[dict[str, float]]()
        ended, peak = 0, 0.0
        for _ in range(options.runs):
            alone = await self._neighbour(options.seconds)
            hostile = self._start(as_many_as_go, name, options.seconds)
            watching = asyncio.create_task(self._peak_mib())
            turns.append(_compared(alone, await self._neighbour(options.seconds)))
            ended += await hostile
            watching.cancel()
            peak = max(peak, await watching)
        figures = {figure: median(turn[figure] for turn in turns) for figure in turns[0]}
        return figures | {"done": ended, "memory, MiB": peak}

    async def _neighbour(self, seconds: float) -> list[float]:
        """Send the neighbour's events for so long, and return their latency in ms."""
        results = await self._start(steadily, NEIGHBOUR, seconds)
        if bad := [outcome for outcome, _ in results if outcome != "ok"]:
            raise BenchError(f"{len(bad)} events of the neighbour were not processed: {bad[0]}")
        return [1000 * seconds for _, seconds in results]

    def _start(self, send: Callable[[Sender, float, int], T], name: str, seconds: float) -> asyncio.Future[T]:
        """Have a process send events of one object. No two have the same id."""
        self._sent += MOST_EVENTS
        key = str(list(self._objects).index(name))
        tenant = NEIGHBOUR if name == NEIGHBOUR else "hostile"
        sender = Sender(self._worker.redis_url, self._worker.environment, tenant, key, len(self._objects[name]))
        return asyncio.get_running_loop().run_in_executor(self._senders, send, sender, seconds, self._sent)

    async def _peak_mib(self) -> float:
        """Look at the worker's memory until cancelled. Returns the most that it was."""
        peak = 0.0
        with suppress(asyncio.CancelledError):
            while True:
                peak = max(peak, await asyncio.to_thread(_memory_mib, self._worker.process.pid))
                await pause(LOOK_EVERY_S)
        return peak


def _compared(alone: list[float], beside: list[float]) -> dict[str, float]:
    """Return one turn's figures, from the neighbour's latencies in ms: alone, and beside the hostile tenant."""
    figures = {"events": float(len(beside))}
    for name, quantile in QUANTILES.items():
        figures |= {f"alone {name}, ms": quantile(alone), f"{name}, ms": quantile(beside)}
        figures[f"{name} ratio"] = figures[f"{name}, ms"] / figures[f"alone {name}, ms"]
    return figures


@contextmanager
def _s3(bodies: list[bytes]) -> Iterator[str]:
    """Serve these bodies as the objects 0, 1, 2 …, in a process of its own."""
    context = get_context("spawn")
    port, tell = context.Pipe(duplex=False)
    process = context.Process(target=serve_s3, args=(bodies, tell), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{port.recv()}"
    finally:
        process.kill()
        process.join()


@contextmanager
def _worker(url: str, folder: Path, endpoint: str, cores: frozenset[int]) -> Iterator[WorkerProcess]:
    """A worker with its children on these cores."""
    os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    worker = WorkerProcess(url, folder, handler=HANDLER, concurrency=16)
    with _pinned(cores):
        worker.__enter__()
    try:
        yield worker
    finally:
        worker.__exit__()


@contextmanager
def _pinned(cores: frozenset[int]) -> Iterator[None]:
    """Keep this process, and those that it starts meanwhile, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _memory_mib(group: int) -> float:
    """The memory of all processes of a group, where what they share counts once."""
    total = 0
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            if folder.name.isdigit() and os.getpgid(int(folder.name)) == group:
                rollup = (folder / "smaps_rollup").read_text("ascii")
                total += int(rollup.split("\nPss:")[1].split()[0])
    return total / 1024
