"""What SQS may do to a queue that a router reads, and how the router goes on. docs/explanation/failures.md lists it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from router.adapters.memory import MemorySource
from router.core.errors import SourceMissingError, SourceUnavailableError
from router.core.models import Message
from router.core.telemetry import QueueFaulty, QueueWell
from router.ports import Clock
from tests.support.fake_clock import play
from tests.support.router_world import World

CAP_S = 120.0
"""Stands for the 12 h that SQS hides a message at most, counted from its receipt."""


class Queue(MemorySource):
    """A queue that hides no message for longer than CAP_S, fails as it is told, and counts its receives."""

    fault: SourceUnavailableError | None = None
    receives = 0
    refused = 0

    def __init__(self, name: str, clock: Clock) -> None:
        super().__init__(name, clock)
        self._received_at: dict[str, float] = {}

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        """Note when each message was received, for the cap."""
        self.receives += 1
        if self.fault is not None:
            raise self.fault
        found = await super().receive(max_messages, wait_s, visibility_s)
        self._received_at |= dict.fromkeys([message.receipt for message in found], self._clock.monotonic())
        return found

    async def set_visibility(self, messages: Sequence[Message], seconds: int) -> None:
        """Refuse what would hide a message for too long, which is an entry's own failure."""
        until = self._clock.monotonic() + seconds
        allowed = [message for message in messages if until <= self._received_at[message.receipt] + CAP_S]
        self.refused += len(messages) - len(allowed)
        await super().set_visibility(allowed, seconds)

    def purge(self) -> None:
        """Delete everything, also what is hidden."""
        for stored in self._stored.values():
            stored.deleted = True
        self._stored.clear()


def world_of() -> tuple[World, Queue]:
    """A world with such a source queue."""
    world = World(cells=2)
    world.source = source = Queue("source", world.clock)
    return world, source


def test_an_event_that_takes_longer_than_a_message_can_be_hidden_is_done_once() -> None:
    """The message comes again, to this router or to another one; both know it, or its cell does."""
    world, source = world_of()
    for cell in world.cells.cells.values():
        cell.time_of_event = lambda event: 2.5 * CAP_S if event.event_id == "e0" else 0.01

    async def story() -> None:
        async with world.routing("a"), world.routing("b"):
            await world.send(10)
            await world.settled()
            assert source.refused > 0

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert len(world.dead) == 0


@pytest.mark.parametrize("which", ["source", "hold"])
@pytest.mark.parametrize(
    "fault",
    [
        SourceMissingError("QueueDoesNotExist"),
        SourceUnavailableError("OverLimit: too many messages in flight"),
        SourceUnavailableError("KmsThrottled"),
    ],
    ids=str,
)
def test_a_queue_that_cant_be_received_from_is_asked_seldom_and_told_of_once(
    which: str, fault: SourceUnavailableError
) -> None:
    """For ten minutes; soon afterwards all is done. A missing one may be deleted and made again within a minute."""
    world, source = world_of()
    if which == "hold":
        source = Queue("hold", world.clock)
        world.holds["cell-0000"] = source

    async def story() -> None:
        async with world.routing():
            await world.send(50)
            await world.clock.sleep(30)
            source.fault, source.receives = fault, 0
            await world.send(50)
            await world.clock.sleep(600)
            asked, source.fault = source.receives, None
            assert asked < (300 if which == "source" else 330)
            await world.settled(30)
            await world.clock.sleep(30)

    play(world.clock, story())
    told = [record for record in world.notes.records if isinstance(record, (QueueFaulty, QueueWell))]
    assert told == [QueueFaulty(source.name, isinstance(fault, SourceMissingError), str(fault)), QueueWell(source.name)]
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))


def test_a_purge_takes_what_waits_and_nothing_else() -> None:
    """What a router has is done all the same. Its deletes come to nothing, and later events are done as ever."""
    world, source = world_of()
    for cell in world.cells.cells.values():
        cell.seconds = 5.0

    async def story() -> None:
        async with world.routing():
            await world.send(20)
            await world.clock.sleep(1)
            source.purge()
            await world.clock.sleep(1)
            await world.send(20)
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert world.notes.count(QueueFaulty) == 0
