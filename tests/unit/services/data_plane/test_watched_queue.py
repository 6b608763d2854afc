"""A queue that can't be used is reported once, and once more when it can be used again."""

from __future__ import annotations

import contextlib

import pytest

from router.adapters.memory import MemorySource
from router.core.errors import SourceDeniedError, SourceMissingError, SourceUnavailableError
from router.core.models import Draft
from router.core.telemetry import QueueFaulty, QueueWell
from router.services.data_plane.watched_queue import WELL_AFTER_S, WatchedQueue
from tests.support.fake_clock import FakeClock, play
from tests.support.router_world import Notes, World

AWAY = SourceUnavailableError("no answer")
GONE = SourceMissingError("there is no such queue")


class Faulty(MemorySource):
    """A queue whose every call fails with the given fault."""

    fault: Exception | None = None

    def _fail_if_down(self) -> None:
        if self.fault is not None:
            raise self.fault

    async def max_bytes(self) -> int:
        self._fail_if_down()
        return await super().max_bytes()


class Rig:
    """A watched queue, and the records of what it reports."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.notes = Notes()
        self.inner = Faulty("q.fifo", self.clock)
        self.queue = WatchedQueue(self.inner, self.clock, self.notes)

    async def poll(self, fault: SourceUnavailableError | None, times: int = 1) -> None:
        """Receive so many times, a second apart."""
        self.inner.fault = fault
        for _ in range(times):
            with contextlib.suppress(SourceUnavailableError):
                await self.queue.receive(10, 0, 30)
            await self.clock.sleep(1)


def test_it_is_the_queue_that_it_watches() -> None:
    """Every call goes through to the queue unchanged."""
    rig = Rig()

    async def story() -> None:
        assert (rig.queue.name, rig.queue.fifo) == ("q.fifo", True)
        drafts = [Draft("a", group_id="g", dedup_id="1"), Draft("b", group_id="g", dedup_id="2")]
        assert await rig.queue.send(drafts) == []
        received = await rig.queue.receive(10, 0, 30)
        assert [message.body for message in received] == ["a", "b"]
        await rig.queue.set_visibility(received, 0)
        again = await rig.queue.receive(10, 0, 30)
        assert [message.receive_count for message in again] == [2, 2]
        assert await rig.queue.delete(again) == []
        assert len(rig.inner) == 0

    play(rig.clock, story())
    assert rig.notes.records == []


@pytest.mark.parametrize("call", ["receive", "send", "delete", "set_visibility"])
def test_every_call_is_watched(call: str) -> None:
    """Every call reports a fault, and raises the queue's own error."""
    rig = Rig()

    async def story() -> None:
        drafts = [Draft("a", group_id="g", dedup_id="1")]
        await rig.inner.send(drafts)
        received = await rig.inner.receive(1, 0, 30)
        rig.inner.fault = GONE
        arguments = {"receive": (1, 0, 30), "send": (drafts,), "delete": (received,), "set_visibility": (received, 0)}
        with pytest.raises(SourceMissingError) as caught:
            await getattr(rig.queue, call)(*arguments[call])
        assert caught.value is GONE

    play(rig.clock, story())
    assert rig.notes.records == [QueueFaulty("q.fifo", missing=True, why=str(GONE))]


@pytest.mark.parametrize("call", ["depth", "max_bytes"])
def test_a_question_reports_no_fault_and_raises_what_is_expected_of_it(call: str) -> None:
    """Whoever asks can do without the answer, and an error that nobody foresaw must not end it."""
    rig = Rig()

    async def story() -> None:
        for fault in (GONE, RuntimeError("a bug")):
            rig.inner.fault = fault
            with pytest.raises(SourceUnavailableError):
                await getattr(rig.queue, call)()

    play(rig.clock, story())
    assert not any(isinstance(record, QueueFaulty) for record in rig.notes.records)


def test_a_fault_is_told_once_and_its_end_once() -> None:
    """The end is reported when calls have worked for a while."""
    rig = Rig()

    async def story() -> None:
        await rig.poll(GONE, 20)
        assert rig.notes.records == [QueueFaulty("q.fifo", missing=True, why=str(GONE))]
        await rig.poll(None, round(WELL_AFTER_S) - 1)
        assert rig.notes.count(QueueWell) == 0
        await rig.poll(None, 20)
        assert rig.notes.records[1:] == [QueueWell("q.fifo")]
        await rig.poll(GONE)
        assert rig.notes.count(QueueFaulty) == 2

    play(rig.clock, story())


def test_another_fault_is_told_too() -> None:
    """A server may come back and have forgotten the queue, which is another fault."""
    rig = Rig()

    async def story() -> None:
        await rig.poll(AWAY, 3)
        await rig.poll(GONE, 3)

    play(rig.clock, story())
    assert rig.notes.records == [
        QueueFaulty("q.fifo", missing=False, why=str(AWAY)),
        QueueFaulty("q.fifo", missing=True, why=str(GONE)),
    ]


def test_a_refusal_by_aws_is_told_as_such() -> None:
    """It is no outage: people have to mend it, and the process is not ready meanwhile."""
    rig, denied = Rig(), SourceDeniedError("ExpiredToken: no")

    async def story() -> None:
        await rig.poll(AWAY, 3)
        await rig.poll(denied, 20)

    play(rig.clock, story())
    assert rig.notes.records[1:] == [QueueFaulty("q.fifo", missing=False, why=str(denied), denied=True)]


def test_where_every_second_call_fails_that_is_one_fault() -> None:
    """While every second call fails, no end of the fault is reported."""
    rig = Rig()

    async def story() -> None:
        for _ in range(30):
            await rig.poll(AWAY)
            await rig.poll(None)

    play(rig.clock, story())
    assert len(rig.notes.records) == 1


def test_every_queue_of_a_router_is_watched() -> None:
    """Source, dead-letter, quarantine and hold queues are reported, and nothing is lost by their absence."""
    world = World(cells=2)
    world.source, world.dead, world.quarantine = (Faulty(name, world.clock) for name in ("source", "dead", "aside"))
    world.holds = {cell: Faulty(f"hold-{cell}", world.clock) for cell in world.cell_ids}
    queues = [world.source, world.dead, world.quarantine, *world.holds.values()]

    def fail(fault: SourceUnavailableError | None, *failing: MemorySource) -> None:
        for queue in failing or queues:
            queue.fault = fault  # type: ignore[attr-defined] # they are all Faulty

    async def story() -> None:
        await world.send(20)
        await world.source.send([Draft("no json")])  # for the dead-letter queue
        fail(GONE, *queues[1:])
        async with world.routing():
            await world.clock.sleep(30)
            fail(GONE)
            await world.clock.sleep(30)
            fail(None)
            await world.settled()
            await world.clock.sleep(60)

    play(world.clock, story())
    told = [record.queue for record in world.notes.records if isinstance(record, QueueFaulty)]
    assert sorted(told) == sorted(queue.name for queue in queues)
    assert world.cells.effects().keys() == world.sent
    assert len(world.dead) == 1
