"""Events that are put off for ever have an end, and events of an outage wait for its end, however long it lasts."""

from __future__ import annotations

import pytest

from router.core.models import DeadLetterReason, Event, Outcome
from tests.support.fake_clock import play
from tests.support.router_world import World

HOURS = 3600.0


@pytest.mark.parametrize("fifo", [False, True])
def test_an_event_that_alone_is_put_off_for_ever_is_dead_lettered(fifo: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its neighbours are processed all the time; it looks like infrastructure and is not. Its key goes on."""
    monkeypatch.setattr("router.core.lanes.retry.LONE_S", 600)
    monkeypatch.setattr("router.core.lanes.retry.LONE_RETRIES", 5)
    world = World(cells=1, max_attempts=3, fifo=fifo)
    keys = world.keys_of("cell-0000", 8)

    def behaviour(event: Event) -> Outcome:
        return Outcome.RETRY if event.event_id == "e3" else Outcome.OK

    world.cells.cells["cell-0000"].behaviour = behaviour

    async def story() -> None:
        async with world.routing():
            for _ in range(20):
                await world.send(8, key=lambda i: keys[i % 8])
                await world.clock.sleep(60)
            await world.settled()
        (letter,) = await world.dead_letters()
        assert (letter.event_id, letter.reason) == ("e3", DeadLetterReason.MAX_ATTEMPTS)
        assert "so infrastructure is not to blame" in letter.error

    play(world.clock, story())
    assert world.cells.effects().keys() == world.sent - {"e3"}


@pytest.mark.parametrize("share", [1, 3], ids=["of all", "of every third event"])
def test_no_outage_dead_letters_an_event_however_long_it_lasts(share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it lasts, events of many keys are put off, so none of them is to blame."""
    monkeypatch.setattr("router.core.lanes.retry.LONE_S", 600)
    monkeypatch.setattr("router.core.lanes.retry.LONE_RETRIES", 5)
    world = World(cells=1, max_attempts=3)
    keys, down = world.keys_of("cell-0000", 8), [True]

    def behaviour(event: Event) -> Outcome:
        return Outcome.RETRY if down[0] and int(event.event_id[1:]) % share == 0 else Outcome.OK

    world.cells.cells["cell-0000"].behaviour = behaviour

    async def story() -> None:
        async with world.routing():
            for _ in range(25):
                await world.send(4, key=lambda i: keys[i % 8])
                await world.clock.sleep(60)
            down[0] = False
            await world.settled()

    play(world.clock, story())
    assert len(world.dead) == 0
    assert world.cells.effects().keys() == world.sent
