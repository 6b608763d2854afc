"""EventSource: one suite for the fake in memory and for SQS on MiniStack."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from router.adapters.aws import AwsConfig, open_client
from router.adapters.aws_resources import create_queue
from router.adapters.clock import SystemClock
from router.adapters.memory import MemorySource
from router.adapters.sqs import SqsSource
from router.core.errors import SourceUnavailableError
from router.core.models import Draft, Message
from router.ports import EventSource
from tests.aio import run

Suite = Callable[[EventSource], Awaitable[None]]


@asynccontextmanager
async def memory() -> AsyncIterator[EventSource]:
    """The fake."""
    yield MemorySource("contract", SystemClock())


@asynccontextmanager
async def sqs(endpoint: str) -> AsyncIterator[EventSource]:
    """A queue of its own on a real server."""
    async with AsyncExitStack() as stack:
        config = AwsConfig("us-east-1", endpoint)
        poll, call = [await open_client(stack, config, "sqs") for _ in range(2)]
        name = f"contract-{uuid.uuid4().hex[:8]}"
        await create_queue(call, name)
        yield SqsSource(name, poll, call)


@pytest.fixture(params=["memory", "ministack"])
def on_source(request: pytest.FixtureRequest) -> Callable[[Suite], None]:
    """Runs a coroutine on a fresh queue."""
    endpoint = request.getfixturevalue("aws_endpoint") if request.param == "ministack" else ""

    def on(suite: Suite) -> None:
        async def story() -> None:
            async with sqs(endpoint) if endpoint else memory() as source:
                await suite(source)

        run(story())

    return on


async def take(source: EventSource, count: int) -> list[Message]:
    """Receive until there are so many."""
    messages: list[Message] = []
    while len(messages) < count:
        received = await source.receive(10, 2, 30)
        assert received, f"only {len(messages)} of {count} messages came"
        messages += received
    return messages


def test_what_is_sent_is_received(on_source: Callable[[Suite], None]) -> None:
    """Body and attributes as they were, with a time and a count."""

    async def suite(source: EventSource) -> None:
        assert await source.send([Draft('{"n": 1, "é": "\\u00e9"}', {"event_id": "e", "partition_key": "k %25"})]) == []
        (message,) = await take(source, 1)
        assert message.body == '{"n": 1, "é": "\\u00e9"}'
        assert message.attributes == {"event_id": "e", "partition_key": "k %25"}
        assert message.receive_count == 1
        assert message.sent_at_ms > 1_600_000_000_000

    on_source(suite)


def test_a_received_message_is_hidden_until_it_is_released(on_source: Callable[[Suite], None]) -> None:
    """set_visibility(0) makes it come again, with a new receipt."""

    async def suite(source: EventSource) -> None:
        await source.send([Draft("{}")])
        (first,) = await take(source, 1)
        assert await source.receive(10, 0, 30) == []
        await source.set_visibility([first], 0)
        (second,) = await take(source, 1)
        assert second.message_id == first.message_id
        assert second.receive_count == 2
        assert second.receipt != first.receipt

    on_source(suite)


def test_a_received_message_comes_again_when_its_time_is_up(on_source: Callable[[Suite], None]) -> None:
    """The time that the receiver asked for, not the queue's own."""

    async def suite(source: EventSource) -> None:
        await source.send([Draft("{}")])
        (first,) = await source.receive(10, 2, 1)
        (second,) = await take(source, 1)
        assert second.message_id == first.message_id

    on_source(suite)


def test_a_deleted_message_does_not_come_again(on_source: Callable[[Suite], None]) -> None:
    """And the others do; what is not deleted is still there."""

    async def suite(source: EventSource) -> None:
        await source.send([Draft(f'{{"n": {i}}}') for i in range(10)])
        messages = await take(source, 10)
        assert await source.delete(messages[:7]) == []
        await source.set_visibility(messages[7:], 0)
        again = await take(source, 3)
        assert {m.message_id for m in again} == {m.message_id for m in messages[7:]}
        assert await source.delete(again) == []
        assert await source.receive(10, 0, 30) == []

    on_source(suite)


def test_a_delayed_message_comes_later(on_source: Callable[[Suite], None]) -> None:
    """Not before its delay."""

    async def suite(source: EventSource) -> None:
        await source.send([Draft("{}", delay_s=2)])
        assert await source.receive(10, 0, 30) == []
        assert len(await take(source, 1)) == 1

    on_source(suite)


def test_a_delete_with_a_gone_receipt_asks_for_no_other_try(on_source: Callable[[Suite], None]) -> None:
    """The message is gone, or comes again with a new receipt: trying once more helps nobody."""

    async def suite(source: EventSource) -> None:
        await source.send([Draft("{}")])
        messages = await take(source, 1)
        await source.delete(messages)
        assert await source.delete(messages) == []
        await source.set_visibility(messages, 0)

    on_source(suite)


def test_large_bodies_fit(on_source: Callable[[Suite], None]) -> None:
    """Ten of 200 kB are more than one SQS call may carry; all arrive."""

    async def suite(source: EventSource) -> None:
        assert await source.send([Draft('"' + "x" * 200_000 + '"') for _ in range(10)]) == []
        messages = await take(source, 10)
        assert {len(message.body) for message in messages} == {200_002}

    on_source(suite)


def test_a_queue_that_is_not_there_is_unavailable(aws_endpoint: str) -> None:
    """One error of ours, with the queue's name and the cause."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            client = await open_client(stack, AwsConfig("us-east-1", aws_endpoint), "sqs")
            with pytest.raises(SourceUnavailableError, match="queue no-such-queue") as caught:
                await SqsSource("no-such-queue", client, client).receive(1, 0, 30)
            assert caught.value.__cause__ is not None

    run(story())
