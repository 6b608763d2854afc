"""The compose project as tests see it: what its processes say, and a steady load whose every event is accounted for."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

import pytest

from router.adapters.aws.resources import ResourceNames
from router.adapters.aws.session import AwsConfig, open_client
from router.core.models import cell_ids
from router.demo.cloudtrail import LogFile, generate
from router.demo.ledger import Evidence, Ledger
from router.demo.source_and_sinks import SourceAndSinks
from tests.support.docker import Compose, docker

ROUTERS: Final = ("router-0", "router-1")
CONTROLLERS: Final = ("controller-0", "controller-1")
PROCESSES: Final = (*ROUTERS, *CONTROLLERS)
CELLS: Final = cell_ids(4)
ACCOUNTS: Final = 24
RATE: Final = 3.0  # log files a second
POLL_S: Final = 0.25
LIMIT_S: Final = 120.0
NAMES: Final = ResourceNames(
    "cellrouter", "live", "cellrouter-events", "cellrouter-dead-letters", "cellrouter-quarantine"
)


def until(holds: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Poll a condition until it holds; fail the test after `limit_s` seconds."""
    pause = threading.Event()
    for _ in range(int(limit_s / POLL_S)):
        if holds():
            return
        pause.wait(POLL_S)
    pytest.fail(f"not within {limit_s:g} s: {what}")


class ComposeSystem:
    """One running compose project."""

    def __init__(self, compose: Compose) -> None:
        self.compose = compose
        self._addresses: dict[tuple[str, int], str] = {}
        self.ready_s = 0.0  # from `up` until all cells serve

    def text(self, service: str, path: str, port: int = 8080) -> str:
        """Return what a service answers; empty while it doesn't answer."""
        try:
            address = self._addresses.get((service, port)) or self.compose.address(service, port)
            with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as reply:
                self._addresses[service, port] = address
                return str(reply.read(), "utf-8")
        except (OSError, AssertionError, ValueError):
            self._addresses.pop((service, port), None)  # a restart changes the address
            return ""

    def get(self, service: str, path: str, port: int = 8080) -> Any:
        """Return a service's answer as JSON; None while there is none."""
        text = self.text(service, path, port)
        return json.loads(text) if text else None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the results of a Prometheus query; empty while Prometheus can't be reached."""
        answer = self.get("prometheus", f"/api/v1/query?{self.encoded(expression)}", 9090)
        return [] if answer is None else answer["data"]["result"]

    @staticmethod
    def encoded(expression: str) -> str:
        """Encode an expression as the parameter of a query."""
        return urllib.parse.urlencode({"query": expression})

    def number(self, expression: str) -> float:
        """Return the value of a sum; 0 while there is none."""
        return sum(float(each["value"][1]) for each in self.query(expression))

    def generations(self) -> dict[str, int]:
        """Return the generation of each cell that both routers can reach; empty while the routers disagree."""
        seen = [self.get(router, "/cells") or [] for router in ROUTERS]
        serving = [
            {lane["cell_id"]: lane["generation"] for lane in lanes if lane["state"] == "serving"} for lanes in seen
        ]
        return serving[0] if serving[0] == serving[1] else {}

    def serving(self) -> dict[str, int]:
        """Wait until both routers reach every cell, and return the generations."""
        until(lambda: set(self.generations()) == set(CELLS), "both routers reach every cell")
        return self.generations()

    def replaced(self, cell_id: str, generation: int) -> None:
        """Wait until a higher generation of the cell serves, and all other cells serve."""
        until(lambda: self.generations().get(cell_id, 0) > generation, f"{cell_id} is replaced")
        self.serving()

    def audit(self) -> list[dict[str, Any]]:
        """Return the audit entries of the controllers."""
        answers = [self.get(controller, "/audit?limit=1000") for controller in CONTROLLERS]
        return next((answer for answer in answers if answer is not None), [])

    def container(self, cell_id: str, generation: int) -> str:
        """Return the name of an instance's container."""
        return f"{self.compose.project}-live-{cell_id}-g{generation}"

    def running(self, cell_id: str) -> list[str]:
        """List the names of a cell's containers, whatever their state."""
        prefix = f"label=cellrouter.prefix={self.compose.project}"
        found = docker("ps", "--all", "--filter", prefix, "--format", "{{.Names}}").split()
        return [name for name in found if f"-{cell_id}-" in name]


class Load:
    """Puts log files into the bucket at a steady rate from a thread of its own, until the block ends."""

    def __init__(self, endpoint: str, rate: float = RATE) -> None:
        self._endpoint = endpoint
        self._rate = rate
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._evidence = Evidence()
        self._stop, self._has_put, self._leave = asyncio.Event(), threading.Event(), asyncio.Event()
        self._name = uuid.uuid4().hex[:8]  # the prefix of the keys that this load puts
        self._done: Future[None] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._done = asyncio.run_coroutine_threadsafe(self._run(), self._loop)
        until(lambda: self.ledger().processed > 0, "the first event is processed")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        assert self._done is not None
        self._loop.call_soon_threadsafe(self._leave.set)
        self._done.result(LIMIT_S)  # raises any error of the thread
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stop(self) -> None:
        """Stop putting files; what has arrived is still read."""
        self._loop.call_soon_threadsafe(self._stop.set)
        until(self._has_put.is_set, "the last one is put")

    def ledger(self) -> Ledger:
        """Return the ledger as of now: events that are still on their way count as lost."""
        return self._evidence.ledger(replaced_in_s=None, first_event_s=None)

    def accounted(self) -> Ledger:
        """Wait until everything sent so far is settled, and return the ledger. Fail the test if that takes too long."""
        sent = set(self._evidence.sent)
        pause = threading.Event()
        for _ in range(int(LIMIT_S / POLL_S)):
            if not (missing := sent & set(self._evidence.missing())):
                return self.ledger()
            pause.wait(POLL_S)
        pytest.fail(f"LOST {len(missing)} of {len(sent)}, the first {sorted(missing)[:5]}")

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            aws = AwsConfig("us-east-1", self._endpoint)
            s3, sqs = [
                await open_client(stack, aws, service, connections=20, read_timeout_s=LIMIT_S)
                for service in ("s3", "sqs")
            ]
            far_end = SourceAndSinks(NAMES, CELLS, s3, sqs)
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read(far_end))
                await self._put(far_end)
                self._has_put.set()
                await self._leave.wait()
                reading.cancel()

    async def _put(self, far_end: SourceAndSinks) -> None:
        for number, log_file in enumerate(_endless()):
            if self._stop.is_set():
                return
            location = await far_end.put(f"{self._name}/{number}/{log_file.key}", log_file.body)
            self._evidence.sent[location] = log_file.account
            await asyncio.sleep(1 / self._rate)  # noqa: TID251 - a real system's load

    async def _read(self, far_end: SourceAndSinks) -> None:
        while True:
            await far_end.collect(self._evidence)
            await asyncio.sleep(POLL_S)  # noqa: TID251 - a poll, on a real system


def _endless() -> itertools.cycle[LogFile]:
    return itertools.cycle(list(generate(200, ACCOUNTS, seed=11)))
