"""A router tries every cell by canaries, at a bounded rate, and a twin at the same moment as the instance beside it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from router.adapters.redis.records import WireSample, packed, unpacked
from router.core.detection.samples import CanarySample, RouterSample
from router.core.errors import CellUnavailableError, NoDescriptorError
from router.core.models import CellRecord, LeaseView, Outcome, RouterReport, RouterView
from router.core.registry import Snapshot
from router.core.slot_map.slots import SlotMap, assign
from router.services.canary import MAX_RATE, CanaryTimer, canary_through
from router.services.data_plane.routing import routing_of
from router.services.loop_lag import LoopLag
from router.services.prober import Prober, SeenCells
from router.services.unforeseen import Unforeseen
from tests.support.fake_cells import FakeCells, Sickness
from tests.support.fake_clock import FakeClock, play
from tests.support.router_world import Notes

CANARY_S = 0.004
VICTIM = "cell-0000"


class ProbedWorld:
    """Fake cells, and one prober that sees them as a registry would show them."""

    def __init__(self, cells: int) -> None:
        self.clock = FakeClock()
        names = [f"cell-{number:04d}" for number in range(cells)]
        self.cells = FakeCells(self.clock, names)
        for cell in self.cells.cells.values():
            cell.canary_s = CANARY_S
        self.records = {name: CellRecord(name, 1) for name in names}
        self.routers = 1
        self.generations: tuple[int, ...] = (1,)
        self.sent: list[tuple[float, str, int]] = []  # when, cell, generation
        self.taken: list[tuple[str, CanarySample]] = []
        self._slot_map = SlotMap(1, assign(None, dict.fromkeys(names, 1.0)))
        lag = LoopLag(self.clock)
        timer = CanaryTimer(canary_through(self, Unforeseen(Notes(), self.clock)), lag, self.clock)
        self.prober = Prober(self.seen, timer, self.clock)
        self._parts = lag.run, self.prober.run

    async def process(self, target: Any, batch: Any) -> Any:
        """Be a CellClient that notes what is sent."""
        assert [event.canary for event in batch] == [True]
        self.sent.append((self.clock.now, target.cell_id, target.generation))
        async for result in self.cells.process(target, batch):
            yield result

    def seen(self) -> SeenCells | None:
        leases = tuple(
            LeaseView(name, generation, "i", f"{name}:{generation}", 8, ready=True, live=True)
            for name in self.records
            for generation in self.generations
        )
        routers = (RouterView(RouterReport("r", 1, quiet=True), live=True),) * self.routers
        snapshot = Snapshot(1, self._slot_map, dict(self.records), leases, "", routers=routers)
        routing = routing_of(snapshot, None)
        return SeenCells(snapshot, routing.targets) if routing is not None else None

    def replace_victim(self) -> None:
        """Let the victim's slow instance stand trial beside its twin."""
        self.generations = (1, 2)
        self.records[VICTIM] = replace(self.records[VICTIM], launching=2, launched=2, twin=2)

    def play(self, seconds: float, sick: Collection[tuple[str, int, Sickness]] = ()) -> None:
        """Run the prober, and take its canaries once a second."""
        for cell_id, generation, sickness in sick:
            self.cells.cells[cell_id].sick[generation] = sickness

        async def story() -> None:
            running = [asyncio.create_task(part()) for part in self._parts]
            for _ in range(round(seconds)):
                await self.clock.sleep(1)
                self.taken += [(name, each) for name, found in self.prober.canaries().items() for each in found]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

        play(self.clock, story())


def test_every_cell_is_tried_once_a_second() -> None:
    """What came of it is told with its generation and latency, once."""
    world = ProbedWorld(4)
    world.play(20)
    tried = Counter(name for name, _ in world.taken)
    assert set(tried) == set(world.records)
    assert all(18 <= count <= 20 for count in tried.values())
    for _, sample in world.taken:
        assert sample.latency_s == pytest.approx(CANARY_S)
        assert (sample.generation, sample.waiting_s, sample.pair) == (1, 0.0, 0)


def test_a_router_of_many_cells_sends_no_more_than_its_rate_and_leaves_none_out() -> None:
    """At 200 cells, each is tried every 4 s."""
    world = ProbedWorld(200)
    world.play(13)
    assert len(world.sent) <= 13 * MAX_RATE
    tried = Counter(name for _, name, _ in world.sent)
    assert set(tried) == set(world.records)
    assert max(tried.values()) - min(tried.values()) <= 1


def test_many_routers_share_the_canaries_of_a_cell() -> None:
    """With eight of them, each tries a cell every two seconds."""
    world = ProbedWorld(3)
    world.routers = 8
    world.play(21)
    assert all(9 <= count <= 11 for count in Counter(name for _, name, _ in world.sent).values())


def test_a_canary_without_answer_is_told_as_long_as_it_waits_and_no_other_is_sent_after_it() -> None:
    """Failures are told too, and those of one cell keep no other from being tried."""
    world = ProbedWorld(3)
    world.play(10, [(VICTIM, 1, Sickness(hangs=True)), ("cell-0001", 1, Sickness(outcome=Outcome.FAILED))])
    waited = [sample.waiting_s for name, sample in world.taken if name == VICTIM]
    assert len(waited) == 9
    assert waited == sorted(waited)
    assert waited[-1] > 8
    assert sum(name == VICTIM for _, name, _ in world.sent) == 1
    failed = {sample for name, sample in world.taken if name == "cell-0001"}
    assert failed == {CanarySample(1)}
    assert all(sample.latency_s for name, sample in world.taken if name == "cell-0002")


def test_an_instance_and_its_twin_are_tried_in_pairs_twice_a_second() -> None:
    """Both at the same moment, each as often the first of the two, however many cells there are."""
    world = ProbedWorld(120)
    world.replace_victim()
    world.play(20, [(VICTIM, 1, Sickness(factor=5))])
    sent = [(at, generation) for at, name, generation in world.sent if name == VICTIM]
    old, new = ({at for at, generation in sent if generation == each} for each in (1, 2))
    assert old == new
    assert 36 <= len(old) <= 41
    assert 36 <= Counter(first for (_, first), _ in zip(sent[::2], sent[1::2], strict=True))[1] * 2 <= 42
    pairs: dict[int, dict[int, float | None]] = {}
    for name, sample in world.taken:
        if name == VICTIM and not sample.waiting_s:
            pairs.setdefault(sample.pair, {})[sample.generation] = sample.latency_s
    assert 0 not in pairs
    assert len(pairs) >= 36
    expected = {1: pytest.approx(5 * CANARY_S), 2: pytest.approx(CANARY_S)}
    assert all(found == expected for pair, found in pairs.items() if pair < max(pairs))  # the last was cut short


def test_a_launch_of_a_well_cell_makes_no_pairs() -> None:
    """A release launches beside an instance that nobody doubts."""
    world = ProbedWorld(3)
    world.generations = (1, 2)
    world.records[VICTIM] = replace(world.records[VICTIM], launching=2)
    world.play(5)
    assert {generation for _, _, generation in world.sent} == {1}


@pytest.mark.parametrize("why", ["no descriptor", "late loop"])
def test_what_this_router_could_not_measure_is_not_told(why: str) -> None:
    """Its own trouble says nothing of a cell."""
    world = ProbedWorld(2)

    async def process(target: Any, batch: Any) -> Any:
        if why == "no descriptor":
            raise NoDescriptorError("none is left")
        world.clock.now += 0.6  # the loop is stuck while the answer is here already
        await world.clock.sleep(0.3)
        if why == "late loop":
            raise CellUnavailableError("gone")
        yield None

    world.process = process  # type: ignore[method-assign] # instead of the fake cells
    world.play(5)
    assert all(sample.waiting_s for _, sample in world.taken)


def test_a_sample_with_canaries_comes_back_as_it_was_told() -> None:
    """The registry's reader takes it, and takes none with more canaries than a router sends."""
    canaries = {VICTIM: (CanarySample(3, 0.25, pair=7), CanarySample(4, None, 2.5, 7), CanarySample(3))}
    sample = RouterSample(1, 0.0, {}, canaries)
    raw = packed(sample)
    assert unpacked(WireSample(5, msgspec.json.decode(raw, type=bytes))) == sample
    many = replace(sample, canaries={VICTIM: (CanarySample(1),) * 65})
    with pytest.raises(ValueError, match="canaries"):
        unpacked(WireSample(5, msgspec.json.decode(packed(many), type=bytes)))
