"""A whole system as processes on real servers: routers, a controller, and the cells that it launches."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from router.adapters.aws.session import AwsConfig
from router.adapters.aws.sqs import SqsSource
from router.adapters.aws.sqs_client import open_sqs_client
from router.adapters.clock import SystemClock
from router.bootstrap.queues import open_intake
from router.core.messages.dead_letter import DeadLetter, from_body
from router.core.models import Draft
from router.settings import load
from tests.support import deeds, detoured
from tests.support.aio import until
from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY
from tests.support.servers import free_port


class System:
    """One system, with queues, registry keys and data of its own."""

    def __init__(self, redis_url: str, aws_endpoint: str, directory: Path, *, cells: int, fifo: bool) -> None:
        self.name = f"s-{uuid.uuid4().hex[:8]}"
        self.directory = directory
        self.source = f"{self.name}-events{'.fifo' if fifo else ''}"
        self.deeds_file = directory / "deeds.jsonl"
        self.deeds_file.touch()
        self._deeds: list[dict[str, Any]] = []
        self._deeds_end = 0  # how many bytes of the file were read
        self.sent: list[str] = []
        self.key_of: dict[str, str] = {}  # the key of each event
        self.sent_at_ms: dict[str, int] = {}
        self._aws = AwsConfig("us-east-1", aws_endpoint)
        self.leader: Role  # the first controller
        self._call: Any = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self.environ = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            deeds.FILE: str(self.deeds_file),
            "CELLROUTER_ENVIRONMENT": self.name,
            "CELLROUTER_SECRET": SECRET,
            "CELLROUTER_REDIS_URL": redis_url,
            "CELLROUTER_AWS_ENDPOINT_URL": aws_endpoint,
            "CELLROUTER_SOURCE_QUEUE": self.source,
            "CELLROUTER_SOURCE_DEAD_LETTER_QUEUE": f"{self.name}-dead",
            "CELLROUTER_SOURCE_QUARANTINE_QUEUE": f"{self.name}-quarantine",
            "CELLROUTER_SOURCE_WAIT_S": "1",
            "CELLROUTER_SOURCE_EVENT_ID": "event_id",
            "CELLROUTER_CELLS_COUNT": str(cells),
            "CELLROUTER_CELLS_HANDLER": "tests.support.deeds:handle",
            "CELLROUTER_CELLS_DATA_DIR": str(directory / "data"),
            "CELLROUTER_CELLS_DRAIN_TIMEOUT_S": "10",
            "CELLROUTER_RETRY_BASE_DELAY_S": "0.5",
            "CELLROUTER_RETRY_MAX_DELAY_S": "2",
        }

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of cellrouter to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "router", *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    async def router(self) -> Role:
        """Start one more router, and wait until it answers."""
        return await self._start("router")

    async def detoured_router(self, port: int, proxy: int) -> Role:
        """Start one more router, whose connections to an instance's port go to a proxy's instead."""
        environ = {detoured.DETOUR: f"{port}:{proxy}"}
        return await self._start("router", detoured.__name__, environ)

    async def controller(self) -> Role:
        """Start one more controller, and wait until it answers."""
        return await self._start("controller")

    async def send(self, bodies: Sequence[Mapping[str, Any]]) -> None:
        """Put events into the source; each body has a `key` and becomes an event with an id of its own."""
        drafts = [self._draft(body) for body in bodies]
        chunks = [drafts[i : i + 10] for i in range(0, len(drafts), 10)]
        for chunk in chunks:  # one after the other: on a FIFO queue the order counts
            assert await self.queue(self.source).send(chunk) == []

    def deeds(self) -> list[dict[str, Any]]:
        """Return the effects so far, in their order. Each call reads only what is new in the file."""
        with self.deeds_file.open("rb") as file:
            file.seek(self._deeds_end)
            new, whole, _ = file.read().rpartition(b"\n")
        self._deeds += map(json.loads, new.splitlines())
        self._deeds_end += len(new) + len(whole)
        return list(self._deeds)

    async def done(self, names: set[str], limit_s: float = 60) -> None:
        """Wait until each of these events has had its effect."""

        async def all_done() -> bool:
            return names <= {deed["event"] for deed in self.deeds()}

        try:
            await until(all_done, "all events are done", limit_s)
        except AssertionError as error:
            missing = sorted(names - {deed["event"] for deed in self.deeds()})
            raise AssertionError(f"{len(missing)} events are not done: {missing[:20]}\n{self.logs()}") from error

    async def emptied(self, *queues: str) -> None:
        """Wait until those queues have no messages, visible or not."""

        async def empty() -> bool:
            return not any([await self.size(queue) for queue in queues])

        await until(empty, f"{queues} are empty")

    async def size(self, queue: str) -> int:
        """Count the messages in a queue: visible, hidden and delayed."""
        names = ["", "NotVisible", "Delayed"]
        url = (await self._call.call("GetQueueUrl", QueueName=queue))["QueueUrl"]
        wanted = [f"ApproximateNumberOfMessages{name}" for name in names]
        answer = await self._call.call("GetQueueAttributes", QueueUrl=url, AttributeNames=wanted)
        return sum(int(answer["Attributes"].get(name, 0)) for name in wanted)

    def queue(self, name: str) -> SqsSource:
        """Return a source that reads any queue by its name."""
        return SqsSource(name, self._call, self._call)

    async def drop(self, queue: str) -> None:
        """Delete a queue, with all that is in it."""
        url = (await self._call.call("GetQueueUrl", QueueName=queue))["QueueUrl"]
        await self._call.call("DeleteQueue", QueueUrl=url)

    async def dead_letters(self) -> list[DeadLetter]:
        """Read all dead letters, and leave them in their queue."""
        queue = self.queue(f"{self.name}-dead")
        letters: dict[str, DeadLetter] = {}
        while messages := await queue.receive(10, 1, 5):
            letters |= {message.message_id: from_body(message.body) for message in messages}
        return list(letters.values())

    def hold(self, cell_id: str) -> str:
        """Return the name of a cell's hold queue."""
        return f"cellrouter-{self.name}-{cell_id}-hold"

    def pid(self, cell_id: str) -> int:
        """Return the process of the cell's newest instance."""
        newest = max((self.directory / "data" / "run").glob(f"{cell_id}.*.pid"))
        return int(json.loads(newest.read_bytes())["pid"])

    def hang(self, cell_id: str) -> None:
        """Hang the cell's newest instance with SIGSTOP."""
        self._signal(cell_id, signal.SIGSTOP)

    def kill(self, cell_id: str) -> None:
        """Kill the cell's newest instance with SIGKILL."""
        self._signal(cell_id, signal.SIGKILL)

    def logs(self) -> str:
        """Return the end of the log of every process."""
        files = [*self.directory.glob("*.log"), *(self.directory / "data").rglob("*.log")]
        return "\n".join(f"{file.name}: {file.read_text(errors='replace')[-1500:]}" for file in files)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Make the queues, start a controller, wait until its cells serve, and end everything after the block."""
        async with AsyncExitStack() as stack:
            self._call = await open_sqs_client(stack, self._aws, connections=10, read_timeout_s=30)
            async with open_intake(load(self.environ)) as intake:
                await intake.carry_out(await intake.plan())
            self.leader = await self._start("controller")
            try:
                await until(self.leader.serves_all, "every cell serves")
                yield
            finally:
                await asyncio.to_thread(self._end)

    async def _start(self, name: str, module: str = "router", environ: Mapping[str, str] | None = None) -> Role:
        role = Role(name, {**self.environ, **(environ or {})}, self.directory, module)
        self._processes.append(role.process)
        await until(role.answers, f"the {name} answers")
        return role

    def _draft(self, body: Mapping[str, Any]) -> Draft:
        name = f"e{len(self.sent)}"
        self.sent.append(name)
        self.key_of[name] = body["key"]
        self.sent_at_ms[name] = SystemClock().time_ms()
        text = json.dumps({**body, "event_id": name, "tenant": body["key"]})
        if self.source.endswith(".fifo"):
            return Draft(text, group_id=str(body["key"]), dedup_id=name)
        return Draft(text)

    def _signal(self, cell_id: str, number: signal.Signals) -> None:
        os.kill(self.pid(cell_id), number)

    def _end(self) -> None:
        for process in reversed(self._processes):  # the controller last: it ends its cells
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for path in (self.directory / "data" / "run").glob("*.pid"):  # left by a controller that was killed
            with suppress(ProcessLookupError):
                os.kill(json.loads(path.read_bytes())["pid"], signal.SIGKILL)


class Role:
    """A process that is a router or a controller."""

    def __init__(self, name: str, environ: Mapping[str, str], directory: Path, module: str = "router") -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / f"{name}-{port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, name],
                env={**environ, "CELLROUTER_API_PORT": str(port)},
                stdout=log,
                stderr=log,
            )

    async def answers(self) -> bool:
        """Tell whether its API answers."""
        assert self.process.poll() is None, self.log.read_text()
        return bool(await asyncio.to_thread(self._get, "/healthz"))

    async def serves_all(self) -> bool:
        """Tell whether every cell that it shows is serving."""
        cells = json.loads(await asyncio.to_thread(self._get, "/cells") or "[]")
        return bool(cells) and all(cell["state"] == "serving" for cell in cells)

    async def lanes(self) -> list[dict[str, Any]]:
        """Return what it shows of its cells; empty when it doesn't answer."""
        return list(json.loads(await asyncio.to_thread(self._get, "/cells") or "[]"))

    async def audit(self) -> list[dict[str, Any]]:
        """Return what the controllers did, oldest first."""
        return list(json.loads(await asyncio.to_thread(self._get, "/audit?limit=1000") or "[]"))

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return the records of this event in its log."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]

    async def stopping(self) -> bool:
        """Tell whether its log says that it is stopping."""
        return '"stopping"' in self.log.read_text()

    def metric(self, name: str, **labels: str) -> float:
        """Add up a metric's samples that have these labels."""
        text = self._get("/metrics")
        samples = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(float(value) for found, value in samples if all(label in found for label in wanted))

    async def signalled(self, *numbers: signal.Signals) -> tuple[int, float]:
        """Send signals; return the exit code, and how many seconds the process took to end."""
        clock = SystemClock()
        begun = clock.monotonic()
        for position, number in enumerate(numbers, start=1):
            self.process.send_signal(number)
            if position < len(numbers):
                await until(self.stopping, "it has noticed")  # two signals at once arrive as one
        code = await asyncio.to_thread(self.process.wait, 60)
        return code, clock.monotonic() - begun

    def _get(self, path: str) -> str:
        return page(f"{self.url}{path}")


def page(url: str) -> str:
    """Return the body of an answer; empty when there is none."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return str(reply.read().decode())
    except OSError:
        return ""
