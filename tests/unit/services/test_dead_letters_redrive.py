"""Redriving and dropping dead letters, on virtual time."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from router.core.errors import SourceUnavailableError
from router.core.messages.dead_letter import Filter
from router.core.models import Draft, Message
from router.services import queue_scan
from tests.support.dead_letter_world import CrashError, World, ids


@pytest.fixture
def world() -> World:
    """A new dead-letter world."""
    return World()


def test_a_redrive_sends_and_deletes(world: World) -> None:
    """All 25 arrive under their own ids; the dead-letter queue is empty."""

    async def story() -> None:
        await world.bury(25)
        tally = await world.redrive()
        assert sorted(world.arrived()) == ids(25)
        assert (tally.done, tally.failed, tally.left, len(world.dead)) == (25, 0, 0, 0)
        assert {step.kind for step in world.steps} == {"done"}

    world.play(story())


def test_a_redrive_takes_only_what_matches(world: World) -> None:
    """Entries that don't match are visible again."""

    async def story() -> None:
        await world.bury(20)
        tally = await world.redrive(Filter(key="key-1", limit=7))
        assert (tally.done, len(world.dead), world.dead.visible()) == (7, 13, 13)
        tally = await world.redrive(Filter(newer_than_s=int(5.5 * 3600)))
        assert (tally.done, tally.other, tally.left) == (3, 10, 10)  # e0, e2, e4; the odd ones are gone

    world.play(story())


def test_an_entry_is_there_until_it_was_sent(world: World) -> None:
    """A crash between send and delete: it is still there, and the second run sends the same event again."""

    def crash() -> None:
        raise CrashError

    async def story() -> None:
        await world.bury(1)
        world.dead.on_delete = crash
        with pytest.raises(CrashError):
            await world.redrive()
        assert (len(world.dead), world.arrived()) == (1, ["e0"])
        world.dead.on_delete = lambda: None
        await world.redrive()
        assert (len(world.dead), world.arrived()) == (0, ["e0", "e0"])

    world.play(story())


def test_nothing_is_deleted_before_it_was_taken(world: World) -> None:
    """Whenever an entry is deleted, the source has it already."""

    async def story() -> None:
        await world.bury(30)
        world.dead.on_delete = lambda: seen.append(len(world.source.sent) + len(world.dead))
        await world.redrive(rate=1000)
        assert len(seen) == 3
        assert min(seen) > 30  # some are in both, none in neither

    seen: list[int] = []
    world.play(story())


def test_a_failed_send_leaves_the_entry(world: World) -> None:
    """What the destination refuses stays, visible, and is named; the others go."""

    async def story() -> None:
        await world.bury(20)
        world.source.refuses = lambda draft: draft.attributes["event_id"] in ("e3", "e14")
        tally = await world.redrive()
        assert (tally.done, tally.failed, tally.left) == (18, 2, 2)
        assert world.dead.visible() == 2
        assert sorted(step.entry.name for step in world.steps if step.kind == "failed") == ["e14", "e3"]

    world.play(story())


def test_one_that_makes_its_call_fail_keeps_no_other_back(world: World) -> None:
    """After a failed call each entry is tried alone."""

    async def story() -> None:
        await world.bury(10)
        world.source.fails_with = lambda draft: draft.attributes["event_id"] == "e3"
        tally = await world.redrive()
        assert (tally.done, tally.failed) == (9, 1)
        assert len(world.source.calls) == 11

    world.play(story())


def test_a_destination_that_is_down_is_given_up(world: World) -> None:
    """A destination that is down is not tried hundreds of times; entries for other queues go on."""

    async def story() -> None:
        await world.bury(200)
        await world.bury(10, source="another")
        world.source.fails_with = lambda _: True
        tally = await world.redrive()
        assert (tally.done, tally.failed, tally.left) == (10, 200, 200)
        assert len(world.source.calls) < 20
        assert world.dead.visible() == 200
        assert len(world.open("another").sent) == 10

    world.play(story())


def test_an_entry_that_cannot_be_deleted_is_not_sent_twice(world: World) -> None:
    """It counts as failed, and says that it is in both queues; seen again in this run, it is only deleted."""

    def fail() -> None:
        raise SourceUnavailableError("no delete today")

    async def story() -> None:
        await world.bury(1)
        world.dead.on_delete = fail
        tally = await world.redrive()
        assert (tally.done, tally.failed, tally.left, len(world.source.sent)) == (0, 1, 1, 1)
        assert "twice" in world.steps[0].detail

    world.play(story())


def test_an_entry_that_comes_again_after_its_delete_failed_is_deleted(world: World) -> None:
    """The entry is deleted, and not sent once more."""

    async def story() -> None:
        await world.bury(20)
        failures = iter(range(queue_scan.DELETE_TRIES))

        def fail() -> None:
            if next(failures, None) is not None:
                raise SourceUnavailableError("not now")
            for stored in [*world.dead._stored.values()]:
                world.dead._hide_until(stored, 0)

        world.dead.on_delete = fail
        await world.redrive()
        assert (len(world.source.sent), len(world.dead)) == (20, 0)

    world.play(story())


def test_an_entry_that_comes_again_though_it_was_deleted_is_not_sent_again(world: World) -> None:
    """SQS may keep a copy on a server that could not be reached."""

    async def story() -> None:
        await world.bury(12)
        copies = [(await world.dead.receive(10, 0, 0))[0]]
        receive = world.dead.receive

        async def and_a_copy(max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
            messages = await receive(max_messages, wait_s, visibility_s)
            return messages or [copies.pop() for _ in copies[:1]]

        world.dead.receive = and_a_copy  # type: ignore[method-assign] # a queue as SQS may be
        tally = await world.redrive()
        assert (tally.done, tally.left, len(world.source.sent), copies) == (12, 0, 12, [])

    world.play(story())


def test_the_rate_is_kept(world: World) -> None:
    """Fifty at ten a second take five seconds, evenly."""

    async def story() -> None:
        await world.bury(50)
        await world.redrive(rate=10)
        times = [at for at, _ in world.source.sent]
        assert 4.8 <= times[-1] - times[0] <= 5.2
        assert max(later - earlier for earlier, later in pairwise(times)) < 0.3

    world.play(story())


def test_a_high_rate_is_kept_in_batches(world: World) -> None:
    """A thousand entries at two hundred a second take five seconds."""

    async def story() -> None:
        await world.bury(1000)
        await world.redrive(rate=200)
        times = [at for at, _ in world.source.sent]
        assert 4.8 <= times[-1] - times[0] <= 5.2
        assert set(world.source.calls) == {10}

    world.play(story())


def test_ctrl_c_in_a_redrive_ends_between_two_entries(world: World) -> None:
    """What was sent is deleted too; the rest is visible; nothing is in both."""

    async def story() -> None:
        await world.bury(50)
        world.source.reply_s = 0.05
        redriving = asyncio.create_task(world.redrive(rate=10))
        while len(world.source.sent) < 20:
            await world.clock.sleep(0.01)
        redriving.cancel()  # while the source's reply is on its way
        with pytest.raises(asyncio.CancelledError):
            await redriving
        assert len(world.source.sent) == 20
        assert len(world.dead) == world.dead.visible() == 30

    world.play(story())


def test_what_dies_again_meanwhile_is_not_redriven_again(world: World) -> None:
    """Otherwise the redrive of a poison event would never end."""

    async def story() -> None:
        await world.bury(20)

        async def die_again() -> None:
            sent = 0
            while True:
                await world.clock.sleep(0.05)
                await world.bury(len(world.source.sent) - sent)
                sent = len(world.source.sent)

        dying = asyncio.create_task(die_again())
        tally = await world.redrive(rate=10)
        dying.cancel()
        assert (tally.done, tally.newer, len(world.source.sent)) == (20, 20, 20)
        assert world.dead.visible() == 20

    world.play(story())


def test_a_queue_that_grows_all_the_time_does_not_keep_a_redrive_from_ending(world: World) -> None:
    """Entries that come after the start don't keep the run going."""

    async def story() -> None:
        await world.bury(5)

        async def grow() -> None:
            while True:
                await world.clock.sleep(0.3)
                await world.bury(1)

        growing = asyncio.create_task(grow())
        tally = await world.redrive()
        growing.cancel()
        assert tally.done == 5

    world.play(story())


def test_a_dry_run_changes_nothing(world: World) -> None:
    """It names what a run would send, and where to; a run then does just that."""

    async def story() -> None:
        await world.bury(12)
        await world.bury(3, source="another")
        for run in (world.redrive, world.drop):
            tally = await run(Filter(key="key-0"), dry_run=True)
            assert (tally.done, tally.failed, tally.left) == (8, 0, 15)
        assert (world.dead.visible(), len(world.dead), world.source.sent) == (15, 15, [])
        would = [(step.entry.name, step.detail) for step in world.steps if step.kind == "would"][:8]
        world.steps.clear()
        await world.redrive(Filter(key="key-0"))
        assert sorted((step.entry.name, step.detail) for step in world.steps) == sorted(would)
        assert {detail for _, detail in would} == {"to source", "to another"}

    world.play(story())


def test_a_drop_deletes_what_matches(world: World) -> None:
    """A drop deletes what matches, and sends nothing."""

    async def story() -> None:
        await world.bury(20)
        tally = await world.drop(Filter(key="key-1"))
        assert (tally.done, tally.failed, tally.left) == (10, 0, 10)
        assert (len(world.dead), world.dead.visible(), world.source.sent) == (10, 10, [])

    world.play(story())


def test_a_drop_that_fails_says_so(world: World) -> None:
    """The entry stays and counts as failed."""

    def fail() -> None:
        raise SourceUnavailableError("no delete today")

    async def story() -> None:
        await world.bury(3)
        world.dead.on_delete = fail
        tally = await world.drop()
        assert (tally.done, tally.failed, tally.left) == (0, 3, 3)
        assert world.dead.visible() == 3

    world.play(story())


def test_somebody_elses_message_is_listed_and_goes_to_the_source(world: World) -> None:
    """It goes to the source as SQS's own redrive leaves it, with body and attributes unchanged."""

    async def story() -> None:
        await world.dead.send([Draft('{"tenant": "t"}', {"event_id": "e"}), Draft("no JSON")])
        await world.look(Filter(reason="foreign"))
        assert len(world.shown) == 2
        await world.drop(Filter(any_id=next(e for e in world.shown if e.message.body == "no JSON").name))
        await world.redrive(Filter(reason="foreign"))
        (draft,) = [draft for _, draft in world.source.sent]
        assert (draft.body, draft.attributes) == ('{"tenant": "t"}', {"event_id": "e"})
        assert len(world.dead) == 0

    world.play(story())


def test_to_a_fifo_source_goes_what_it_takes() -> None:
    """The message gets a group and a deduplication id; a repeated redrive of the same death arrives once."""
    world = World("source.fifo")

    def crash() -> None:
        raise CrashError

    async def story() -> None:
        await world.bury(10)
        world.dead.on_delete = crash
        with pytest.raises(CrashError):
            await world.redrive()
        world.dead.on_delete = lambda: None
        tally = await world.redrive()
        assert (tally.done, tally.failed) == (10, 0)
        assert len(world.source) == 10
        assert {draft.group_id for _, draft in world.source.sent} == {"key-0", "key-1"}

    world.play(story())


def test_an_entry_is_never_sent_to_where_it_lies(world: World) -> None:
    """An envelope that names the dead-letter queue as its source would otherwise go round for ever."""

    async def story() -> None:
        await world.bury(1, source="dead")
        for dry_run in (True, False):
            tally = await world.redrive(dry_run=dry_run)
            assert (tally.done, tally.failed, tally.left) == (0, 1, 1)
        assert len(world.dead.sent) == 1

    world.play(story())
