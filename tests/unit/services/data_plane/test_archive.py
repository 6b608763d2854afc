"""The archive: every event that has ended is in it, and nothing that happens to it reaches the routing."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import cast

import pytest

from router.core.archive.records import OVERHEAD_BYTES
from router.core.errors import SourceUnavailableError
from router.core.models import Event, Message, Outcome, Result
from router.core.slot_map.slots import slot_of
from router.core.telemetry import ArchiveDropped, ArchiveFaulty, ArchiveLoss, ObjectArchived
from router.services.data_plane.archive import archivist as module
from router.services.data_plane.inbox import Delivery, Inbox, Received
from tests.support.archives import Inline, MemoryArchive, archivist, labels_of
from tests.support.fake_clock import FakeClock, play
from tests.support.router_world import Notes, World

OK = Result(0, Outcome.OK)


def lost(notes: Notes) -> Counter[ArchiveLoss]:
    """Count the events that the archive lacks, by what was observed."""
    found: Counter[ArchiveLoss] = Counter()
    for record in notes.records:
        if isinstance(record, ArchiveDropped):
            found[record.cause] += record.events
    return found


def delivery(event_id: str = "e", body: bytes = b"{}") -> Delivery:
    """Make an event that came and was sent to its cell."""
    received = Received(Message("m", "r", body.decode(), 0, 1), len(body), 1000.0, 1030.0)
    event, inbox = Event(event_id, "key", body), cast("Inbox", None)
    return Delivery(event, received, inbox, from_hold=False, sent_at=1000.5, generation=2, answered_at=1000.6)


def test_every_event_is_archived_once_with_how_it_ended() -> None:
    """Done or dead-lettered, with cell, generation and body; and each lies under the minute and slots of its end."""
    world, store = World(), MemoryArchive()
    world.archive = lambda: archivist(store, world.clock, world.notes)

    async def story() -> None:
        for cell in world.cells.cells.values():
            cell.behaviour = lambda event: Outcome.FAILED if event.event_id in ("e3", "e7") else Outcome.OK
        async with world.routing():
            await world.send(300)
            await world.settled()
        letters = {letter.event_id for letter in await world.dead_letters()}
        assert letters == {"e3", "e7"}

    play(world.clock, story())
    found = {line["event_id"]: line for line in store.events()}
    assert Counter(line["event_id"] for line in store.events()) == Counter(world.sent)
    for name, line in found.items():
        dead = name in ("e3", "e7")
        assert (line["outcome"], line.get("dead_letter")) == (("failed", "max_attempts") if dead else ("ok", None))
        assert line["cell"] == world.owner(line["partition_key"])
        assert line["slot"] == slot_of(line["partition_key"])
        assert line["generation"] == 1
        assert line.get("attempt", 1) == (3 if dead else 1)
        assert line["sent_at_ms"] <= line["received_at_ms"] <= line["dispatched_at_ms"] <= line["ended_at_ms"]
        assert line["body"]["event_id"] == name
    assert {labels_of(key)["environment"] for key in store.objects} == {"live"}
    assert sum(record.events for record in world.notes.records if isinstance(record, ObjectArchived)) == 300
    assert not lost(world.notes)


@pytest.mark.parametrize("trouble", ["none", "stalled bucket", "refusing bucket", "stalled thread"])
def test_routing_is_the_same_whatever_becomes_of_the_archive(trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same events at the same moments of virtual time; what is not archived is counted, and memory is bounded."""
    monkeypatch.setattr(module, "MAX_BYTES", 100 * OVERHEAD_BYTES)
    monkeypatch.setattr(module, "MAX_FRESH_BYTES", 100 * OVERHEAD_BYTES)
    effects = []
    for archived in (False, True):
        world, store, beside = World(), MemoryArchive(), Inline()
        store.stalls = trouble == "stalled bucket"
        store.failure = SourceUnavailableError("gone") if trouble == "refusing bucket" else None
        beside.stalls = trouble == "stalled thread"

        async def story(world: World = world) -> dict[str, float]:
            async with world.routing():
                await world.send_steadily({f"tenant-{i}": 1.0 for i in range(20)}, 40)
                await world.settled()
            return {name: at for cell in world.cells.cells.values() for name, at in cell.done_at.items()}

        if archived:
            world.archive = lambda w=world, s=store, b=beside: archivist(s, w.clock, w.notes, b)  # type: ignore[misc]
        effects.append(play(world.clock, story()))
        if archived:
            assert lost(world.notes).total() + len(store.events()) == len(world.sent)
            assert lost(world.notes).total() == (0 if trouble == "none" else len(world.sent))
    assert effects[0].keys() == effects[1].keys()
    assert max(abs(effects[0][name] - effects[1][name]) for name in effects[0]) < 0.2  # chance has its share


def test_what_a_bucket_did_not_take_for_a_while_is_written_when_it_does() -> None:
    """Told once that it is faulty, once that it is well; nothing is lost within the time that is allowed."""
    clock, store, notes = FakeClock(), MemoryArchive(), Notes()
    archive = archivist(store, clock, notes)

    async def story() -> None:
        running = asyncio.create_task(archive.run())
        store.failure = SourceUnavailableError("gone")
        for number in range(10):
            archive.done(delivery(f"e{number}"), "cell-0001", OK)
            await clock.sleep(20)
        store.failure = None
        await clock.sleep(120)
        assert len(store.events()) == 10
        running.cancel()

    play(clock, story())
    assert [record.why for record in notes.records if isinstance(record, ArchiveFaulty)] == ["gone", None]
    assert not lost(notes)


def test_what_a_bucket_never_takes_is_given_up_and_counted() -> None:
    """After ten minutes each, so that new events find room; the log says it now and then, not for each."""
    clock, store, notes = FakeClock(), MemoryArchive(), Notes()
    archive = archivist(store, clock, notes)
    store.failure = SourceUnavailableError("gone")

    async def story() -> None:
        running = asyncio.create_task(archive.run())
        for number in range(60):
            archive.done(delivery(f"e{number}"), "cell-0001", OK)
            await clock.sleep(30)
        assert 35 < lost(notes)[ArchiveLoss.REFUSED] < 42  # of 60 in 30 minutes, those of the first 20
        await archive.close(1.0)
        running.cancel()

    play(clock, story())
    assert lost(notes) == {ArchiveLoss.REFUSED: 60}
    told = [record.tell for record in notes.records if isinstance(record, ArchiveDropped) and record.tell]
    assert sum(told) == lost(notes).total()
    assert len(told) <= 23


def test_a_stop_writes_what_there_is_and_waits_for_no_longer_than_it_may() -> None:
    """All of it when the bucket takes it, also what is not compressed yet; what it doesn't take is counted."""
    for stalls in (False, True):
        clock, store, notes = FakeClock(), MemoryArchive(), Notes()
        archive, store.stalls = archivist(store, clock, notes), stalls

        async def story(archive: module.Archivist = archive, clock: FakeClock = clock) -> float:
            running = asyncio.create_task(archive.run())
            for number in range(50):
                archive.done(delivery(f"e{number}"), "cell-0001", OK)
                await clock.sleep(0.03)
            began = clock.now
            await archive.close(5.0)
            running.cancel()
            return clock.now - began

        took_s = play(clock, story())
        assert took_s <= 5.0
        assert len(store.events()) == (0 if stalls else 50)
        assert lost(notes).total() == (50 if stalls else 0)


def test_an_event_that_cannot_be_written_costs_no_other_part_anything() -> None:
    """A text that is none ends neither the archive nor what is routed; it is counted."""
    clock, store, notes = FakeClock(), MemoryArchive(), Notes()
    archive = archivist(store, clock, notes)

    async def story() -> None:
        running = asyncio.create_task(archive.run())
        archive.done(delivery("half \ud800"), "cell-0001", OK)
        await clock.sleep(1)
        archive.done(delivery("good"), "cell-0001", OK)
        await archive.close(5.0)
        running.cancel()

    play(clock, story())
    assert [line["event_id"] for line in store.events()] == ["good"]
    assert lost(notes) == Counter({ArchiveLoss.UNWRITTEN: 1})
