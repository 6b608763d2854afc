"""EventSource on FIFO queues: one suite for the fake in memory and for every kind of server."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from router.core.models import Depth, Draft, Message
from router.ports import EventSource
from tests.support.shared_servers import Servers
from tests.support.sources import Suite, runner, take


@pytest.fixture
def on_fifo(servers: Servers, aws_endpoint: str, memory_too: None, strict_too: None) -> Callable[[Suite], None]:
    """Runs a suite on a fresh FIFO queue."""
    return runner(servers, aws_endpoint, ".fifo")


def drafts(group: str, numbers: Sequence[int]) -> list[Draft]:
    """Drafts of one group, in order."""
    return [Draft(f"{group}{n}", group_id=group, dedup_id=f"{group}{n}") for n in numbers]


def of(messages: Sequence[Message], group: str) -> list[str]:
    """The bodies of one group, in the order in which they were received."""
    return [message.body for message in messages if message.group_id == group]


def test_messages_come_in_the_order_of_their_group(on_fifo: Callable[[Suite], None]) -> None:
    """They come with their group and deduplication id; no delay is asked for."""

    async def suite(source: EventSource) -> None:
        assert source.fifo
        assert await source.send(drafts("a", range(4)) + drafts("b", range(4))) == []
        messages = await take(source, 8)
        assert of(messages, "a") == ["a0", "a1", "a2", "a3"]
        assert of(messages, "b") == ["b0", "b1", "b2", "b3"]
        assert {message.dedup_id for message in messages} == {message.body for message in messages}

    on_fifo(suite)


def test_a_duplicate_within_five_minutes_is_dropped(on_fifo: Callable[[Suite], None]) -> None:
    """Its send succeeds all the same."""

    async def suite(source: EventSource) -> None:
        assert await source.send(drafts("a", [1, 2])) == []
        assert await source.send(drafts("a", [1])) == []
        assert of(await take(source, 2), "a") == ["a1", "a2"]
        assert await source.receive(10, 0, 30) == []

    on_fifo(suite)


def test_nothing_of_a_group_comes_while_one_of_it_is_in_flight(on_fifo: Callable[[Suite], None]) -> None:
    """Other groups go on, and after the delete the group goes on too."""

    async def suite(source: EventSource) -> None:
        await source.send(drafts("a", range(3)))
        first = await source.receive(1, 2, 30)
        assert of(first, "a") == ["a0"]
        await source.send(drafts("b", range(2)))
        assert of(await take(source, 2), "a") == []
        assert await source.receive(10, 0, 30) == []
        assert await source.delete(first) == []
        assert of(await take(source, 2), "a") == ["a1", "a2"]

    on_fifo(suite)


def test_what_is_given_back_comes_again_in_order(on_fifo: Callable[[Suite], None]) -> None:
    """All are hidden equally long: unlike SQS, LocalStack delivers a later one first where it is visible sooner."""

    async def suite(source: EventSource) -> None:
        await source.send(drafts("a", range(4)))
        messages = await take(source, 4)
        await source.set_visibility(messages[:1], 1)
        await source.set_visibility(messages[1:], 1)
        again = await take(source, 4)
        assert of(again, "a") == ["a0", "a1", "a2", "a3"]
        assert again[0].receive_count == 2

    on_fifo(suite)


def test_what_waits_behind_a_hidden_message_is_counted(on_fifo: Callable[[Suite], None]) -> None:
    """So a group that stands still is seen to grow, though nothing of it comes."""

    async def suite(source: EventSource) -> None:
        await source.send([Draft(f'{{"n": {i}}}', group_id="g", dedup_id=f"{i}") for i in range(10)])
        assert len(await source.receive(1, 2, 30)) == 1
        assert await source.depth() == Depth(waiting=9, hidden=1, delayed=0)

    on_fifo(suite)
