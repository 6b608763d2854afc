"""Messages that hold no event, and are no fault either: what services send about their own set-up."""

from __future__ import annotations

import json
from collections import Counter

from router.core.messages.shapes import TEST_TEXT
from router.core.telemetry import SetupMessageSeen, SubscriptionUnconfirmed
from tests.support.aws_messages import S3_TEST, SUBSCRIPTION, by_sns
from tests.support.fake_clock import play
from tests.support.router_world import World


def test_messages_about_a_set_up_are_deleted_and_said_once() -> None:
    """S3's and CloudTrail's: no error, no dead letter, and one line however many there are."""
    world = World()

    async def story() -> None:
        async with world.routing():
            for body in (json.dumps(S3_TEST), by_sns(json.dumps(S3_TEST)), TEST_TEXT, by_sns(TEST_TEXT)):
                await world.send_raw(body, group="g")
            await world.send(1)
            await world.settled()
        assert not await world.dead_letters()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert [note for note in world.notes.records if isinstance(note, SetupMessageSeen)] == [SetupMessageSeen("source")]


def test_snss_question_about_a_subscription_is_said_and_kept() -> None:
    """An operator is told what to do, and the dead letter has the token for it."""
    world = World()

    async def story() -> None:
        async with world.routing():
            await world.send_raw(json.dumps(SUBSCRIPTION), group="g")
            await world.settled()
        (letter,) = await world.dead_letters()
        assert json.loads(letter.body) == SUBSCRIPTION
        told = [note.why for note in world.notes.records if isinstance(note, SubscriptionUnconfirmed)]
        assert told == [letter.error]
        assert "aws sns confirm-subscription" in letter.error

    play(world.clock, story())
