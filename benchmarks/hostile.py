"""A hostile tenant's ten worst log objects beside a neighbour's ordinary ones, on one worker with one CPU.

The hostile tenant keeps several events of one object at work for as long as that object is measured. The neighbour's
log has 200 records and comes at a steady rate. Its latency is from the POST to the worker to the result.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final, Self

from benchmarks.figures import p99, table
from benchmarks.http_server import Connection, Request
from benchmarks.processes import BenchError
from benchmarks.world import Options, pause
from cell_worker.contract import protocol
from tests.support.security_world import notification, record
from tests.support.servers import valkey
from tests.support.worker_process import WorkerProcess, post

AT_ONCE: Final = 8  # events of the hostile tenant
WARM_UP_S: Final = 3.0
EVERY_S: Final = 0.1  # between two events of the neighbour
SHOWN: Final = ("p50, ms", "p99, ms", "p50 ratio", "p99 ratio", "done", "memory, MiB")
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
    """Measure the neighbour alone and beside each object; print a table, return its figures."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4 * AT_ONCE))  # none waits for a thread
    with tempfile.TemporaryDirectory(prefix="cellrouter-hostile-") as folder, valkey() as url:
        objects = {name: make() for name, make in OBJECTS.items()}
        objects["neighbour"] = gzip.compress(_log([record("s3", "GetObject", {"key": str(n)}) for n in range(200)]))
        async with _s3(list(objects.values())) as endpoint:
            columns = {"alone": await _measured(url, Path(folder), endpoint, list(objects), None, options.seconds)}
            for name in OBJECTS:
                columns[name] = await _measured(url, Path(folder), endpoint, list(objects), name, options.seconds)
                print(f"{name}: {columns[name]}", flush=True)
    for figures in columns.values():
        figures["p50 ratio"] = figures["p50, ms"] / columns["alone"]["p50, ms"]
        figures["p99 ratio"] = figures["p99, ms"] / columns["alone"]["p99, ms"]
    rows = {figure: {name: found[figure] for name, found in columns.items() if figure in found} for figure in SHOWN}
    print(f"\n{table(rows)}")
    print(f"\nThe neighbour; goal: both ratios {GOAL:g} or less")
    return columns


async def _measured(
    url: str, folder: Path, endpoint: str, names: list[str], hostile: str | None, seconds: float
) -> dict[str, float]:
    """Start a worker and measure the neighbour's events on it, beside those of a hostile object if one is named."""
    with tempfile.TemporaryDirectory(dir=folder) as volume, _worker(url, Path(volume), endpoint) as worker:
        stage = _Stage(worker, await asyncio.to_thread(worker.url), names)
        await asyncio.to_thread(worker.admit, 1)
        await stage.neighbour(WARM_UP_S)
        return await (stage.beside(hostile, seconds) if hostile else stage.neighbour(seconds))


class _Stage:
    """One worker, and the events that are sent to it."""

    def __init__(self, worker: WorkerProcess, url: str, names: list[str]) -> None:
        self._worker = worker
        self._url = f"{url}{protocol.EVENTS_PATH}"
        self._names = names
        self._sent = 0

    async def neighbour(self, seconds: float) -> dict[str, float]:
        """Send the neighbour's events for so long, and return their latency."""
        sent, until = [], perf_counter() + seconds
        while perf_counter() < until:
            sent.append(asyncio.create_task(self._event("neighbour")))
            await pause(EVERY_S)
        results = await asyncio.gather(*sent)
        if bad := [outcome for outcome, _ in results if outcome != "ok"]:
            raise BenchError(f"{len(bad)} events of the neighbour were not processed: {bad[0]}")
        took = [1000 * seconds for _, seconds in results]
        return {"events": len(took), "p50, ms": median(took), "p99, ms": p99(took)}

    async def beside(self, name: str, seconds: float) -> dict[str, float]:
        """Keep the hostile tenant's events of one object at work meanwhile."""
        ended: list[str] = []
        peak = [0.0]

        async def send() -> None:
            while True:
                ended.append((await self._event(name))[0])

        async def look() -> None:
            while True:
                peak[0] = max(peak[0], await asyncio.to_thread(_memory_mib, self._worker.process.pid))
                await pause(EVERY_S)

        hostile = [asyncio.create_task(send()) for _ in range(AT_ONCE)] + [asyncio.create_task(look())]
        try:
            figures = await self.neighbour(seconds)
        finally:
            for task in hostile:
                task.cancel()
            await asyncio.gather(*hostile, return_exceptions=True)
        return figures | {"done": len(ended), "memory, MiB": peak[0]}

    async def _event(self, name: str) -> tuple[str, float]:
        self._sent += 1
        event: dict[str, Any] = {
            "event_id": f"{name}-{self._sent}",
            "partition_key": "neighbour" if name == "neighbour" else "hostile",
            "attempt": 1,
        }
        event["body"] = notification("logs", str(self._names.index(name)))
        batch = {"cell_id": "cell-0000", "generation": 1, "epoch": 1, "deadline_s": 60, "events": [event]}
        begun = perf_counter()
        status, lines = await asyncio.to_thread(post, self._url, json.dumps(batch).encode())
        if status != 200 or not lines:
            return f"{status} {lines}", perf_counter() - begun
        return json.loads(lines)["outcome"], perf_counter() - begun


@asynccontextmanager
async def _s3(bodies: list[bytes]) -> AsyncIterator[str]:
    """Serve these bodies as the objects 0, 1, 2 …, of any bucket."""

    def handle(request: Request, connection: Connection) -> None:
        connection.answer(bodies[int(request.path.rsplit("/", 1)[1])], kind=b"application/octet-stream")

    server = await asyncio.get_running_loop().create_server(partial(Connection, handle), "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _worker(url: str, folder: Path, endpoint: str) -> WorkerProcess:
    """A worker that has one CPU, and this process has the others."""
    os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    return _Pinned(url, folder, handler=HANDLER, concurrency=16)


class _Pinned(WorkerProcess):
    def __enter__(self) -> Self:
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cpus)})
        super().__enter__()
        os.sched_setaffinity(0, cpus - {min(cpus)} or cpus)
        return self


def _memory_mib(group: int) -> float:
    """The memory of all processes of a group, where what they share counts once."""
    total = 0
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            if folder.name.isdigit() and os.getpgid(int(folder.name)) == group:
                rollup = (folder / "smaps_rollup").read_text("ascii")
                total += int(rollup.split("\nPss:")[1].split()[0])
    return total / 1024
