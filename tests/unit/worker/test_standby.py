"""A new instance beside an older one: it takes the cell's store when it is its turn, and not earlier."""

from __future__ import annotations

import asyncio

import pytest

from cell_worker.api import Cell, Event
from cell_worker.contract.protocol import EventName, Outcome
from cell_worker.store.store import FencedError
from tests.support.handlers import Gate
from tests.support.memory_store import MemoryStore, Volume
from tests.support.runtime_world import batch, emit, in_loop, make, one_result, results, turns


@in_loop
async def test_an_older_instance_goes_on_beside_one_in_standby() -> None:
    """It can commit also after the new instance has answered a canary."""
    volume = Volume()
    older, _ = await make(emit, volume=volume)
    newer, store = await make(emit, volume=volume, generation=2)
    assert (await one_result(newer, batch("canary"))).outcome is Outcome.OK
    assert (await one_result(older)).outcome is Outcome.OK
    assert not newer.taken.is_set()
    assert await store.outbox(10) == []


@in_loop
async def test_the_first_event_takes_the_store_before_its_handler_begins() -> None:
    """From then on the older instance commits nothing, answers retry, and owns no batch."""
    volume, gate = Volume(), Gate()
    older, _ = await make(gate, volume=volume)
    owner: list[int] = []

    async def handler(event: Event, cell: Cell) -> None:
        owner.append(volume.highest)

    newer, _ = await make(handler, volume=volume, generation=2)
    begun = asyncio.create_task(one_result(older, batch("late")))
    await turns()
    assert (await one_result(newer)).outcome is Outcome.OK
    assert owner == [2]
    gate.open.set()
    assert (await begun).outcome is Outcome.RETRY
    assert older.fenced.is_set()
    assert not older.owns(batch("more"))
    assert volume.processed == {"a"}


@in_loop
async def test_a_store_that_cannot_be_taken_means_retry_and_is_tried_again() -> None:
    """The handler does not begin until the store is taken."""
    gate = Gate()
    runtime, store = await make(gate)
    store.broken = True
    result = await one_result(runtime)
    assert (result.outcome, result.reason, gate.begun) == (Outcome.RETRY, "disk full", [])
    store.broken = False
    gate.open.set()
    assert (await one_result(runtime)).outcome is Outcome.OK


@in_loop
async def test_a_batch_takes_the_store_once() -> None:
    """Also when all its events begin together, and the registry admits the instance at the same moment."""

    class Slow(MemoryStore):
        takes = 0

        async def take(self) -> None:
            self.takes += 1
            await turns()
            await super().take()

        async def commit(self, event: EventName, lines: object, digest: bytes = b"") -> bool:
            return True

    runtime, _ = await make(emit)
    store = runtime._store = Slow()
    await asyncio.gather(results(runtime, batch("a", "b", "c")), runtime.take())
    assert store.takes == 1


@in_loop
async def test_an_instance_that_comes_too_late_is_fenced_by_its_first_event() -> None:
    """A newer instance has the store already, so the handler does not begin."""
    volume, gate = Volume(), Gate()
    late, _ = await make(gate, volume=volume)
    newer, _ = await make(emit, volume=volume, generation=2)
    await newer.take()
    assert (await one_result(late)).outcome is Outcome.RETRY
    assert late.fenced.is_set()
    assert gate.begun == []
    with pytest.raises(FencedError):
        await late.take()


@in_loop
async def test_an_instance_that_drains_in_standby_leaves_the_store_as_it_is() -> None:
    """The lines in the outbox are for the older instance to deliver."""
    volume = Volume()
    older, _ = await make(emit, volume=volume)
    await one_result(older)
    newer, store = await make(emit, volume=volume, generation=2)
    await newer.drain()
    assert (await one_result(newer, batch("late"))).outcome is Outcome.RETRY
    assert volume.highest == 1
    assert await store.outbox(10) == []
