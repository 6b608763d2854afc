"""Keys that kill their cell, or always fail, are isolated, and their cell goes on."""

from __future__ import annotations

from collections import Counter

import pytest

from router.core.models import Event, Outcome
from router.core.policy import Policy
from router.core.registry import AuditEntry
from router.core.telemetry import KeyQuarantined
from tests.support.fake_clock import play
from tests.support.router_world import World


def quarantined(world: World) -> set[str]:
    """The keys that the router says it has put in quarantine."""
    return {record.key for record in world.notes.records if isinstance(record, KeyQuarantined)}


def test_a_key_that_kills_two_instances_is_quarantined_and_no_other() -> None:
    """All other keys of its cell are processed once; the cell has died twice, not more; the key's events wait."""
    world = World(cells=2)
    victim = world.cell_ids[0]
    keys = world.keys_of(victim, 12)
    world.cells.cells[victim].kills = {keys[3]}

    async def story() -> None:
        await world.send(240, key=lambda i: keys[i % 12])
        async with world.replacing(), world.routing():
            await world.settled()
            await world.send(24, key=lambda i: keys[i % 12])
            await world.settled()
        assert len(world.quarantine) == 22

    play(world.clock, story())
    assert quarantined(world) == {keys[3]} == set(world.registry.decided.quarantined)
    assert world.cells.cells[victim].deaths == 2
    poisoned = {f"e{i}" for i in range(264) if (i if i < 240 else i - 240) % 12 == 3}
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent - poisoned, 1))
    assert len(world.dead) == 0
    (entry,) = world.registry.audit
    assert (entry.action, entry.cell_id) == ("quarantine key", victim)
    assert keys[3] in entry.why


def test_two_deadly_keys_are_both_found_and_nobody_with_them() -> None:
    """Suspects go alone, so it is known which of them the instance died of."""
    world = World(cells=1)
    keys = world.keys_of("cell-0000", 16)
    world.cells.cells["cell-0000"].kills = {keys[0], keys[9]}

    async def story() -> None:
        await world.send(160, key=lambda i: keys[i % 16])
        async with world.replacing(), world.routing():
            await world.settled()

    play(world.clock, story())
    assert quarantined(world) == {keys[0], keys[9]}
    assert world.cells.cells["cell-0000"].deaths <= 4
    assert sum(world.cells.effects().values()) == 140


def test_what_one_router_saw_of_a_key_another_knows() -> None:
    """The first router is gone before the second death; the history travels with the event."""
    world = World(cells=1)
    (key, *_) = keys = world.keys_of("cell-0000", 6)
    world.cells.cells["cell-0000"].kills = {key}

    async def story() -> None:
        await world.send(60, key=lambda i: keys[i % 6])
        async with world.routing():
            while not world.cells.cells["cell-0000"].deaths:
                await world.clock.sleep(0.05)
            world.registry.live["cell-0000"] = False
            await world.clock.sleep(1)
        world.replace("cell-0000")
        async with world.replacing(), world.routing():
            await world.settled()

    play(world.clock, story())
    assert quarantined(world) == {key}
    assert world.cells.cells["cell-0000"].deaths == 2
    assert sum(world.cells.effects().values()) == 50


def test_a_quarantined_key_is_released_by_time_and_its_events_processed() -> None:
    """The key's events are processed after its time, since by then the fault is mended."""
    world = World(cells=1, quarantine_s=120)
    (key, *_) = keys = world.keys_of("cell-0000", 4)
    world.cells.cells["cell-0000"].kills = {key}

    async def story() -> None:
        await world.send(80, key=lambda i: keys[i % 4])
        async with world.replacing(), world.routing():
            await world.settled()
            assert len(world.quarantine) == 20
            world.cells.cells["cell-0000"].kills = set()
            await world.clock.sleep(60)
            assert len(world.quarantine) == 20
            await world.clock.sleep(120)
            assert len(world.quarantine) == 0
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))


def test_a_key_released_by_hand_goes_on_soon() -> None:
    """Its events go on within one sweep, not when its time would have been up."""
    world = World(cells=1, quarantine_s=0)
    (key, *_) = keys = world.keys_of("cell-0000", 4)
    world.cells.cells["cell-0000"].kills = {key}

    async def story() -> None:
        await world.send(80, key=lambda i: keys[i % 4])
        async with world.replacing(), world.routing():
            await world.settled()
            await world.clock.sleep(3600)
            assert len(world.quarantine) == 20
            world.cells.cells["cell-0000"].kills = set()
            policy = await world.registry.policy()
            now_ms = world.clock.time_ms()
            audit = AuditEntry(now_ms, "me", "release", "", "by hand")
            assert await world.registry.change_policy(policy.with_quarantine(key, None, now_ms), audit)
            await world.clock.sleep(30)
            assert len(world.quarantine) == 0
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))


def test_a_key_whose_every_event_fails_is_quarantined_while_its_neighbours_go_on() -> None:
    """After max_attempts failures in a row; the event that got so far is dead-lettered, the rest waits."""
    world = World(cells=1, max_attempts=3)
    (key, *_) = keys = world.keys_of("cell-0000", 5)
    world.cells.cells["cell-0000"].behaviour = lambda e: Outcome.FAILED if e.partition_key == key else Outcome.OK

    async def story() -> None:
        async with world.routing():
            for _ in range(20):
                await world.send(5, key=lambda i: keys[i % 5])
                await world.clock.sleep(1)
            await world.settled()
        assert len(world.quarantine) + len(world.dead) == 20
        assert len(world.quarantine) > 10

    play(world.clock, story())
    assert quarantined(world) == {key}
    assert sum(world.cells.effects().values()) == 80


def test_a_cell_where_everything_fails_has_no_bad_key() -> None:
    """The cell is at fault then: its events are dead-lettered at max_attempts, and no key is blamed."""
    world = World(cells=1, max_attempts=3)
    world.cells.cells["cell-0000"].behaviour = lambda _: Outcome.FAILED

    async def story() -> None:
        await world.send(50)
        async with world.routing():
            await world.settled()

    play(world.clock, story())
    assert quarantined(world) == set()
    assert len(world.dead) == 50


def test_one_bad_event_of_a_good_key_is_dead_lettered_and_the_key_goes_on() -> None:
    """A success in between says that the key is not to blame."""
    world = World(cells=1, max_attempts=3)
    bad = {"e10", "e30", "e50"}

    def behaviour(event: Event) -> Outcome:
        return Outcome.FAILED if event.event_id in bad else Outcome.OK

    world.cells.cells["cell-0000"].behaviour = behaviour

    async def story() -> None:
        async with world.routing():
            for _ in range(40):
                await world.send(5, key=lambda i: f"tenant-{i % 2}")
                await world.clock.sleep(0.2)
            await world.settled()

    play(world.clock, story())
    assert quarantined(world) == set()
    assert len(world.dead) == 3


def test_quarantine_works_while_the_registry_is_away() -> None:
    """The key is in quarantine here at once; the registry learns of it when it is back."""
    world = World(cells=1, max_attempts=3)
    (key, *_) = keys = world.keys_of("cell-0000", 5)
    world.cells.cells["cell-0000"].behaviour = lambda e: Outcome.FAILED if e.partition_key == key else Outcome.OK

    async def story() -> None:
        async with world.routing():
            await world.clock.sleep(1)
            world.registry.down = True
            for _ in range(30):
                await world.send(5, key=lambda i: keys[i % 5])
                await world.clock.sleep(1)
            assert quarantined(world) == {key}
            assert len(world.quarantine) > 10
            assert not world.registry.decided.quarantined
            world.registry.down = False
            await world.clock.sleep(3)
            assert set(world.registry.decided.quarantined) == {key}
            await world.settled()

    play(world.clock, story())


def test_a_flood_of_bad_keys_quarantines_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends under ever new keys fills no router and no policy: the rest ends in the dead-letter queue."""
    monkeypatch.setattr("router.services.data_plane.quarantine.MAX_KEYS", 3)
    world = World(cells=1, max_attempts=3)
    world.registry.decided = Policy(version=1)
    good, *bad = world.keys_of("cell-0000", 21)
    world.cells.cells["cell-0000"].behaviour = lambda e: Outcome.OK if e.partition_key == good else Outcome.FAILED

    async def story() -> None:
        async with world.routing():
            for _ in range(10):
                await world.send(21, key=lambda i: [good, *bad][i % 21])
                await world.clock.sleep(1)
            await world.settled()
        assert len(world.quarantine) + len(world.dead) == 200

    play(world.clock, story())
    assert len(quarantined(world)) == 3
    assert set(world.registry.decided.quarantined) == quarantined(world)
    assert sum(world.cells.effects().values()) == 10
