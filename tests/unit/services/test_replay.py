"""Replays on virtual time: the story of a bug from dead letters to a redrive, and replays that are cut short."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache

import pytest

from router.adapters.archive_files import records_of
from router.core.archive.comparison import Comparison, Difference, compare
from router.core.archive.replay import Checkpoint, Selection
from router.core.errors import SourceUnavailableError
from router.core.messages.dead_letter import Filter
from router.core.models import Draft, Event, Outcome
from router.services.dead_letters import DeadLetters, Tally
from router.services.replay import Pace, Replay
from tests.support.archives import MemoryArchive, Reading, Told, archivist
from tests.support.attribute_keys import KEYS
from tests.support.fake_clock import play
from tests.support.router_world import World


def is_bad(event: Event) -> bool:
    """Whether the bug is about this event: every seventh one, so that no key has many."""
    return int(json.loads(event.body)["event_id"][1:]) % 7 == 3


def buggy(event: Event) -> Outcome:
    """Do what the handler did before it was mended."""
    return Outcome.FAILED if is_bad(event) else Outcome.OK


def yesterday(behaviour: object) -> tuple[World, MemoryArchive]:
    """Play a day in live, with this handler, and archive it."""
    world, store = World(), MemoryArchive()
    world.archive = lambda: archivist(store, world.clock, world.notes)
    for cell in world.cells.cells.values():
        cell.behaviour = behaviour  # type: ignore[assignment]

    async def story() -> None:
        async with world.routing():
            await world.send(200)
            await world.settled()  # and when the router stops, all is archived

    play(world.clock, story())
    return world, store


@cache
def a_good_day() -> MemoryArchive:
    """Play a day on which all went well, once for all tests: they change nothing of it."""
    return yesterday(lambda _: Outcome.OK)[1]


def selection(store: MemoryArchive) -> Selection:
    """Select all that is archived."""
    ended = [line["ended_at_ms"] for line in store.events()]
    return Selection(min(ended), max(ended) + 1)


def replayed(live: MemoryArchive, behaviour: object, told: Told) -> tuple[World, Comparison]:
    """Replay all into a new environment with this handler, and compare."""
    world, store = World(), MemoryArchive()
    world.archive = lambda: archivist(store, world.clock, world.notes, environment="replay")
    for cell in world.cells.cells.values():
        cell.behaviour = behaviour  # type: ignore[assignment]

    async def story() -> Comparison:
        where = selection(live)
        work = Replay(where, Reading(live), "live", told, world.clock)
        async with world.routing():
            began_ms = world.clock.time_ms()
            at = Checkpoint(where.name, "replay", began_ms, where.minutes().start)
            await work.send(world.source, KEYS, Pace(None, 50), at)
            await world.settled()
        names = frozenset((await work.live()).of)
        results = await work.results(Reading(store), "replay", began_ms, names, 3600)
        return compare("replay", (await work.live()).of, results.of)

    return world, play(world.clock, story())


def test_a_mended_handler_is_tried_on_yesterdays_events_before_it_goes_live() -> None:
    """The report shows which events differ and that nothing else does; then live is mended and its letters redriven."""
    live, archive = yesterday(buggy)
    bad = {name for name in live.sent if int(name[1:]) % 7 == 3}
    assert {line["event_id"] for line in archive.events() if line["outcome"] == "failed"} == bad

    told = Told()
    _, same = replayed(archive, buggy, told)
    assert not same.rows  # the bug is there again, and nothing else is new
    world, found = replayed(archive, lambda _: Outcome.OK, told)
    assert {row.event_id for row in found.rows} == bad
    assert {row.difference for row in found.rows} == {Difference.OUTCOME}
    assert found.outcomes == {"failed → ok": len(bad)}
    assert found.events == len(live.sent)
    assert Counter(dict.fromkeys(live.sent, 1)) == sum(
        (cell.done for cell in world.cells.cells.values()), Counter[str]()
    )
    assert not told.faults

    mended = World()  # live, whose cells know what they have done and whose dead letters are where they were
    mended.cells.cells = live.cells.cells
    for cell in mended.cells.cells.values():
        cell.behaviour = lambda _: Outcome.OK

    async def redrive() -> None:
        for stored in live.dead._stored.values():
            await mended.dead.send([stored.draft])
        letters = DeadLetters(mended.dead, "source", lambda *_: False, lambda _: mended.source, KEYS, mended.clock)
        tally = Tally()
        await letters.redrive(Filter(), tally, lambda _: None)
        assert (tally.done, tally.failed) == (len(bad), 0)
        async with mended.routing():
            await mended.settled()

    play(mended.clock, redrive())
    assert sum((cell.done for cell in live.cells.cells.values()), Counter[str]()) == Counter(
        dict.fromkeys(live.sent, 1)
    )


class Cut(Exception):
    """The process is killed."""


@pytest.mark.parametrize("cut_after", [0, 1, 7, 19])
def test_a_replay_that_is_killed_goes_on_where_it_was(cut_after: int) -> None:
    """Nothing is left out, and at most one call's events are sent twice."""
    archive = a_good_day()
    world, told = World(), Told()
    sent: list[str] = []

    async def story() -> None:
        where = selection(archive)
        work = Replay(where, Reading(archive), "live", told, world.clock)
        calls, send = 0, world.source.send

        async def cut(drafts: Sequence[Draft]) -> list[int]:
            nonlocal calls
            calls += 1
            sent.extend(draft.attributes["event_id"] for draft in drafts)
            refused = await send(drafts)
            if calls == cut_after + 1:
                raise Cut
            return refused

        world.source.send = cut  # type: ignore[method-assign]
        begin = Checkpoint(where.name, "replay", 0, where.minutes().start)
        with pytest.raises(Cut):
            await work.send(world.source, KEYS, Pace(None, 100), begin)
        await work.send(world.source, KEYS, Pace(None, 100), told.at or begin)

    play(world.clock, story())
    assert set(sent) == {line["event_id"] for line in archive.events()}
    assert len(sent) - len(set(sent)) == 10
    assert told.at is not None
    assert told.at.sent == 200


def test_a_replay_keeps_its_rate_its_speed_and_the_order() -> None:
    """No faster than the rate, and with a speed as long as it took, divided; a refused call is made again."""
    archive = a_good_day()
    ordered = sorted(archive.events(), key=lambda line: line["ended_at_ms"])
    slowly_s = (ordered[190]["ended_at_ms"] - ordered[0]["ended_at_ms"]) / 1000 / 0.01  # until the last call
    assert slowly_s > 1
    for pace, least_s in ((Pace(None, 10), 19.0), (Pace(0.01, 1000), slowly_s)):
        world, told = World(), Told()
        sent: list[str] = []

        async def story(world: World = world, told: Told = told, pace: Pace = pace, sent: list[str] = sent) -> float:
            where, send, calls = selection(archive), world.source.send, 0

            async def noted(drafts: Sequence[Draft]) -> list[int]:
                nonlocal calls
                calls += 1
                if calls % 3 == 1:
                    raise SourceUnavailableError("for a moment")
                sent.extend(draft.attributes["event_id"] for draft in drafts)
                return await send(drafts)

            world.source.send = noted  # type: ignore[method-assign]
            work = Replay(where, Reading(archive), "live", told, world.clock)
            began = world.clock.now
            await work.send(world.source, KEYS, pace, Checkpoint("s", "replay", 0, where.minutes().start))
            return world.clock.now - began

        took_s = play(world.clock, story())
        assert least_s <= took_s <= 3 * least_s
        at = {line["event_id"]: line["ended_at_ms"] for line in ordered}
        assert [at[name] for name in sent] == [line["ended_at_ms"] for line in ordered]


def test_a_broken_object_costs_no_more_than_its_own_lines() -> None:
    """What is no line of the archive is told and left out; all else is replayed."""
    archive = MemoryArchive()
    archive.objects = dict(a_good_day().objects)
    names = sorted(archive.objects)
    lost = len(list(records_of(archive.objects[names[0]])))
    archive_events = len(archive.events())
    where = selection(archive)
    archive.objects[names[0]] = b"no zstd"
    archive.objects[names[1]] = archive.objects[names[1]][:-20]
    told = Told()

    async def story() -> int:
        return len((await Replay(where, Reading(archive), "live", told, World().clock).live()).of)

    found = play(World().clock, story())
    assert archive_events - lost - 200 < found < archive_events
    assert {fault.partition(":")[0] for fault in told.faults} == set(names[:2])
