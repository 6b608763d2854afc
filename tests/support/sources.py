"""Event sources for the contract suites: the fake in memory, and SQS on a server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from router.adapters.aws.resources import create_queue
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.sqs import SqsSource
from router.adapters.aws.sqs_client import open_sqs_client
from router.adapters.clock import SystemClock
from router.adapters.memory import MemorySource
from router.core.models import Message
from router.ports import EventSource
from tests.support.aio import run
from tests.support.shared_servers import Servers
from tests.support.strict_sqs import strict_sqs

Suite = Callable[[EventSource], Awaitable[None]]


@asynccontextmanager
async def memory(name: str) -> AsyncIterator[EventSource]:
    """Make a fake source in memory."""
    yield MemorySource(name, SystemClock())


@asynccontextmanager
async def strict(name: str) -> AsyncIterator[EventSource]:
    """Make a queue on a server that takes what SQS documents and nothing else."""
    async with strict_sqs() as endpoint, sqs(endpoint, name) as source:
        yield source


@asynccontextmanager
async def sqs(endpoint: str, name: str) -> AsyncIterator[EventSource]:
    """Make a queue on a real server."""
    async with AsyncExitStack() as stack:
        config = AwsConfig("us-east-1", endpoint)
        await create_queue(await open_client(stack, config, "sqs"), name)
        poll, call = [await open_sqs_client(stack, config, connections=10, read_timeout_s=30) for _ in range(2)]
        yield SqsSource(name, poll, call)


def runner(servers: Servers, endpoint: str, suffix: str = "") -> Callable[[Suite], None]:
    """Return a function that runs a suite on a fresh queue at `endpoint`; without an endpoint on a fake."""
    name = f"contract-{uuid.uuid4().hex[:8]}{suffix}"

    def on(suite: Suite) -> None:
        async def story() -> None:
            fake = strict if servers.aws_name else memory
            async with sqs(endpoint, name) if endpoint else fake(name) as source:
                await suite(source)

        run(story())

    return on


async def take(source: EventSource, count: int, visibility_s: int = 30) -> list[Message]:
    """Receive until there are `count` messages; a server may answer twice with nothing."""
    messages: list[Message] = []
    empty = 0
    while len(messages) < count:
        received = await source.receive(10, 2, visibility_s)
        empty += not received
        assert empty < 3, f"only {len(messages)} of {count} messages came"
        messages += received
    return messages
