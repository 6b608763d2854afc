"""Errors that nobody foresaw end one attempt of one part, and are told with their cause; the router goes on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from math import inf, nan
from typing import Any

import pytest

from router.core.detection.samples import RouterSample
from router.core.errors import CellUnavailableError, NoDescriptorError
from router.core.models import Event, Outcome, Result, Target
from router.core.policy import Policy, TenantLimit
from router.core.registry import Snapshot
from router.core.telemetry import AttemptFailed, KeyQuarantined, LaneFailed
from router.services.data_plane.hold_queue import HoldQueue
from router.services.unforeseen import TELL_AGAIN_S
from tests.support.fake_cells import FakeCells
from tests.support.fake_clock import play
from tests.support.router_world import World

ERRORS = [RecursionError("maximum recursion depth exceeded"), ValueError("line too long"), KeyError("x"), MemoryError()]


class BadClient:
    """A CellClient whose calls to one cell raise what no client should, after some results or before any."""

    def __init__(self, cells: FakeCells, bad: str, error: Exception, after: int) -> None:
        self._cells = cells
        self._bad = bad
        self._error = error
        self._after = after
        self.raises = True

    async def process(self, target: Target, batch: Sequence[Event]) -> AsyncIterator[Result]:
        if not self.raises or target.cell_id != self._bad:
            async for result in self._cells.process(target, batch):
                yield result
            return
        left = self._after
        async for result in self._cells.process(target, batch[:left]) if left else _none():
            yield result
        raise self._error


async def _none() -> AsyncIterator[Result]:
    """Yield no result at all."""
    nothing: tuple[Result, ...] = ()
    for result in nothing:
        yield result


def failures(world: World, part: str) -> list[AttemptFailed]:
    """What was told of a part's attempts that failed."""
    return [r for r in world.notes.records if isinstance(r, AttemptFailed) and r.part == part]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("after", [0, 1])
def test_whatever_a_client_raises_ends_one_batch(error: Exception, after: int) -> None:
    """The other cells go on, the events of this one wait, and nothing is lost once it is well again."""
    world = World()
    bad = world.cell_ids[0]
    client: Any = BadClient(world.cells, bad, error, after)
    others = [key for cell_id in world.cell_ids[1:] for key in world.keys_of(cell_id, 3)]

    async def story() -> None:
        world.cells, cells = client, world.cells
        async with world.routing():
            world.cells = cells
            await world.send(20, key=lambda i: world.keys_of(bad, 20)[i])
            await world.send_steadily(dict.fromkeys(others, 2.0), 20)
            assert len([x for x in world.latencies(others, 0, world.clock.now - 1) if x < 1]) >= 0.95 * len(others) * 38
            told = failures(world, "lane")
            assert [r.error for r in told if r.tell] == [error]
            assert len(told) <= 20  # the lane is shut for longer and longer, up to 5 s
            lane_failures = [r for r in world.notes.records if isinstance(r, LaneFailed)]
            assert {r.cell_id for r in lane_failures} == {bad}
            assert all(r.error.startswith(type(error).__name__) for r in lane_failures)
            client.raises = False
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))


@pytest.mark.parametrize("error", [NoDescriptorError("no file descriptor is left"), CellUnavailableError("reset")])
def test_a_router_that_can_call_no_cell_blames_none(
    error: CellUnavailableError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it lacks itself is not told of a cell, as a connection that breaks is. The events wait all the same."""
    world = World()
    bad = world.cell_ids[0]
    client: Any = BadClient(world.cells, bad, error, after=0)
    samples: list[RouterSample] = []

    async def note_sample(_: str, sample: RouterSample) -> None:
        samples.append(sample)

    monkeypatch.setattr(world.registry, "note_sample", note_sample)

    async def story() -> None:
        world.cells, cells = client, world.cells
        async with world.routing():
            world.cells = cells
            await world.send(20, key=lambda i: world.keys_of(bad, 20)[i])
            await world.clock.sleep(10)
            seen = [sample.cells[bad] for sample in samples if bad in sample.cells]
            assert any(cell.failures for cell in seen) == (not isinstance(error, NoDescriptorError))
            client.raises = False
            await world.settled()

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))


def test_a_cancelled_lane_ends() -> None:
    """A process that stops is not held up by what catches every error."""
    world = World()
    world.cells.cells[world.cell_ids[0]].seconds = 10_000

    async def story() -> None:
        router, stop = world.router(), asyncio.Event()
        running = asyncio.create_task(router.run(stop))
        await world.send(4, key=lambda i: world.keys_of(world.cell_ids[0], 4)[i])
        await world.clock.sleep(1)
        assert router.dispatcher.in_flight()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    play(world.clock, story())
    assert not failures(world, "lane")


@pytest.mark.parametrize("call", ["note_sample", "report", "note_traffic", "changed", "snapshot"])
def test_a_report_that_fails_is_told_once_and_made_again(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the registry's client raises, events flow by what is known, and the next report goes out."""
    world = World()
    registry = world.registry
    works = getattr(registry, call)
    made: list[object] = []
    broken = True

    async def wrapped(*args: Any) -> Any:
        if broken:
            raise RecursionError("nested too deep")
        made.append(args)
        return await works(*args)

    async def story() -> None:
        nonlocal broken
        async with world.routing():
            await world.clock.sleep(2)
            monkeypatch.setattr(registry, call, wrapped)
            await world.send(50)
            await world.clock.sleep(30)
            assert not len(world.source)
            told = [r for r in world.notes.records if isinstance(r, AttemptFailed)]
            assert [type(r.error) for r in told if r.tell] == [RecursionError]
            broken = False
            await world.clock.sleep(15)
            assert made

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))


def test_a_registry_that_says_what_cant_be_used_leaves_what_is_known_in_force() -> None:
    """Also when a router has just started: then what the router before it knew is in force."""
    world = World()

    class Garbled:
        """The world's registry, whose snapshots raise an error that nobody foresaw."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.registry, name)

        async def snapshot(self) -> Snapshot:
            raise RecursionError("nested too deep")

    async def story() -> None:
        async with world.routing():
            await world.clock.sleep(1)
        stop, router = asyncio.Event(), world.router(registry=Garbled())
        running = asyncio.create_task(router.run(stop))
        await world.send(20)
        await world.settled(30)
        stop.set()
        await running

    play(world.clock, story())
    assert [r.error.args for r in failures(world, "routing") if r.tell] == [("nested too deep",)]


def test_a_quarantine_that_cant_be_written_down_is_kept_and_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the registry's client raises, the key is in quarantine at this router."""
    world = World(max_attempts=3)
    for cell in world.cells.cells.values():
        cell.behaviour = lambda event: Outcome.FAILED if event.partition_key == "bad" else Outcome.OK

    async def fails() -> Policy:
        raise RecursionError("nested too deep")

    async def story() -> None:
        async with world.routing():
            with monkeypatch.context() as patch:
                patch.setattr(world.registry, "policy", fails)
                home = world.keys_of(world.owner("bad"), 1)[0]
                await world.send(40, key=lambda i: "bad" if i % 2 else home)
                await world.clock.sleep(60)
                assert world.notes.count(KeyQuarantined)
            await world.clock.sleep(5)
            assert "bad" in world.registry.decided.quarantined

    play(world.clock, story())
    assert len([r for r in failures(world, "quarantine") if r.tell]) == 1


@pytest.mark.parametrize("fifo", [False, True])
def test_an_event_that_a_router_fails_on_is_let_go(fifo: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again half a minute later, and the events of others are not touched."""
    world = World(fifo=fifo)
    cell_id = world.cell_ids[0]
    key = world.keys_of(cell_id, 1)[0]
    broken = True

    async def story() -> None:
        nonlocal broken
        async with world.routing() as router:
            await world.clock.sleep(1)
            dispatcher = router.dispatcher
            check = dispatcher._admission.check

            def failing(event: Event, *args: Any) -> Any:
                if broken and event.partition_key == key:
                    raise OverflowError("a number that no policy should have")
                return check(event, *args)

            monkeypatch.setattr(dispatcher._admission, "check", failing)
            await world.send(20, key=lambda i: key if i % 2 else f"other-{i}")
            await world.clock.sleep(20)
            assert len(world.cells.effects()) == 10
            broken = False
            await world.settled(120)

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert len([r for r in failures(world, "event") if r.tell]) == 1


def test_a_result_that_a_router_fails_on_costs_its_own_event_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the hold queue can't take an event as it is, the other events of the batch are held all the same."""
    world = World(cells=1)
    put = HoldQueue.put

    def failing(hold: HoldQueue, delivery: Any, event: Event, delay_s: int) -> bool:
        if event.event_id == "e3" and world.clock.now < 1020:
            raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")
        return put(hold, delivery, event, delay_s)

    monkeypatch.setattr(HoldQueue, "put", failing)

    async def story() -> None:
        async with world.routing():
            world.cells.cells[world.cell_ids[0]].refuses = True
            await world.send(10)
            await world.clock.sleep(15)
            world.cells.cells[world.cell_ids[0]].refuses = False
            await world.settled(300)

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert failures(world, "event")


def test_the_same_error_is_told_again_after_a_while() -> None:
    """So that it is in today's log too; in between it is counted only."""
    world = World()
    monkeypatched: Any = world.registry

    async def fails(router_id: str, sample: RouterSample) -> None:
        raise ValueError(f"sample {sample.number}")

    monkeypatched.note_sample = fails

    async def story() -> None:
        async with world.routing():
            await world.clock.sleep(2 * TELL_AGAIN_S - 10)

    play(world.clock, story())
    told = failures(world, "report")
    assert len([r for r in told if r.tell]) == 2
    assert len(told) > TELL_AGAIN_S


@pytest.mark.parametrize("queue", ["source", "quarantine", "dead", "hold"])
@pytest.mark.parametrize("call", ["receive", "delete", "send", "set_visibility"])
def test_a_queue_that_answers_what_nobody_foresaw_is_out_of_reach(
    queue: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call is tried again, nothing is lost, and the other queues are not touched."""
    world = World(cells=2)
    cell_id = world.cell_ids[0]
    broken: Any = world.holds[cell_id] if queue == "hold" else getattr(world, queue)

    async def fails(*_: Any, **__: Any) -> Any:
        raise RecursionError("nested too deep")

    async def story() -> None:
        async with world.routing():
            await world.clock.sleep(1)
            await world.send(20, key=lambda i: f"tenant-{i}")
            await world.send_raw("no event", group="bad")
            with monkeypatch.context() as patch:
                patch.setattr(broken, call, fails)
                world.cells.cells[cell_id].refuses = True
                await world.clock.sleep(20)
                world.cells.cells[cell_id].refuses = False
            await world.settled(300)

    play(world.clock, story())
    assert world.cells.effects() == Counter(dict.fromkeys(world.sent, 1))
    assert len(world.dead) >= 1


def test_limits_that_nobody_judged_end_no_router_and_stop_no_key() -> None:
    """A policy that was written by hand, or that an older leader accepted, may hold any numbers."""
    world = World()
    odd = {"negative": TenantLimit(-1.0, -1, -1), "no number": TenantLimit(nan, 0), "endless": TenantLimit(inf)}
    world.registry.decided = Policy(1, TenantLimit(1e-310), odd)

    async def story() -> None:
        async with world.routing():
            await world.send(30, key=lambda i: sorted(odd)[i % 3])
            await world.settled(60)
            await world.send(10, key=lambda _: "has the default")
            await world.clock.sleep(60)

    play(world.clock, story())
    assert len(world.cells.effects()) == 31
    assert not [r for r in world.notes.records if isinstance(r, AttemptFailed)]
