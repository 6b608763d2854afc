"""Copies of a cell's latest events are kept while it stands trial, and rehearsed by its instance and its twin."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from router.adapters.redis.records import WireSample, packed, unpacked
from router.core.detection.samples import RehearsedPair, RouterSample
from router.core.lanes.copies import MAX_BYTES, MAX_COPIES, RecentCopies, size_of
from router.core.models import CellRecord, Contact, Event, LeaseView, Outcome, Result
from router.core.registry import Snapshot
from router.core.slot_map.slots import SlotMap, assign
from router.services.canary import canary_through
from router.services.data_plane.routing import routing_of
from router.services.loop_lag import LoopLag
from router.services.prober import SeenCells
from router.services.rehearsals import Rehearsals
from router.services.unforeseen import Unforeseen
from tests.support.fake_cells import FakeCells, Sickness
from tests.support.fake_clock import FakeClock, play
from tests.support.router_world import Notes

CELL = "cell-0000"
EVENT_S = 0.05


def event(number: int, size: int = 3) -> Event:
    """An event of this number, whose body has so many bytes."""
    return Event(f"event-{number}", "key", b"1" * size, attempt=2)


class TrialWorld:
    """One fake cell on trial, and the rehearsals of one router, which has done some events of it."""

    def __init__(self, *, rehearse: tuple[bool, bool] = (True, True)) -> None:
        self.clock = FakeClock()
        self.cells = FakeCells(self.clock, [CELL])
        self.cell = self.cells.cells[CELL]
        self.cell.seconds, self.cell.canary_s = EVENT_S, 0.01
        self.record = CellRecord(CELL, 1, launching=2, launched=2, twin=2)
        self.rehearse = rehearse
        self.copies: RecentCopies | None = None
        self.sent: list[tuple[float, int, bool]] = []  # when, generation, whether it is a copy
        self.pairs: list[RehearsedPair] = []
        self.refused = False
        lag = LoopLag(self.clock)
        probe = canary_through(self, Unforeseen(Notes(), self.clock))
        self.rehearsals = Rehearsals(self.seen, self.keep, probe, lag, self.clock)
        self._parts = lag.run, self.rehearsals.run

    def keep(self, cell_id: str, copies: RecentCopies | None) -> None:
        """Be the lane, to which events are added that are done."""
        assert cell_id == CELL
        self.copies = copies

    async def process(self, target: Any, batch: Any) -> Any:
        """Be a CellClient that notes what is sent."""
        self.sent.append((self.clock.now, target.generation, batch[0].rehearse))
        if self.refused and batch[0].rehearse:
            yield Result(0, Outcome.RETRY, "3 other events are rehearsed", contact=Contact.NOT_REACHED)
            return
        async for result in self.cells.process(target, batch):
            yield result

    def seen(self) -> SeenCells:
        leases = tuple(
            LeaseView(CELL, generation, "i", f"{CELL}:{generation}", 8, ready=True, live=True, rehearses=rehearses)
            for generation, rehearses in zip((1, 2), self.rehearse, strict=True)
        )
        snapshot = Snapshot(1, SlotMap(1, assign(None, {CELL: 1.0})), {CELL: self.record}, leases, "")
        routing = routing_of(snapshot, None)
        assert routing is not None
        return SeenCells(snapshot, routing.targets)

    def play(self, seconds: int, events: int = 5) -> None:
        """Run the rehearsals, after so many events were done as soon as copies are kept."""

        async def story() -> None:
            running = [asyncio.create_task(part()) for part in self._parts]
            await self.clock.sleep(0.6)
            for number in range(events if self.copies is not None else 0):
                assert self.copies is not None
                self.copies.add(event(number))
            for _ in range(seconds):
                await self.clock.sleep(1)
                self.pairs += self.rehearsals.pairs().get(CELL, ())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

        play(self.clock, story())


def test_both_do_the_same_copies_at_the_same_moments_each_with_a_canary() -> None:
    """In turns, twice a second, and no event is done again by that."""
    world = TrialWorld()
    world.cell.sick[1] = Sickness(part=lambda each: each.event_id == "event-1", part_s=0.5)
    world.play(10)
    done = [[each.event_id for each in world.cell.rehearsed[generation]] for generation in (1, 2)]
    assert done[0] == done[1]
    assert set(done[0]) == {f"event-{number}" for number in range(5)}
    assert len(done[0]) >= 15
    assert all(each.rehearse and each.attempt == 1 for each in world.cell.rehearsed[1])
    moments = [{at for at, *how in world.sent if how == [gen, copy]} for gen in (1, 2) for copy in (True, False)]
    assert moments.count(moments[0]) == 4
    assert not world.cell.done
    slow = [pair for pair in world.pairs if pair.own_s is not None and pair.own_s > 0.5]
    assert len(slow) >= 3
    for pair in world.pairs:
        assert (pair.generation, pair.twin, pair.size) == (1, 2, size_of(event(0)))
        assert pair.twin_s == pytest.approx(EVENT_S)
        assert pair.own_canary_s == pair.twin_canary_s == pytest.approx(0.01)


@pytest.mark.parametrize("rehearse", [(False, True), (True, False)])
def test_nothing_is_kept_or_sent_unless_both_declare_that_they_rehearse(rehearse: tuple[bool, bool]) -> None:
    """An instance of another version would do the event."""
    world = TrialWorld(rehearse=rehearse)
    world.play(5)
    assert world.copies is None
    assert world.sent == []


def test_copies_are_dropped_when_the_trial_ends() -> None:
    """No body is kept for longer than it is used."""
    world = TrialWorld()
    world.play(3)
    world.record = replace(world.record, twin=0, launching=0)
    world.play(2)
    assert world.copies is None


def test_what_a_cell_declines_to_rehearse_says_nothing() -> None:
    """It has other rehearsals, or can't rehearse this event."""
    world = TrialWorld()
    world.refused = True
    world.play(5)
    assert world.sent
    assert world.pairs == []


def test_a_copy_without_a_good_answer_is_told_so() -> None:
    """The other one's answer counts all the same."""
    world = TrialWorld()
    world.cell.sick[1] = Sickness(outcome=Outcome.FAILED)
    world.play(5)
    assert {(pair.own_s, round(pair.twin_s or 0, 3)) for pair in world.pairs} == {(None, EVENT_S)}


def test_pairs_travel_to_the_leader_as_they_are() -> None:
    """The registry keeps them as text."""
    pairs = (RehearsedPair(1, 2, 0.5, 0.05, 0.01, 0.01, 900), RehearsedPair(1, 2, None, None, None, 0.1))
    sample = RouterSample(1, 0.0, {}, {}, {CELL: pairs})
    assert unpacked(WireSample(1, msgspec.json.decode(packed(sample), type=bytes))) == sample


def test_copies_are_bounded_in_number_and_in_bytes() -> None:
    """The oldest go first, and none that is larger than all may be comes in."""
    copies = RecentCopies()
    for number in range(2 * MAX_COPIES):
        copies.add(event(number))
    handed_out = {copies.next().event_id for _ in range(MAX_COPIES)}  # type: ignore[union-attr]
    assert handed_out == {f"event-{number}" for number in range(MAX_COPIES, 2 * MAX_COPIES)}
    for number in range(10):
        copies.add(event(number, MAX_BYTES // 3))
        assert copies.bytes <= MAX_BYTES
    copies.add(event(0, MAX_BYTES + 1))
    assert {copies.next().event_id for _ in range(9)} <= {"event-7", "event-8", "event-9"}  # type: ignore[union-attr]


def test_what_an_instance_may_have_died_of_is_never_copied() -> None:
    """It would take both along."""
    copies = RecentCopies()
    copies.add(event_with(unanswered=(1,)))
    copies.add(event_with(killed=(1,)))
    copies.add(event_with(suspect=True))
    assert copies.next() is None


def event_with(**changes: Any) -> Event:
    """An event with these fields."""
    return msgspec.structs.replace(event(0), **changes)
