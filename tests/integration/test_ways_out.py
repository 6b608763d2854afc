"""Fuzzed messages through real queues: received, dead-lettered, redriven by the command's own service, and identical.

The strict SQS is one of them. `benchmarks/ways_out.py` does the same with 100 000 messages, without queues.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random  # noqa: TID251 - seeded
from typing import Any

from router.adapters.aws.resources import create_queue
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.sqs import SqsSource
from router.adapters.aws.sqs_client import open_sqs_client
from router.adapters.clock import SystemClock
from router.core.messages.dead_letter import Filter, of_message, to_drafts
from router.core.messages.origin import origin_of
from router.core.models import Message
from router.services.dead_letters import DeadLetters, Tally
from tests.support.aio import run
from tests.support.attribute_keys import KEYS
from tests.support.fuzz_messages import message
from tests.support.shared_servers import Servers
from tests.support.sources import take
from tests.support.strict_sqs import strict_sqs

COUNT = 60
LIMIT = 256 * 1024


@asynccontextmanager
async def queues(endpoint: str) -> AsyncIterator[tuple[SqsSource, SqsSource]]:
    """A source, and a dead-letter queue that takes no more than 256 KiB a message."""
    name = f"ways-out-{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        endpoint = endpoint or await stack.enter_async_context(strict_sqs())
        config = AwsConfig("us-east-1", endpoint)
        made = await open_client(stack, config, "sqs")
        await create_queue(made, name)
        await create_queue(made, f"{name}-dead", attributes={"MaximumMessageSize": str(LIMIT)})
        client = await open_sqs_client(stack, config, connections=10, read_timeout_s=30)
        yield SqsSource(name, client, client), SqsSource(f"{name}-dead", client, client)


async def produce(source: SqsSource, chance: Random) -> None:
    """Send messages as producers do, of the adapter's own form."""
    for number in range(COUNT):
        entry = message(chance, LIMIT * (1 + 3 * (number % 2)))
        entry["DelaySeconds"] = 0
        assert not await source._batch("SendMessageBatch", [entry])


def beside(received: Message, *, trace: bool) -> tuple[Any, ...]:
    """What has to be the same of a message that comes again."""
    origin = origin_of(received)
    found = (received.body, origin.attributes, origin.types, origin.binaries, origin.group_id)
    return (*found, origin.trace_header) if trace else found


async def bury(source: SqsSource, dead: SqsSource, came: list[Message]) -> None:
    """Dead-letter messages as a router does: each is deleted after the other queue has taken it."""
    limit = await dead.max_bytes()
    assert limit == LIMIT
    for each in came:
        letter = of_message(
            each, reason="malformed", error="\ufffe\ud800", source=source.name, dead_at_ms=each.sent_at_ms
        )
        drafts = to_drafts(letter, limit)
        assert await dead.send(drafts) == []
    for start in range(0, len(came), 10):
        assert await source.delete(came[start : start + 10]) == []


def test_fuzzed_messages_come_back_from_the_dead_letter_queue(
    servers: Servers, aws_endpoint: str, strict_too: None
) -> None:
    """All of them, with nothing left there: bytes, attributes and types, group, and the trace where servers keep it."""

    async def story() -> None:
        async with queues(aws_endpoint) as (source, dead):
            await produce(source, Random(7))
            came = await take(source, COUNT, 600)
            await bury(source, dead, came)
            letters = DeadLetters(dead, source.name, lambda *_: True, lambda _: source, KEYS, SystemClock())
            tally = Tally()
            await letters.redrive(Filter(), tally, lambda _: None)
            assert (tally.done, tally.failed, tally.left) == (COUNT, 0, 0)
            again = await take(source, COUNT, 600)
        trace = servers.aws_name != "MiniStack"  # which loses it in batches
        by_body = sorted((beside(each, trace=trace) for each in came), key=repr)
        assert sorted((beside(each, trace=trace) for each in again), key=repr) == by_body

    run(story(), 240)
