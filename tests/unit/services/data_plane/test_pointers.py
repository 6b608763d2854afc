"""Events whose bodies lie in S3, through the whole data plane."""

from __future__ import annotations

import json

import pytest

from router.core.errors import SourceUnavailableError
from router.core.models import Event, Outcome
from tests.support.fake_clock import play
from tests.support.router_world import World


def pointer(key: str, bucket: str = "payloads") -> str:
    """A pointer as the extended client library writes it."""
    where = {"s3BucketName": bucket, "s3Key": key}
    return json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer", where])


def put(world: World, name: str, tenant: str) -> str:
    """Put a large body into S3; return what the queue gets instead."""
    world.objects.objects["payloads", name] = json.dumps(
        {"event_id": name, "tenant": tenant, "x": "x" * 2**20}
    ).encode()
    world.sent.add(name)
    return pointer(name)


def test_a_body_in_s3_reaches_its_cell_and_only_its_pointer_waits() -> None:
    """Neither the hold queue nor the dead-letter queue ever carries the large body."""
    world = World(cells=1, max_attempts=2)
    bodies: dict[str, int] = {}

    def behaviour(event: Event) -> Outcome:
        bodies[event.event_id] = len(event.body)
        return Outcome.FAILED if event.event_id == "bad" else Outcome.OK

    world.cells.cells["cell-0000"].behaviour = behaviour

    async def story() -> None:
        for name in ("good", "bad"):
            await world.send_raw(put(world, name, "t"), group="t")
        await world.send_raw(pointer("gone"), group="t")
        await world.send_raw(pointer("x", bucket="elsewhere"), group="t")
        async with world.routing():
            await world.settled()
        letters = {letter.reason: letter for letter in await world.dead_letters()}
        assert letters["max_attempts"].pointer == pointer("bad")
        assert letters["max_attempts"].body == ""
        assert letters["malformed"].body in (pointer("gone"), pointer("x", bucket="elsewhere"))

    play(world.clock, story())
    assert set(bodies) == {"good", "bad"}
    assert min(bodies.values()) > 2**20
    assert ("elsewhere", "x") not in world.objects.reads


def test_s3_out_of_reach_delays_and_loses_nothing_and_breaks_no_order() -> None:
    """In a FIFO queue, the events behind it in its group wait too."""
    world = World(cells=2, fifo=True)

    async def story() -> None:
        world.objects.failure = SourceUnavailableError("away")
        for number in range(30):
            name = f"e{number:03}"
            world.sent.add(name)
            tenant = f"t{number % 3}"
            body = json.dumps({"event_id": name, "tenant": tenant})
            if number % 5 == 0:
                world.sent.discard(name)
                body = put(world, name, tenant)
            await world.send_raw(body, group=tenant)
        async with world.routing():
            await world.clock.sleep(60)
            assert world.cells.effects().keys() < world.sent
            world.objects.failure = None
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects().keys() == world.sent
    for cell in world.cells.cells.values():
        for number in range(3):
            done = [name for name in cell.order if int(name[1:]) % 3 == number]
            assert done == sorted(done)
    assert len(world.dead) == 0


def test_an_object_that_alone_can_not_be_read_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in an archive, or under a key that is gone, say: its message is dead-lettered with its pointer at last."""
    monkeypatch.setattr("router.services.data_plane.inbox.LONE_S", 1200)
    world = World(cells=1)
    world.objects.unreadable = {"frozen"}

    async def story() -> None:
        await world.send_raw(pointer("frozen"), group="t")
        async with world.routing():
            for number in range(120):
                await world.send_raw(put(world, f"e{number}", "t"), group="t")
                await world.clock.sleep(60)
            await world.settled()
        (letter,) = await world.dead_letters()
        assert (letter.reason, letter.body) == ("malformed", pointer("frozen"))
        assert "while others could: s3://payloads/frozen: InvalidObjectState" in letter.error

    play(world.clock, story())
    assert world.cells.effects().keys() == world.sent
    assert world.objects.reads.count(("payloads", "frozen")) < 30


def test_no_outage_of_s3_dead_letters_a_pointer_however_long_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is answered meanwhile, so nothing is to blame."""
    monkeypatch.setattr("router.services.data_plane.inbox.LONE_S", 60)
    world = World(cells=1)

    async def story() -> None:
        async with world.routing():
            await world.send_raw(put(world, "before", "t"), group="t")
            await world.clock.sleep(10)
            world.objects.failure = SourceUnavailableError("away")
            for number in range(20):
                await world.send_raw(put(world, f"e{number}", "t"), group="t")
            await world.clock.sleep(3 * 3600)
            world.objects.failure = None
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects().keys() == world.sent
    assert len(world.dead) == 0
