"""The messages of one queue that a router has, and the polls that bring them."""

from __future__ import annotations

import asyncio

import pytest

from router.adapters.memory import MemorySource
from router.core.models import Draft
from router.services.data_plane.access import AccessWatch
from router.services.data_plane.batcher import LINGER_S
from router.services.data_plane.consumer import Consumer, ConsumerConfig
from router.services.data_plane.inbox import DELETE_LINGER_S, Inbox, Received
from router.services.data_plane.payloads import PayloadConfig, Payloads
from tests.support.attribute_keys import KEYS
from tests.support.fake_clock import FakeClock, play
from tests.support.memory_payloads import MemoryPayloads
from tests.support.router_world import Notes


def inbox_of(queue: MemorySource, clock: FakeClock) -> Inbox:
    """An inbox that hides messages for 30 s."""
    payloads = Payloads(PayloadConfig("payloads"), MemoryPayloads())
    return Inbox(queue, payloads, clock, Notes(), 30, KEYS, AccessWatch(clock, Notes()))


def test_what_was_let_go_before_does_not_touch_the_message_that_came_again() -> None:
    """Several events of a message may be given up one after the other, with its return in between."""
    clock = FakeClock()
    queue = MemorySource("source", clock)

    async def story() -> None:
        inbox = inbox_of(queue, clock)
        running = asyncio.create_task(inbox.run())
        await queue.send([Draft("body")])
        (first,) = await inbox.receive(10, 1)
        inbox.opened(first, 2)
        inbox.let_go(first, 1)
        (again,) = await inbox.receive(10, 5)
        inbox.opened(again, 1)
        inbox.let_go(first, 0)
        assert (len(inbox), inbox.bytes) == (1, 4)
        await clock.sleep(100)
        assert await queue.receive(10, 0, 30) == []  # kept hidden all the time
        inbox.settle(again)
        await inbox.drained()
        assert (len(inbox), inbox.bytes, len(queue)) == (0, 0, 0)
        running.cancel()

    play(clock, story())


def test_room_that_is_made_at_once_is_used_at_once() -> None:
    """The only poller must not sleep when what is shed goes straight back to its queue."""
    clock = FakeClock()
    queue = MemorySource("source", clock)
    here: list[Received] = []
    polls: list[int] = []
    calls: list[int] = []

    async def story() -> None:
        inbox = inbox_of(queue, clock)

        def accept(_: Inbox, received: list[Received]) -> None:
            polls.append(len(received))
            here.extend(received)
            for held in received:
                inbox.opened(held, 1)

        def relieve() -> None:
            calls.append(len(here))
            while here and len(calls) % 2 == 0:  # first in good time, then because there is no room
                inbox.let_go(here.pop(), 60)

        config = ConsumerConfig(pollers=1, wait_s=1, max_messages=10)
        tasks = [asyncio.create_task(inbox.run())]
        await queue.send([Draft("body")] * 10)
        tasks.append(asyncio.create_task(Consumer(config, inbox, accept, relieve, lambda: False, clock).run()))
        await clock.sleep(5)
        assert len(polls) > 2
        for task in tasks:
            task.cancel()

    play(clock, story())


@pytest.mark.parametrize(("name", "after_s"), [("source", DELETE_LINGER_S), ("source.fifo", LINGER_S)])
def test_a_delete_waits_for_others_and_in_a_fifo_queue_hardly(name: str, after_s: float) -> None:
    """There the next message of its group comes only once it is deleted."""
    clock = FakeClock()
    queue = MemorySource(name, clock)

    async def story() -> float:
        inbox = inbox_of(queue, clock)
        running = asyncio.create_task(inbox.run())
        await queue.send([Draft("body", group_id="g", dedup_id="d")])
        (received,) = await inbox.receive(10, 1)
        began = clock.now
        inbox.opened(received, 0)
        await inbox.drained()
        running.cancel()
        return clock.now - began

    assert play(clock, story()) == pytest.approx(after_s)
