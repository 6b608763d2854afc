"""Entries that are too long for one message, and destinations that take shorter ones, on virtual time."""

from __future__ import annotations

from base64 import b64encode
from hashlib import shake_256

import pytest

from router.core.messages.dead_letter import Filter, of_message, to_drafts
from router.core.models import Message
from tests.support.dead_letter_world import Queue, World, ids

LONG = of_message(
    Message("m", "r", b64encode(shake_256().digest(700_000)).decode(), 1, 1, {"a": "b"}, binaries={"c": b"\xff"}),
    reason="malformed",
    error="no",
    source="source",
    dead_at_ms=1,
)


@pytest.fixture
def world() -> World:
    """A new dead-letter world."""
    return World()


def test_an_entry_in_parts_is_one_entry(world: World) -> None:
    """It is shown once, redriven as one message, and all its parts are deleted."""

    async def story() -> None:
        drafts = to_drafts(LONG, 256 * 1024)
        assert len(drafts) > 2
        await world.dead.send(drafts)
        await world.bury(3)
        await world.look()
        assert [entry.name for entry in world.shown if entry.is_event] == ids(3)
        assert [entry.letter for entry in world.shown if not entry.is_event] == [LONG]
        assert (await world.redrive(Filter(reason="malformed"))).done == 1
        assert len(world.dead) == 3
        (draft,) = (draft for _, draft in world.source.sent)
        assert (draft.body, draft.attributes, draft.binaries) == (LONG.body, LONG.attributes, LONG.binaries)

    world.play(story())


def test_a_part_without_the_others_can_only_be_dropped(world: World) -> None:
    """A redrive says that the others were not found, and leaves it."""

    async def story() -> None:
        await world.dead.send(to_drafts(LONG, 256 * 1024)[1:])
        parts = len(world.dead)
        tally = await world.redrive()
        assert (tally.done, tally.failed, world.source.sent) == (0, parts, [])
        assert {step.detail for step in world.steps} == {"the other parts of its envelope were not found"}
        assert (await world.drop(Filter(reason="incomplete"))).done == parts
        assert len(world.dead) == 0

    world.play(story())


def test_a_redrive_asks_its_destination_how_long_a_message_may_be(world: World) -> None:
    """An event that doesn't fit there as a body goes in an attribute."""
    world.source = world.queues["source"] = Queue("source", world.clock, 256 * 1024)

    async def story() -> None:
        await world.bury(1, body=b'{"x": "' + b"y" * 300_000 + b'"}')
        assert (await world.redrive()).done == 1
        (draft,) = (draft for _, draft in world.source.sent)
        assert draft.size < 256 * 1024

    world.play(story())
