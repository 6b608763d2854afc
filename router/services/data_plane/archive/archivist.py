"""Writes the events that have ended into the archive, beside the routing.

Guarantees: it never keeps an event from anything. What it is given it takes at once, or drops and counts; it waits for
nothing but its own memory, which is bounded whatever S3 does. An event is in the archive only after it has ended.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

from router.core.archive.objects import MINUTE_MS
from router.core.archive.packing import PackedObject, Packer
from router.core.archive.records import NO_RESULT, OVERHEAD_BYTES, EndedEvent
from router.core.errors import SourceUnavailableError
from router.core.lanes.backoff import backoff
from router.core.models import Death, Event, Reason, Result
from router.core.telemetry import ArchiveDropped, ArchiveFaulty, ArchiveLoss, ObjectArchived
from router.ports import ArchiveStore, Beside, Clock, Observer
from router.services.data_plane.inbox import Delivery
from router.services.unforeseen import Unforeseen

PACK_EVERY_S: Final = 0.25  # so long events wait at most until they are compressed
MAX_FRESH_BYTES: Final = 16 * 1024 * 1024  # of events that are not compressed yet
MAX_BYTES: Final = 64 * 1024 * 1024  # of all that waits, compressed or not
MAX_EVENTS: Final = 20_000  # that are not compressed yet
PARALLEL: Final = 4  # writes at once
FIRST_BACKOFF_S: Final = 1.0
LAST_BACKOFF_S: Final = 30.0
GIVE_UP_S: Final = 600.0  # how long an object is tried that the bucket does not take
TELL_EVERY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class ArchiveConfig:
    """Whose events are archived, and by whom."""

    environment: str
    router: str  # its own name, which no other process ever has


@dataclass(frozen=True, slots=True)
class _ToWrite:
    """An object that waits to be written."""

    whole: PackedObject
    since: float  # monotonic seconds


class Archivist:
    """Collects events, compresses them beside the event loop, and writes an object a minute and range of slots."""

    def __init__(
        self,
        config: ArchiveConfig,
        store: ArchiveStore,
        beside: Beside,
        clock: Clock,
        observer: Observer,
        unforeseen: Unforeseen,
    ) -> None:
        self._packer = Packer(config.environment, config.router)
        self._store = store
        self._beside = beside
        self._clock = clock
        self._observer = observer
        self._unforeseen = unforeseen
        self._fresh: list[EndedEvent] = []
        self._fresh_bytes = 0
        self._in_hand = 0  # events that are being compressed
        self._open_events = 0  # in objects that still grow
        self._open_bytes = 0
        self._whole: deque[_ToWrite] = deque()
        self._room = MAX_FRESH_BYTES  # for fresh events
        self._packing = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._lost: Counter[ArchiveLoss] = Counter()  # since it was counted last
        self._untold: Counter[ArchiveLoss] = Counter()  # since it was told last
        self._tell_at = 0.0
        self._faulty = False

    def done(self, delivery: Delivery, cell_id: str, result: Result) -> None:
        """Take an event that its cell has processed."""
        event, received_at, sent_at = delivery.event, delivery.received.received_at, delivery.sent_at
        if self._has_room(event):
            self._fresh.append(
                EndedEvent(event, cell_id, delivery.generation, received_at, sent_at, delivery.answered_at, result)
            )

    def dead(self, delivery: Delivery, event: Event, death: Death) -> None:
        """Take an event that the dead-letter queue has taken."""
        received_at, sent_at, now = delivery.received.received_at, delivery.sent_at, self._clock.monotonic()
        if self._has_room(event):
            self._fresh.append(
                EndedEvent(event, death.cell_id, death.generation, received_at, sent_at, now, NO_RESULT, death)
            )

    async def run(self) -> None:
        """Compress and write until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_packing())
            group.create_task(self._keep_writing())

    async def close(self, within_s: float) -> None:
        """Write all that there is within so many seconds; what is left then is dropped."""
        all_written = asyncio.create_task(self._write_all())
        timer = asyncio.create_task(self._clock.sleep(within_s))
        try:
            await asyncio.wait({all_written, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (all_written, timer):
                task.cancel()
            await asyncio.gather(all_written, timer, return_exceptions=True)
        unwritten = sum(each.whole.events for each in self._whole)
        self._lost[ArchiveLoss.REFUSED] += unwritten + self._open_events + len(self._fresh) + self._in_hand
        self._count_losses(tell=True)

    async def _write_all(self) -> None:
        await self._pack(end_all=True)
        async with self._writing:
            while self._whole:
                if not await self._write_some():
                    await self._clock.sleep(PACK_EVERY_S)

    def _has_room(self, event: Event) -> bool:
        """Count an event in, or as lost. It runs for every event, so it does little."""
        origin, size = event.origin, OVERHEAD_BYTES + len(event.body)
        if origin is not None and (origin.attributes or origin.binaries):
            size += origin.size
        fresh_bytes = self._fresh_bytes + size
        if fresh_bytes > self._room or len(self._fresh) >= MAX_EVENTS:
            self._lost[ArchiveLoss.FULL] += 1
            return False
        self._fresh_bytes = fresh_bytes
        return True

    def _measure(self) -> None:
        """Say how many bytes of fresh events there is room for."""
        held = self._open_bytes + sum(len(each.whole.body) for each in self._whole)
        self._room = min(MAX_FRESH_BYTES, MAX_BYTES - held)

    async def _keep_packing(self) -> None:
        while True:
            await self._clock.sleep(PACK_EVERY_S)
            await self._pack(end_all=False)
            self._count_losses(tell=self._clock.monotonic() >= self._tell_at)

    async def _pack(self, *, end_all: bool) -> None:
        """Compress what is fresh, and end the objects whose minute is over, or that are long enough."""
        async with self._packing:
            if not (self._fresh or self._open_events):
                return
            fresh, self._fresh, self._fresh_bytes = self._fresh, [], 0
            self._in_hand = len(fresh)
            now_ms = self._clock.time_ms()
            zero_ms, this_minute = now_ms - self._clock.monotonic() * 1000, now_ms // MINUTE_MS
            packed = await self._beside.run(partial(self._packer.pack, fresh, zero_ms, this_minute, end_all=end_all))
            self._in_hand, self._open_events, self._open_bytes = 0, packed.open_events, packed.open_bytes
            for error, events in packed.failures:
                self._unforeseen.note("archive", error)
                self._lost[ArchiveLoss.UNWRITTEN] += events
            now = self._clock.monotonic()
            self._whole += [_ToWrite(each, now) for each in packed.objects]
            self._measure()

    async def _keep_writing(self) -> None:
        failures = 0
        while True:
            pause_s = backoff(FIRST_BACKOFF_S, LAST_BACKOFF_S, failures, self._clock.jitter()) if failures else 0.0
            await self._clock.sleep(PACK_EVERY_S + pause_s)
            async with self._writing:
                while self._whole:
                    failures = 0 if await self._write_some() else failures + 1
                    if failures:
                        break
                self._give_up()

    async def _write_some(self) -> bool:
        """Write the oldest objects; what was not taken stays the oldest. Returns whether all were taken."""
        some = list(islice(self._whole, PARALLEL))
        faults = await asyncio.gather(*(self._write(each.whole) for each in some))
        left = [each for each, fault in zip(some, faults, strict=True) if fault is not None]
        for _ in some:
            self._whole.popleft()
        self._whole.extendleft(reversed(left))
        self._measure()
        fault = next((fault for fault in faults if fault is not None), None)
        if (fault is not None) is not self._faulty:
            self._faulty = fault is not None
            self._observer.observe(ArchiveFaulty(fault))
        return fault is None

    async def _write(self, each: PackedObject) -> Reason | None:
        try:
            await self._store.put(each.key, each.body)
        except SourceUnavailableError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - it is tried again, and given up at last
            return self._unforeseen.note("archive", error)
        self._observer.observe(ObjectArchived(each.events, len(each.body)))
        return None

    def _give_up(self) -> None:
        """Drop the objects that the bucket has not taken for too long."""
        oldest = self._clock.monotonic() - GIVE_UP_S
        while self._whole and self._whole[0].since < oldest:
            self._lost[ArchiveLoss.REFUSED] += self._whole.popleft().whole.events
        self._measure()

    def _count_losses(self, *, tell: bool) -> None:
        lost, self._lost = self._lost, Counter()
        self._untold.update(lost)
        for cause, untold in self._untold.items():
            if lost[cause] or (tell and untold):
                self._observer.observe(ArchiveDropped(cause, lost[cause], untold if tell else 0))
        if tell and self._untold.total():
            self._untold.clear()
            self._tell_at = self._clock.monotonic() + TELL_EVERY_S
