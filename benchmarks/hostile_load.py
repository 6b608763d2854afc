"""What stands around the worker of the suite `hostile`, each in a process of its own: S3, and who sends events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Final

from benchmarks.http_server import Connection, Request
from cell_worker.contract import protocol
from tests.support.security_world import notification
from tests.support.worker_process import WorkerProcess, post

AT_ONCE: Final = 8  # events of the hostile tenant
EVERY_S: Final = 0.05  # between two events of the neighbour
THREADS: Final = 64  # none of the neighbour's events waits for one
PAUSE_S: Final = 0.02  # of a sender whose event is put off: a router would wait longer


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends events of one object to the worker, and what it needs for that."""

    redis_url: str
    environment: str
    tenant: str
    key: str  # of the object
    size: int  # as S3's notification tells it

    def url(self) -> str:
        """Find the worker by its lease. Whoever sends to it needs to have read that."""
        found = WorkerProcess(self.redis_url, Path(), environment=self.environment).lease()
        assert found is not None, "the worker is ready"
        return f"http://{found[1].address}{protocol.EVENTS_PATH}"

    def send(self, url: str, number: int) -> tuple[str, float]:
        """Send one event. Returns its outcome, and the seconds that it took."""
        event = {
            "event_id": f"{self.tenant}-{number}",
            "partition_key": self.tenant,
            "attempt": 1,
            "body": notification("logs", self.key, size=self.size),
        }
        batch = {"cell_id": "cell-0000", "generation": 1, "epoch": 1, "deadline_s": 60, "events": [event]}
        begun = time.perf_counter()
        status, lines = post(url, json.dumps(batch).encode())
        took = time.perf_counter() - begun
        return (json.loads(lines)["outcome"] if status == 200 and lines else f"{status} {lines}"), took


def steadily(sender: Sender, seconds: float, first: int) -> list[tuple[str, float]]:
    """Send events at a steady rate for so long. Returns the outcome of each, and the seconds that it took."""
    url, sent = sender.url(), []
    with ThreadPoolExecutor(THREADS) as threads:
        begun = time.perf_counter()
        for number in range(int(seconds / EVERY_S)):
            time.sleep(max(0.0, begun + number * EVERY_S - time.perf_counter()))  # noqa: TID251 - real time
            sent.append(threads.submit(sender.send, url, first + number))
    return [each.result() for each in sent]


def as_many_as_go(sender: Sender, seconds: float, first: int) -> int:
    """Keep events at work for so long, and wait for the last ones. Returns how many have ended."""
    url, numbers = sender.url(), count(first)
    until = time.perf_counter() + seconds

    def work() -> int:
        ended = 0
        while time.perf_counter() < until:
            outcome, _ = sender.send(url, next(numbers))
            ended += outcome != "retry"
            time.sleep(PAUSE_S if outcome == "retry" else 0)  # noqa: TID251 - real time
        return ended

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return sum(each.result() for each in [threads.submit(work) for _ in range(AT_ONCE)])


def serve_s3(bodies: Sequence[bytes], tell: Pipe[Any, Any]) -> None:
    """Serve these bodies as the objects 0, 1, 2 … of any bucket, until killed. Tells its port."""

    def handle(request: Request, connection: Connection) -> None:
        connection.answer(bodies[int(request.path.rsplit("/", 1)[1])], kind=b"application/octet-stream")

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(partial(Connection, handle), "127.0.0.1", 0)
        tell.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())
