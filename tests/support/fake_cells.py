"""Cells in memory behind the CellClient port: they process events, are slow, crash and refuse as they are told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from cell_worker.fence import Fence
from router.core.errors import CellRefusedError, CellUnavailableError
from router.core.models import ComponentView, Contact, Event, Outcome, Result, Target
from router.ports import Clock

Behaviour = Callable[[Event], Outcome]


@dataclass(frozen=True)
class Sickness:
    """What is wrong with one instance of a fake cell."""

    factor: float = 1.0  # multiplies the time of every event and canary
    extra_s: float = 0.0  # seconds more for every event and canary
    event_extra_s: float = 0.0  # seconds more for every event: the canary does not show it
    canary_extra_s: float = 0.0  # seconds more for every canary: events do not show it
    part: Callable[[Event], bool] = lambda _: False  # which events and their copies are slow by part_s
    part_s: float = 0.0  # seconds more
    hangs: bool = False  # answers nothing
    outcome: Outcome | None = None  # what every event and canary gets; None: what the cell's behaviour says
    fails_every: int = 0  # so many events, one fails; 0: none does

    def more_s(self, event: Event) -> float:
        """Return how many seconds longer than usual this event, copy or canary takes."""
        if event.canary:
            return self.extra_s + self.canary_extra_s
        return self.extra_s + self.event_extra_s + (self.part_s if self.part(event) else 0.0)


WELL = Sickness()


@dataclass
class FakeCell:
    """A cell whose memory of what it has done outlives a crash, as a real cell's store does."""

    seconds: float = 0.01  # what each event takes
    down: bool = False
    dies_after: int | None = None  # after this number of results it stops answering
    refuses: bool = False
    kills: set[str] = field(default_factory=set)  # keys, and ids of events, that end the instance
    kills_after_s: float = 0.0  # how long such an event runs before
    blocks: bool = False  # it blocks the instance's event loop instead, so that nothing is answered any more
    deaths: int = 0
    ended: set[int] = field(default_factory=set)  # generations that were ended by force
    time_of_event: Callable[[Event], float] | None = None  # instead of `seconds`
    behaviour: Behaviour = lambda _: Outcome.OK
    denied: Callable[[Event], bool] = lambda _: False  # AWS denies it what such an event needs
    done: Counter[str] = field(default_factory=Counter)  # event id → effects
    bodies: dict[tuple[str, str], bytes] = field(default_factory=dict)  # of each event that is done, by its key and id
    deliveries: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)
    done_at: dict[str, float] = field(default_factory=dict)  # event id → when its effect came
    begun: Counter[str] = field(default_factory=Counter)  # key → events sent here
    fence: Fence = field(default_factory=Fence)
    sick: dict[int, Sickness] = field(default_factory=dict)  # generation → its sickness
    canary_s: float = 0.01
    rehearsed: dict[int, list[Event]] = field(default_factory=dict)  # generation → the copies that it did
    trying: set[int] = field(default_factory=set)  # generations that work on a suspect
    finishes: bool = False  # goes on with what it has begun when its router has gone, as a real cell does

    def stuck(self, generation: int) -> bool:
        """Whether the instance of that generation answers nothing any more."""
        return self.down or self.sick.get(generation, WELL).hangs

    def time_of(self, event: Event) -> float:
        """Return the seconds that this event takes here."""
        return self.time_of_event(event) if self.time_of_event else self.seconds


class FakeCells:
    """The CellClient port for several fake cells."""

    def __init__(self, clock: Clock, cells: Sequence[str]) -> None:
        self._clock = clock
        self.cells = {cell_id: FakeCell() for cell_id in cells}
        self.batches: list[int] = []
        self.order: list[str] = []  # event ids in the order of their effects, over all cells
        self.generations: Counter[tuple[str, int]] = Counter()  # effects of each instance
        self.on_effect: Callable[[FakeCell, Event], None] = lambda _cell, _event: None
        self.keep = True  # False: remember nothing, for tests of memory

    async def process(self, target: Target, batch: Sequence[Event]) -> AsyncIterator[Result]:
        """Process all events of a batch at once, as real cells do within their concurrency, and yield the results."""
        cell = self.cells[target.cell_id]
        if cell.down:
            raise CellUnavailableError("connection refused", reached=False)
        if cell.refuses or target.epoch < cell.fence.epoch:
            raise CellRefusedError(409, "not mine")
        if not self.keep:
            for index in range(len(batch)):
                await self._clock.sleep(0)
                yield Result(index, Outcome.OK)
            return
        if not (batch[0].canary or batch[0].rehearse):
            self.batches.append(len(batch))
        cell.begun += Counter(event.partition_key for event in batch if not event.rehearse)
        finished: asyncio.Queue[Result | None] = asyncio.Queue()
        working = [
            asyncio.create_task(self._fenced(cell, target.epoch, self._one(target, i, event, finished)))
            for i, event in enumerate(batch)
        ]
        for _ in batch:
            cell.fence.begin(target.epoch)
        try:
            for _ in batch:
                if (result := await finished.get()) is None:
                    raise CellUnavailableError("connection reset")
                yield result
        finally:
            for task in working if not cell.finishes else ():
                task.cancel()

    async def _fenced(self, cell: FakeCell, epoch: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            cell.fence.end(epoch)

    async def _one(self, target: Target, index: int, event: Event, finished: asyncio.Queue[Result | None]) -> None:
        trying = self.cells[target.cell_id].trying
        if not event.suspect:
            await self._begun(target, index, event, finished)
        elif target.generation in trying:
            finished.put_nowait(Result(index, Outcome.RETRY, "one suspect at a time", contact=Contact.NOT_REACHED))
        else:
            trying.add(target.generation)
            try:
                await self._begun(target, index, event, finished)
            finally:
                trying.discard(target.generation)

    async def _begun(self, target: Target, index: int, event: Event, finished: asyncio.Queue[Result | None]) -> None:
        cell = self.cells[target.cell_id]
        sickness = cell.sick.get(target.generation, WELL)
        if not cell.kills.isdisjoint((event.partition_key, event.event_id)):
            await self._clock.sleep(cell.kills_after_s)
            cell.deaths += not cell.stuck(target.generation)
            if cell.blocks:
                cell.sick[target.generation] = Sickness(hangs=True)
                await self._until_ended(cell, target.generation)
            else:
                cell.down = True
            finished.put_nowait(None)
            return
        time_s = cell.canary_s if event.canary and cell.time_of_event is None else cell.time_of(event)
        await self._clock.sleep(sickness.factor * time_s + sickness.more_s(event))
        while cell.sick.get(target.generation, WELL).hangs and target.generation not in cell.ended:
            await self._clock.sleep(0.5)
        if cell.down or (cell.blocks and target.generation in cell.ended) or cell.dies_after == 0:
            finished.put_nowait(None)
            return
        if event.canary or event.rehearse:
            cell.rehearsed.setdefault(target.generation, []).extend([event] if event.rehearse else ())
            finished.put_nowait(Result(index, sickness.outcome or Outcome.OK))
            return
        cell.deliveries[event.event_id] += 1
        if cell.denied(event):
            finished.put_nowait(Result(index, Outcome.RETRY, "AccessDenied: said S3", denied=True))
            return
        outcome = sickness.outcome or cell.behaviour(event)
        if sickness.fails_every and sum(cell.deliveries.values()) % sickness.fails_every == 0:
            outcome = Outcome.FAILED
        name = (event.partition_key, event.event_id)
        duplicate = outcome is Outcome.OK and name in cell.bodies
        if outcome is Outcome.OK and not duplicate:
            cell.done[event.event_id] += 1
            cell.bodies[name] = event.body
            cell.order.append(event.event_id)
            cell.done_at[event.event_id] = self._clock.monotonic()
            self.order.append(event.event_id)
            self.generations[target.cell_id, target.generation] += 1
            self.on_effect(cell, event)
        if cell.dies_after is not None:
            cell.dies_after -= 1
        other_body = duplicate and cell.bodies[name] != event.body
        reason = None if outcome is Outcome.OK else f"said {outcome}"
        finished.put_nowait(Result(index, outcome, reason, duplicate, other_body))

    async def _until_ended(self, cell: FakeCell, generation: int) -> None:
        while generation not in cell.ended:
            await self._clock.sleep(0.5)

    def effects(self) -> Counter[str]:
        """Count the effects of each event over all cells, by event id."""
        effects: Counter[str] = Counter()
        for cell in self.cells.values():
            effects.update(cell.done)
        return effects


class Instances:
    """The InstanceControl port: its components are as the test says, and it notes what was asked of them."""

    def __init__(self) -> None:
        self.sick: dict[str, set[str]] = {}  # address → names of components
        self.deaf: set[str] = set()  # addresses that don't answer
        self.restarted: list[tuple[str, str]] = []
        self.on_restart: Callable[[str, str], None] = lambda _address, _component: None

    async def components(self, target: Target, within_s: float) -> list[ComponentView]:
        if target.address in self.deaf:
            raise CellUnavailableError("no answer")
        return [
            ComponentView(name, healthy=False, detail="is sick") for name in sorted(self.sick.get(target.address, ()))
        ]

    async def restart(self, target: Target, component: str, within_s: float) -> None:
        if target.address in self.deaf:
            raise CellUnavailableError("no answer")
        self.restarted.append((target.address, component))
        self.on_restart(target.address, component)
