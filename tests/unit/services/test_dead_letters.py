"""Looking through the dead-letter queue and leaving it as it was, on virtual time."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Sequence

import pytest

from router.adapters.memory import MemorySource
from router.core.errors import SourceUnavailableError
from router.core.messages.dead_letter import Entry, Filter
from router.core.models import Depth, Message
from router.services import queue_scan
from router.services.dead_letters import DeadLetters
from router.services.queue_scan import HIDDEN_S
from tests.support.attribute_keys import KEYS
from tests.support.dead_letter_world import ALL, Queue, World, ids


@pytest.fixture
def world() -> World:
    """A new dead-letter world."""
    return World()


def test_a_look_meets_each_once_and_leaves_all(world: World) -> None:
    """All 25 entries are shown once, and right afterwards all are visible again."""

    async def story() -> None:
        await world.bury(25)
        await world.look()
        assert sorted(entry.name for entry in world.shown) == ids(25)
        assert (world.tally.done, world.tally.left, world.tally.unreleased) == (25, 25, 0)
        assert world.dead.visible() == 25

    world.play(story())


@pytest.mark.parametrize(("countable", "receives"), [(True, 1), (False, 3)])
def test_an_empty_queue_is_soon_known_to_be_empty(
    world: World, monkeypatch: pytest.MonkeyPatch, receives: int, *, countable: bool
) -> None:
    """After one receive, if SQS counts nothing either; where it may not be asked, after some more."""

    async def denied() -> Depth:
        raise SourceUnavailableError("access denied")

    if not countable:
        monkeypatch.setattr(world.dead, "depth", denied)
    world.play(world.look())
    assert (world.dead.receives, world.shown) == (receives, [])


def test_a_message_that_is_delivered_twice_is_met_once(world: World) -> None:
    """The queue delivers at least once; what is met again is still released, by its newest receipt."""

    async def story() -> None:
        await world.bury(5)

        def deliver_again() -> None:
            if world.dead.receives < 10:
                for stored in [*world.dead._stored.values()][:2]:
                    world.dead._hide_until(stored, 0)

        world.dead.on_receive = deliver_again
        await world.look()
        assert sorted(entry.name for entry in world.shown) == ids(5)
        assert world.dead.receives >= 10
        assert world.dead.visible() == 5

    world.play(story())


def test_an_early_empty_receive_does_not_end_it(world: World) -> None:
    """SQS and LocalStack may say that there is nothing when there is."""

    async def story() -> None:
        await world.bury(25)
        receive = MemorySource.receive

        async def sometimes(max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
            world.dead.receives += 1
            if world.dead.receives % 3:
                return []
            return await receive(world.dead, max_messages, wait_s, visibility_s)

        world.dead.receive = sometimes  # type: ignore[method-assign] # it lies
        await world.look()
        assert len(world.shown) == 25

    world.play(story())


def test_a_limit_ends_it_early(world: World) -> None:
    """With a limit, a look ends before it has seen the whole queue."""

    async def story() -> None:
        await world.bury(500)
        await world.look(Filter(limit=12))
        assert len(world.shown) == 12
        assert world.dead.receives == 2
        assert world.dead.visible() == 500

    world.play(story())


@pytest.mark.parametrize("error", [BrokenPipeError, asyncio.CancelledError])
def test_what_was_hidden_is_visible_again_when_it_is_cut_short(world: World, error: type[BaseException]) -> None:
    """Ctrl-C or a closed pipe in the middle of a list leaves nothing hidden."""

    def show(entry: Entry) -> None:
        if entry.name == "e14":
            raise error

    async def story() -> None:
        await world.bury(30)
        with pytest.raises(error):
            await world.letters.look(ALL, world.tally, show)
        assert world.dead.visible() == 30

    world.play(story())


def test_ctrl_c_while_a_receive_is_open_leaves_nothing_hidden(world: World) -> None:
    """What the queue has handed out and has not arrived yet is waited for, and released."""

    async def story() -> None:
        await world.bury(5)
        world.dead.reply_s = 0.5
        looking = asyncio.create_task(world.look())
        while world.dead.visible():
            await world.clock.sleep(0.01)
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
        assert not world.shown
        assert world.dead.visible() == len(world.dead) == 5

    world.play(story())


def test_an_outage_while_looking_is_waited_out(world: World) -> None:
    """A failed receive is tried again; a queue that was never there is an error at once."""

    async def story() -> None:
        world.dead.down = True
        started = world.clock.monotonic()
        with pytest.raises(SourceUnavailableError):
            await world.look()
        assert world.clock.monotonic() == started
        world.dead.down = False
        await world.bury(15)

        def outage() -> None:
            world.dead.down = world.dead.receives in (3, 4)

        world.dead.on_receive = outage
        await world.look()
        assert len(world.shown) == 15

    world.play(story())


def test_what_cannot_be_released_is_said(world: World) -> None:
    """What can't be released comes back by itself when its visibility timeout ends."""

    async def story() -> None:
        await world.bury(15)

        def show(_: Entry) -> None:
            world.dead.down = True

        with pytest.raises(SourceUnavailableError):
            await world.letters.look(ALL, world.tally, show)
        assert (world.tally.left, world.tally.unreleased) == (10, 10)
        await world.clock.sleep(HIDDEN_S)
        assert world.dead.visible() == 15

    world.play(story())


def test_a_long_run_keeps_hidden_what_it_has_seen(world: World) -> None:
    """Otherwise a second operator would get it, and this run would never find the queue empty."""

    async def story() -> None:
        await world.bury(40)
        redriving = asyncio.create_task(world.redrive(Filter(key="key-1"), rate=0.01))
        await world.clock.sleep(HIDDEN_S * 3.3)
        assert world.source.sent
        seen = world.dead.receives * 10
        assert world.dead.visible() == 40 - seen
        tally = await redriving
        assert (tally.done, tally.left) == (20, 20)
        assert world.dead.visible() == 20

    world.play(story())


def test_bodies_are_not_kept(world: World) -> None:
    """Ten thousand entries of 20 kB: 200 MB would be held; receipts and ids are a few."""

    class Endless(Queue):
        async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
            first, self.receives = self.receives * 10, self.receives + 1
            if first >= 10_000:
                return []
            return [Message(f"m{first + i}", f"receipt-{first + i}", "x" * 20_000, 1, 1) for i in range(10)]

        async def set_visibility(self, messages: Sequence[Message], seconds: int) -> None:
            if seconds == 0:
                released.update(message.message_id for message in messages)

    async def story() -> None:
        queue = Endless("endless", world.clock)
        letters = DeadLetters(queue, "source", lambda *_: True, world.open, KEYS, world.clock)
        tracemalloc.start()
        await letters.look(ALL, world.tally, lambda _: None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (world.tally.done, len(released)) == (10_000, 10_000)
        assert peak < 12_000_000

    released: set[str] = set()
    world.play(story())


def test_it_stops_before_sqs_hides_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 120 000 hidden messages SQS says that the queue is empty: that must not look like the end."""
    monkeypatch.setattr(queue_scan, "MAX_HIDDEN", 20)

    async def story() -> None:
        await world.bury(45)
        await world.look()
        assert (world.tally.full, len(world.shown)) == (True, 20)
        tally = await world.redrive()  # takes out what it finds, and so is never full
        assert (tally.full, tally.done) == (False, 45)

    world.play(story())
