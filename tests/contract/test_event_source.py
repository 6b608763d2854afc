"""EventSource on standard queues: one suite for the fake in memory and for every kind of server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from msgspec.structs import replace

from router.adapters.aws.session import AwsConfig
from router.adapters.aws.sqs import SqsSource
from router.adapters.aws.sqs_client import open_sqs_client
from router.core.errors import SourceMissingError
from router.core.models import Draft
from router.ports import EventSource
from tests.support.aio import run
from tests.support.shared_servers import Servers
from tests.support.sources import Suite, runner, take


@pytest.fixture
def on_source(servers: Servers, aws_endpoint: str, memory_too: None, strict_too: None) -> Callable[[Suite], None]:
    """Runs a suite on a fresh queue."""
    return runner(servers, aws_endpoint)


def test_what_is_sent_is_received(on_source: Callable[[Suite], None]) -> None:
    """Body and attributes come as they were sent, with the time of sending and a count of receives."""

    async def suite(source: EventSource) -> None:
        assert await source.send([Draft('{"n": 1, "é": "\\u00e9"}', {"event_id": "e", "partition_key": "k %25"})]) == []
        (message,) = await take(source, 1)
        assert message.body == '{"n": 1, "é": "\\u00e9"}'
        assert message.attributes == {"event_id": "e", "partition_key": "k %25"}
        assert message.receive_count == 1
        assert message.sent_at_ms > 1_600_000_000_000

    on_source(suite)


def test_attributes_come_with_their_types(on_source: Callable[[Suite], None], servers: Servers) -> None:
    """A Number is text as it was sent, a Binary one bytes, custom types are kept, and so is the trace."""

    async def suite(source: EventSource) -> None:
        draft = Draft(
            "{}",
            {"text": "\t é \U0001f4a1", "number": "-1.50", "custom": "7"},
            types={"number": "Number", "custom": "Number.int", "blob": "Binary", "image": "Binary.png"},
            binaries={"blob": bytes(range(256)), "image": b"\x00"},
            trace_header="Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
        )
        assert await source.send([draft]) == []
        (message,) = await take(source, 1)
        assert message.attributes == draft.attributes
        assert message.binaries == draft.binaries
        assert message.types == draft.types
        if servers.aws_name != "MiniStack":  # which loses it in batches
            assert message.trace_header == draft.trace_header

    on_source(suite)


def test_a_queue_says_how_long_a_message_may_be(on_source: Callable[[Suite], None]) -> None:
    """A message of that length is taken, with its attributes counted."""

    async def suite(source: EventSource) -> None:
        max_bytes = await source.max_bytes()
        assert max_bytes in {256 * 1024, 1024 * 1024}  # before August 2025 it was the first
        beside = Draft("", {"number": "7"}, types={"number": "Number"}, binaries={"blob": b"\xff" * 1000})
        longest = replace(beside, body="x" * (max_bytes - beside.size))
        assert longest.size == max_bytes
        assert await source.send([longest]) == []
        (message,) = await take(source, 1)
        assert message.body == longest.body

    on_source(suite)


def test_a_received_message_is_hidden_until_it_is_released(on_source: Callable[[Suite], None]) -> None:
    """set_visibility with 0 seconds makes it come again, with a new receipt."""

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
    """The time counts that the receiver asked for, not the queue's own."""

    async def suite(source: EventSource) -> None:
        await source.send([Draft("{}")])
        (first,) = await source.receive(10, 2, 1)
        (second,) = await take(source, 1)
        assert second.message_id == first.message_id

    on_source(suite)


def test_a_deleted_message_does_not_come_again(on_source: Callable[[Suite], None]) -> None:
    """The others do, since what is not deleted is still in the queue."""

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
    """It does not come before its delay has passed."""

    async def suite(source: EventSource) -> None:
        await source.send([Draft("{}", delay_s=2)])
        assert await source.receive(10, 0, 30) == []
        assert len(await take(source, 1)) == 1

    on_source(suite)


def test_a_delete_with_a_gone_receipt_asks_for_no_other_try(on_source: Callable[[Suite], None]) -> None:
    """The message is gone, or comes again with a new receipt: another try would not help."""

    async def suite(source: EventSource) -> None:
        await source.send([Draft("{}")])
        messages = await take(source, 1)
        await source.delete(messages)
        assert await source.delete(messages) == []
        await source.set_visibility(messages, 0)

    on_source(suite)


def test_large_bodies_fit(on_source: Callable[[Suite], None]) -> None:
    """Ten bodies of 200 kB are more than one SQS call may carry, and all arrive."""

    async def suite(source: EventSource) -> None:
        assert await source.send([Draft('"' + "x" * 200_000 + '"') for _ in range(10)]) == []
        messages = await take(source, 10)
        assert {len(message.body) for message in messages} == {200_002}

    on_source(suite)


def test_the_group_of_a_fair_queue_is_received(on_source: Callable[[Suite], None]) -> None:
    """A standard queue takes a MessageGroupId too, the tenant; it changes nothing about when messages come."""

    async def suite(source: EventSource) -> None:
        assert not source.fifo
        assert await source.send([Draft(f'{{"n": {i}}}', group_id="a") for i in range(3)]) == []
        messages = await take(source, 3)
        assert {message.group_id for message in messages} == {"a"}
        assert {message.dedup_id for message in messages} == {None}

    on_source(suite)


def test_a_bad_entry_does_not_keep_the_good_ones_from_being_sent(
    on_source: Callable[[Suite], None], servers: Servers
) -> None:
    """SQS refuses a whole batch for one body that has a forbidden character or is too long; the others are sent."""

    async def suite(source: EventSource) -> None:
        bodies = [f'{{"n": {i}}}' for i in range(9)]
        bodies[4] = "\x00"
        bodies[7] = "x" * (1024 * 1024 + 1)
        failed = await source.send([Draft(body) for body in bodies])
        assert set(failed) <= {4, 7}  # the fake and some servers take more than SQS does
        assert set(failed) == {4, 7} or servers.aws_name != "strict SQS"
        messages = await take(source, 9 - len(failed))
        assert {message.body for message in messages} >= {body for i, body in enumerate(bodies) if i not in (4, 7)}

    on_source(suite)


def test_a_bad_receipt_does_not_keep_the_good_ones_from_being_deleted(on_source: Callable[[Suite], None]) -> None:
    """Nor does it keep them from being hidden."""

    async def suite(source: EventSource) -> None:
        await source.send([Draft(f'{{"n": {i}}}') for i in range(5)])
        messages = await take(source, 5)
        bad = replace(messages[0], receipt="no-such-receipt")
        await source.set_visibility([bad, *messages[1:]], 60)
        assert await source.delete([bad, *messages[1:]]) == []
        await source.set_visibility(messages[:1], 0)
        assert [message.body for message in await take(source, 1)] == [messages[0].body]

    on_source(suite)


def test_the_longest_body_fits(on_source: Callable[[Suite], None]) -> None:
    """A body of 1 MiB, of any kind of text, arrives as it was."""

    async def suite(source: EventSource) -> None:
        bodies = ["é" * (512 * 1024), "\U0001f4a1\t\n\r {}", '"' * (1024 * 1024)]  # quotes travel as two bytes each
        assert await source.send([Draft(body) for body in bodies]) == []
        assert {message.body for message in await take(source, 3)} == set(bodies)

    on_source(suite)


def test_a_queue_that_is_not_there_is_missing(aws_endpoint: str) -> None:
    """The call raises SourceMissingError, with the queue's name and the cause."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            config = AwsConfig("us-east-1", aws_endpoint)
            client = await open_sqs_client(stack, config, connections=1, read_timeout_s=10)
            with pytest.raises(SourceMissingError, match="queue no-such-queue") as caught:
                await SqsSource("no-such-queue", client, client).receive(1, 0, 30)
            assert caught.value.__cause__ is not None

    run(story())
