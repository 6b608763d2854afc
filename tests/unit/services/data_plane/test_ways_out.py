"""Every event can be dead-lettered, whatever it is made of, and its handler runs no oftener than it may."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from hashlib import shake_256

import pytest

from router.core.errors import SourceDeniedError, SourceUnavailableError
from router.core.models import Draft, Event, Outcome
from router.core.telemetry import EventDeadLettered
from tests.support.fake_clock import play
from tests.support.router_world import World
from tests.support.strict_sqs import StrictSource

KIB = 1024
RANDOM = b64encode(shake_256().digest(700 * KIB)).decode()
INNER = '{"tenant": "t", "x": "\uffff"}'
HARDLY_COMPRESSES = Draft(json.dumps({"tenant": "t", "x": RANDOM}))
DRAFTS = {
    "hardly compresses": HARDLY_COMPRESSES,
    "quotes in an attribute": Draft('{"tenant": "t"}', {"quotes": '"' * 600_000}),
    "a key that SQS refuses": Draft(r'{"tenant": "\ufffe\uffff\u0001", "id": "\uffff"}'),
    "what SQS refuses, once unwrapped": Draft(json.dumps({"TopicArn": "t", "Message": INNER})),
    "no event": Draft("\x7f" + RANDOM, {"quotes": "'\""}),
    "attributes of every type": Draft(
        '{"tenant": "t"}',
        {"n": "-1.50", "traceparent": "00-1-2-01"},
        types={"n": "Number.int", "b": "Binary.png"},
        binaries={"b": shake_256().digest(500 * KIB)},
        trace_header="Root=1-5759e988-bd862e3fe1be46a994272793",
        group_id="fair",
    ),
}


class Silent(StrictSource):
    """A queue that nobody may ask how long a message may be."""

    async def max_bytes(self) -> int:
        raise SourceDeniedError("no")


class Refusing(StrictSource):
    """A queue that takes no message while it refuses."""

    refuses = True

    async def send(self, drafts: list[Draft]) -> list[int]:  # type: ignore[override] # what a router sends
        return list(range(len(drafts))) if self.refuses else await super().send(drafts)


def strict(max_bytes: int, *, fifo: bool = False) -> World:
    """A world whose side queues take no more than SQS does, and no longer messages than that."""
    world = World(cells=1, max_attempts=3, fifo=fifo)
    world.dead = StrictSource("dead", world.clock, max_bytes)
    world.quarantine = StrictSource("quarantine", world.clock, max_bytes)
    world.holds = {cell: StrictSource(f"hold-{cell}", world.clock, max_bytes) for cell in world.cell_ids}
    return world


def failing(world: World) -> list[Event]:
    """Let every handler fail; returns the list of what handlers get."""
    given: list[Event] = []

    def behaviour(event: Event) -> Outcome:
        given.append(event)
        return Outcome.FAILED

    world.cells.cells["cell-0000"].behaviour = behaviour
    return given


@pytest.mark.parametrize("max_bytes", [256 * KIB, 1024 * KIB])
@pytest.mark.parametrize("name", DRAFTS)
def test_every_message_ends_in_the_dead_letter_queue(name: str, max_bytes: int) -> None:
    """After as many attempts as it may have, and with all that came; each time the handler is given the same."""
    world, draft = strict(max_bytes), DRAFTS[name]
    given = failing(world)

    async def story() -> None:
        async with world.routing():
            await world.source.send([draft])
            await world.settled(3600)
        (letter,) = await world.dead_letters()
        assert [event.attempt for event in given] == ([] if name == "no event" else [1, 2, 3])
        assert letter.attempts == len(given)
        assert letter.original == (given[0].body.decode() if given else draft.body)
        assert (letter.attributes, letter.types, letter.binaries) == (draft.attributes, draft.types, draft.binaries)
        assert (letter.trace_header, letter.group_id) == (draft.trace_header, draft.group_id or "")
        for event in given:
            assert event.origin == given[0].origin
            assert event.body == given[0].body
        assert world.notes.count(EventDeadLettered) == 1

    play(world.clock, story())


@pytest.mark.parametrize("fifo", [False, True])
@pytest.mark.parametrize("how", ["refused", "out of reach"])
def test_a_dead_letter_queue_that_takes_nothing_makes_no_handler_run_again(how: str, fifo: bool) -> None:
    """For 15 min. Nothing counts as dead-lettered meanwhile; afterwards the event is, with its first error."""
    world = World(cells=1, max_attempts=3, fifo=fifo)
    takes_nothing = [True]

    class Dead(StrictSource):
        """Refuses each message, or every call."""

        async def send(self, drafts: list[Draft]) -> list[int]:  # type: ignore[override] # what a router sends
            if takes_nothing[0] and how == "out of reach":
                raise SourceUnavailableError("no")
            return list(range(len(drafts))) if takes_nothing[0] else await super().send(drafts)

    world.dead = Dead("dead", world.clock)
    given = failing(world)

    async def story() -> None:
        async with world.routing():
            await world.send(1)
            await world.clock.sleep(900)
            assert [event.attempt for event in given] == [1, 2, 3]
            assert world.notes.count(EventDeadLettered) == 0
            takes_nothing[0] = False
            await world.settled()
        (letter,) = await world.dead_letters()
        assert (letter.error, letter.attempts, letter.cell_id) == ("said failed", 3, "cell-0000")
        assert world.notes.count(EventDeadLettered) == 1
        assert len(given) == 3

    play(world.clock, story())


@pytest.mark.parametrize("fifo", [False, True])
@pytest.mark.parametrize("how", ["drained", "killed"])
def test_a_dead_letter_queue_that_takes_nothing_makes_no_other_router_run_a_handler(how: str, fifo: bool) -> None:
    """Four routers one after the other, each for three minutes; then the letter says how the event died at the first.

    Those that are drained are told to stop at once after the last attempt, those that are killed when it is known.
    """
    world = World(cells=1, max_attempts=3, fifo=fifo)
    dead = world.dead = Refusing("dead", world.clock)
    given = failing(world)

    async def one_router(seconds: float) -> None:
        stop, router = asyncio.Event(), world.router()
        running = asyncio.create_task(router.run(stop))
        while len(given) < 3:
            await world.clock.sleep(0.1)
        await world.clock.sleep(seconds)
        stop.set() if how == "drained" else running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def story() -> None:
        await world.send(1)
        await one_router(0 if how == "drained" else 60)
        for _ in range(3):
            await one_router(180)
        assert [event.attempt for event in given] == [1, 2, 3]
        assert world.notes.count(EventDeadLettered) == 0
        dead.refuses = False
        async with world.routing():
            await world.settled()
        (letter,) = await world.dead_letters()
        assert (letter.reason, letter.error, letter.attempts) == ("max_attempts", "said failed", 3)
        assert (letter.group_id, letter.dedup_id) == (("tenant-0", "e0") if fifo else ("", ""))
        assert letter.dead_at_ms < letter.sent_at_ms + 60_000
        assert len(given) == 3

    play(world.clock, story())


def test_a_group_goes_on_though_the_dead_letter_queue_takes_nothing() -> None:
    """Whoever is dead waits elsewhere: the events behind it come in their order, and none of them before its death."""
    world = World(cells=1, max_attempts=3, fifo=True)
    world.dead = Refusing("dead", world.clock)
    cell = world.cells.cells["cell-0000"]
    cell.behaviour = lambda event: Outcome.FAILED if event.event_id == "e1" else Outcome.OK

    async def story() -> None:
        async with world.routing():
            await world.send(5, key=lambda _: "one group")
            await world.clock.sleep(300)
            assert [name for name in cell.order if name != "e1"] == ["e0", "e2", "e3", "e4"]
            assert (len(world.source), len(world.holds["cell-0000"])) == (0, 1)

    play(world.clock, story())


def test_a_limit_that_may_not_be_asked_for_is_found() -> None:
    """A dead-letter queue of 20 KiB that says nothing about itself: refused letters get shorter until they fit."""
    world = World(cells=1, max_attempts=1)
    world.dead = Silent("dead", world.clock, 20 * KIB)
    given = failing(world)

    async def story() -> None:
        async with world.routing():
            await world.source.send([HARDLY_COMPRESSES])
            await world.settled(3600)
        (letter,) = await world.dead_letters()
        assert letter.body == HARDLY_COMPRESSES.body
        assert len(given) == 1

    play(world.clock, story())


def test_what_fits_in_no_hold_queue_is_counted_in_its_own() -> None:
    """An event of 900 KiB, before hold queues of 256 KiB: its attempts end, and it is in none of them."""
    world = strict(256 * KIB)
    given = failing(world)

    async def story() -> None:
        async with world.routing():
            await world.source.send([HARDLY_COMPRESSES])
            await world.settled(3600)
        assert [event.attempt for event in given] == [1, 2, 3]
        assert len(await world.dead_letters()) == 1

    play(world.clock, story())
