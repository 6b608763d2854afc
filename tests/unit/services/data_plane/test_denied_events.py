"""Events that AWS denies what they need: a slip of a policy costs nobody anything, one object's trouble is its own."""

from __future__ import annotations

from collections import Counter

import pytest

from router.core.errors import SourceDeniedError
from router.core.models import DeadLetterReason, Event, HoldCause
from router.core.telemetry import AccessDenied
from tests.support.fake_clock import play
from tests.support.router_world import World

PATIENCE_S = 60
TENANTS = {f"tenant-{i}": 1.0 for i in range(50)}


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let less than an hour and a dozen denials be enough: virtual time costs real time too."""
    monkeypatch.setattr("router.core.lanes.retry.DENIED_S", PATIENCE_S)
    monkeypatch.setattr("router.core.lanes.retry.DENIED_RETRIES", 4)


def slip(world: World, *keys: str) -> set[str]:
    """Let all cells be denied what the keys need: those in the set that is returned."""
    denied = set(keys)
    for cell in world.cells.cells.values():
        cell.denied = lambda event: event.partition_key in denied
    return denied


@pytest.mark.parametrize("share", [1, 2, 50], ids=["all", "half of them", "one tenant"])
def test_a_slip_of_a_minute_dead_letters_nothing(share: int) -> None:
    """50 events a second of 50 tenants. All are done soon after it ends, and nobody else waits meanwhile."""
    world = World(cells=4, max_attempts=3)
    victims = set(list(TENANTS)[::share])
    others = TENANTS.keys() - victims

    async def story() -> None:
        async with world.routing():
            await world.send_steadily(TENANTS, 10)
            denied, began = slip(world, *victims), world.clock.now
            await world.send_steadily(TENANTS, 60)
            denied.clear()
            ended = world.clock.now
            await world.send_steadily(TENANTS, 10)
            await world.settled(90)
            latencies = world.latencies(others, began, ended)
            assert not latencies or latencies[-1] < 3

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert len(world.sent) > 3800
    assert len(world.dead) == 0
    told = [record.why is not None for record in world.notes.records if isinstance(record, AccessDenied)]
    assert told in ([True], [True, False]) if len(victims) > 2 else told == []


def test_at_a_standstill_events_stay_in_the_source() -> None:
    """An outage of the rights that lasts is no flood through the hold queues: a trickle shows when it has ended."""
    world = World(cells=4)

    async def story() -> None:
        async with world.routing():
            denied = slip(world, *TENANTS)
            await world.send_steadily(TENANTS, 60)
            assert len(world.source) > 0.7 * len(world.sent)
            denied.clear()
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert len(world.dead) == 0


@pytest.mark.parametrize("fifo", [False, True])
def test_one_object_that_is_denied_for_ever_is_dead_lettered(fifo: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its attempts and a while. Its own key and all others go on, and nobody is alarmed."""
    impatient(monkeypatch)
    world = World(cells=1, max_attempts=3, fifo=fifo)
    tried: list[float] = []

    def denied(event: Event) -> bool:
        if event.event_id == "e3":
            tried.append(world.clock.now)
        return event.event_id == "e3"

    world.cells.cells["cell-0000"].denied = denied

    async def story() -> None:
        async with world.routing():
            for _ in range(6):
                await world.send(8, key=lambda i: f"tenant-{i % 8}")
                await world.clock.sleep(60)
            await world.settled()
        (letter,) = await world.dead_letters()
        assert (letter.event_id, letter.reason) == ("e3", DeadLetterReason.MAX_ATTEMPTS)
        assert "denied what it needs" in letter.error
        assert letter.error.endswith("so no shared policy is to blame: AccessDenied: said S3")

    play(world.clock, story())
    assert tried[-1] - tried[0] >= PATIENCE_S
    assert world.cells.effects().keys() == world.sent - {"e3"}
    assert world.notes.count(AccessDenied) == 0


def test_a_tenant_that_names_what_nobody_may_read_harms_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of such objects at once: the others' latencies stay, and only its own events are dead-lettered."""
    impatient(monkeypatch)
    world = World(cells=2, max_attempts=3)
    others = {f"tenant-{i}": 0.5 for i in range(10)}
    slip(world, "hostile")

    async def story() -> None:
        async with world.routing():
            await world.send(200, key=lambda _: "hostile")
            named, began = set(world.sent), world.clock.now
            while len(world.dead) < len(named):
                await world.send_steadily(others, 10)
            await world.settled()
            latencies = world.latencies(others.keys(), began, world.clock.now)
            assert latencies[-1] < 3
            assert {letter.event_id for letter in await world.dead_letters()} == named
            assert world.cells.effects() == Counter(dict.fromkeys(world.sent - named, 1))

    play(world.clock, story())
    assert world.notes.count(AccessDenied) == 0
    assert world.notes.count_held(HoldCause.DENIED) > 0


async def send_pointer(world: World, name: str) -> None:
    """Send an event whose body lies in the payload bucket."""
    world.objects.objects["payloads", name] = f'{{"event_id":"{name}","tenant":"of {name}"}}'.encode()
    await world.send_raw(f'["x.PayloadS3Pointer",{{"s3BucketName":"payloads","s3Key":"{name}"}}]', group=name)


def test_one_denied_payload_among_others_is_dead_lettered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As any event of which nobody may read what it names; nobody is alarmed."""
    monkeypatch.setattr("router.services.data_plane.inbox.DENIED_S", PATIENCE_S)
    monkeypatch.setattr("router.services.data_plane.inbox.DENIED_RETRIES", 4)
    world = World(cells=2)
    world.objects.denied.add("bad")

    async def story() -> None:
        async with world.routing():
            await send_pointer(world, "bad")
            for i in range(60):
                await send_pointer(world, f"p{i}")
                await world.clock.sleep(10)
            await world.settled()
        (letter,) = await world.dead_letters()
        assert letter.reason == DeadLetterReason.MALFORMED
        assert "could not be followed 4 times, while others could" in letter.error
        assert "AccessDenied" in letter.error

    play(world.clock, story())
    assert world.cells.effects().keys() == {f"p{i}" for i in range(60)}
    assert world.notes.count(AccessDenied) == 0


def test_a_denied_payload_bucket_is_nobodys_fault() -> None:
    """A slip of a minute is told once, and then every body is fetched."""
    world = World(cells=2)

    async def story() -> None:
        async with world.routing():
            world.objects.failure = SourceDeniedError("AccessDenied")
            for i in range(40):
                await send_pointer(world, f"p{i}")
            await world.clock.sleep(60)
            world.objects.failure = None
            await world.settled(60)

    play(world.clock, story())
    assert world.cells.effects().keys() == {f"p{i}" for i in range(40)}
    assert len(world.dead) == 0
    (told,) = [record for record in world.notes.records if isinstance(record, AccessDenied)][:1]
    assert told.why is not None
    assert told.why.endswith("AccessDenied")
