"""A router on an emulator of AWS, beside a bare drain by aiobotocore: how many events a second each brings away."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from time import perf_counter
from typing import Final

import msgspec
import pytest

from benchmarks.cost.drainer import WAIT_S
from benchmarks.cost.report import SkippedError
from benchmarks.cost.workers import CREDENTIALS
from benchmarks.notifications import body_token
from benchmarks.processes import BenchError, child
from benchmarks.world import CALL_TIMEOUT_S, ENVIRONMENT, QUEUE, QUICK_STOP, World, cell_id, pause
from cell_worker.contract.protocol import hold_queue_name
from router.adapters.aws.resources import create_queue
from router.adapters.aws.session import AwsConfig, open_client
from tests.support.containers import localstack
from tests.support.servers import ministack
from tests.support.stores import REGION

MOST_EVENTS: Final = 3000
LOOK_S: Final = 0.02


@contextmanager
def started(name: str) -> Iterator[str]:
    """Run the emulator with this name; yields its endpoint. Raises SkippedError where it can't run."""
    try:
        with ministack() if name == "MiniStack" else localstack() as endpoint:
            yield endpoint
    except pytest.skip.Exception as why:
        raise SkippedError(f"{name}: {why}") from None


class Emulator:
    """The queues of a stage on an emulator."""

    def __init__(self, stage: World, endpoint: str) -> None:
        self._stage = stage
        self._endpoint = endpoint
        self._events = min(MOST_EVENTS, stage.options.events)
        self._sent = 0
        os.environ.update(CREDENTIALS)

    async def make(self) -> None:
        """Make every queue that a router of the stage needs."""
        holds = [hold_queue_name("cellrouter", ENVIRONMENT, cell_id(at)) for at in range(self._stage.options.cells)]
        prefix = f"cellrouter-{ENVIRONMENT}"
        async with AsyncExitStack() as stack:
            sqs = await open_client(stack, AwsConfig(REGION, self._endpoint), "sqs")
            for name in (QUEUE, f"{prefix}-dead-letters", f"{prefix}-quarantine", *holds):
                await create_queue(sqs, name)

    async def _fill(self) -> None:
        """Send the events, ten a call."""
        accounts = list(self._stage.tenants)
        async with AsyncExitStack() as stack:
            sqs = await open_client(stack, AwsConfig(REGION, self._endpoint), "sqs")
            url = (await sqs.get_queue_url(QueueName=QUEUE))["QueueUrl"]
            for first in range(self._sent, self._sent + self._events, 10):
                entries = [
                    {"Id": str(at), "MessageBody": _body(accounts[at % len(accounts)], at)}
                    for at in range(first, first + 10)
                ]
                await sqs.send_message_batch(QueueUrl=url, Entries=entries)
        self._sent += self._events

    async def routed(self) -> dict[str, float]:
        """Measure a router, from the first event at a cell to the last."""
        await self._fill()
        await self._stage.cells("reset")
        settings = {**self._stage.environ(), **QUICK_STOP, "CELLROUTER_AWS_ENDPOINT_URL": self._endpoint}
        cores, folder = self._stage.cores.measured, self._stage.folder
        async with child("router-emulated", ["-m", "router", "router"], folder, cores, settings) as process:
            begun, events, until = 0.0, 0, perf_counter() + CALL_TIMEOUT_S
            while events < self._events:
                await pause(LOOK_S)
                process.check()
                events = (await self._stage.cells("state"))["events"]
                if perf_counter() > until:
                    raise BenchError(f"only {events} of {self._events} events came:\n{process.tail()}")
                begun = begun or (perf_counter() if events else 0.0)
            return {"events_per_s": self._events / (perf_counter() - begun)}

    async def drained(self) -> dict[str, float]:
        """Measure aiobotocore as it comes, with nothing but receives and deletes."""
        await self._fill()
        arguments = ["-m", "benchmarks.cost.drainer", "aiobotocore", self._endpoint, QUEUE, str(self._events)]
        cores, folder = self._stage.cores.measured, self._stage.folder
        async with child("drainer-emulated", arguments, folder, cores, CREDENTIALS, prints=True) as process:
            assert process.process.stdout is not None
            line = await asyncio.to_thread(process.process.stdout.readline)
            if not line:
                raise BenchError(f"the drain did not end:\n{process.tail()}")
        await pause(2 * WAIT_S)  # its last polls end
        return {"events_per_s": self._events / float(line)}


def _body(account: str, number: int) -> str:
    return msgspec.json.decode(body_token(account.encode(), number), type=str)
