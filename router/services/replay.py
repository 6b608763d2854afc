"""Sends archived events into another environment, and finds out how they ended there.

Guarantees: every selected event is sent at least once, in the order in which events ended, and never faster than
allowed. What is sent is noted only after the queue has taken it: a replay that is killed goes on there, and what it
sends twice its cell knows by key and id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from router.core.archive.comparison import Endings, Name
from router.core.archive.objects import MINUTE_MS, minute_prefix
from router.core.archive.records import ArchivedEvent
from router.core.archive.replay import Checkpoint, Selection, due_s, in_order, replay_draft
from router.core.errors import SourceUnavailableError
from router.core.lanes.backoff import backoff
from router.core.messages.batches import BATCH
from router.core.messages.proofs import AttributeKeys
from router.core.models import Draft, Reason
from router.ports import ArchiveReader, Clock, EventSource

SEND_TRIES: Final = 8
LOOK_EVERY_S: Final = 15.0  # for results: an object comes when its minute is over


class Progress(Protocol):
    """Is told how far a replay has come."""

    def sent(self, at: Checkpoint) -> None:
        """Keep how far it is, so that it can go on there, and tell it."""
        ...

    def unreadable(self, name: str, why: Reason) -> None:
        """Tell that a line of the archive, or a whole object, is left out."""
        ...

    def not_sent(self, record: ArchivedEvent, why: Reason) -> None:
        """Tell that an event fits in no message of the queue."""
        ...

    def waiting(self, ended: int, events: int) -> None:
        """Tell of how many events the ending is known."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast events are sent."""

    speed: float | None  # times as fast as they ended; None: only the rate counts
    rate: float  # so many a second at most


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay: what of which archive is sent where, and how fast."""

    selection: Selection
    archive: ArchiveReader
    of: str  # the environment whose events they are
    progress: Progress
    clock: Clock

    async def live(self) -> Endings:
        """Read how the selected events have ended, without sending anything."""
        found = Endings()
        async for _, records in self._minutes(self.selection.minutes()):
            for record in records:
                found.add(record)
        return found

    async def send(self, queue: EventSource, keys: AttributeKeys, pace: Pace, at: Checkpoint) -> Checkpoint:
        """Send what is left to send from there on; returns where it is then. Raises SourceUnavailableError."""
        began, next_at, max_bytes = self.clock.monotonic(), self.clock.monotonic(), await queue.max_bytes()
        skipped_s = (at.minute * MINUTE_MS - self.selection.from_ms) / 1000 / pace.speed if pace.speed else 0.0
        minutes = range(max(at.minute, self.selection.minutes().start), self.selection.minutes().stop)
        async for minute, records in self._minutes(minutes):
            at = at if minute == at.minute else at.at_minute(minute)
            left = records[at.sent_of_minute :]
            for batch in _batches(left, fifo=queue.fifo):
                due = began + max(0.0, due_s(batch[0], self.selection, pace.speed) - max(0.0, skipped_s))
                await self._until(max(due, next_at))
                next_at = max(next_at, self.clock.monotonic()) + len(batch) / pace.rate
                await self._send(queue, self._drafts(batch, at, keys, max_bytes, fifo=queue.fifo))
                at = at.after(len(batch))
                self.progress.sent(at)
        return at

    async def results(
        self, archive: ArchiveReader, environment: str, since_ms: int, wanted: frozenset[Name], within_s: float
    ) -> Endings:
        """Read how the events ended in the environment, until all have or the time is over."""
        found, seen, until = Endings(), set[str](), self.clock.monotonic() + within_s
        while True:
            first, last = since_ms // MINUTE_MS, self.clock.time_ms() // MINUTE_MS
            for minute in range(first, last + 1):
                for name in await archive.names(minute_prefix(environment, minute)):
                    if name not in seen:
                        seen.add(name)
                        for record in self._readable(archive, name, await archive.read(name)):
                            if Name(record.partition_key, record.event_id) in wanted:
                                found.add(record)
            self.progress.waiting(len(found.of), len(wanted))
            if len(found.of) >= len(wanted) or self.clock.monotonic() >= until:
                return found
            await self.clock.sleep(LOOK_EVERY_S)

    async def _minutes(self, minutes: range) -> AsyncIterator[tuple[int, Sequence[ArchivedEvent]]]:
        """Read the selected events of each minute, in order; an object at a time, and each event once in a minute."""
        for minute in minutes:
            kept: list[list[ArchivedEvent]] = []
            for name in await self.archive.names(minute_prefix(self.of, minute)):
                stored = await self.archive.read(name)
                kept.append([each for each in self._readable(self.archive, name, stored) if self.selection.takes(each)])
            if any(kept):
                yield minute, list(in_order(kept))

    def _readable(self, archive: ArchiveReader, name: str, stored: bytes) -> list[ArchivedEvent]:
        found = []
        for each in archive.records(stored):
            if isinstance(each, str):
                self.progress.unreadable(name, each)
            else:
                found.append(each)
        return found

    def _drafts(
        self, batch: Sequence[ArchivedEvent], at: Checkpoint, keys: AttributeKeys, max_bytes: int, *, fifo: bool
    ) -> list[Draft]:
        run, drafts = f"{at.selection}/{at.started_at_ms}", []
        for record in batch:
            try:
                draft = replay_draft(record, run, keys, max_bytes, fifo=fifo)
            except ValueError as error:
                self.progress.not_sent(record, str(error))
                continue
            if draft.size > max_bytes:
                self.progress.not_sent(record, f"it has {draft.size} bytes, and the queue takes {max_bytes}")
            else:
                drafts.append(draft)
        return drafts

    async def _send(self, queue: EventSource, drafts: list[Draft]) -> None:
        """Send drafts in their order, and again what the queue did not take."""
        failures, why = 0, "it did not take them"
        while drafts:
            try:
                refused = await queue.send(drafts)
            except SourceUnavailableError as error:
                refused, why = list(range(len(drafts))), str(error)
            drafts = [drafts[position] for position in refused]
            failures = failures + 1 if drafts else 0
            if failures >= SEND_TRIES:
                raise SourceUnavailableError(f"queue {queue.name}: {why}; the same command goes on from here")
            if drafts:
                await self.clock.sleep(backoff(0.5, 10.0, failures, self.clock.jitter()))

    async def _until(self, at: float) -> None:
        if (left_s := at - self.clock.monotonic()) > 0:
            await self.clock.sleep(left_s)


def _batches(records: Sequence[ArchivedEvent], *, fifo: bool) -> Iterator[Sequence[ArchivedEvent]]:
    """Cut records into what one call takes; for a FIFO queue, which may refuse some of a call, no key twice in one."""
    batch: list[ArchivedEvent] = []
    keys = set[str]()
    for record in records:
        if len(batch) == BATCH or (fifo and record.partition_key in keys):
            yield batch
            batch, keys = [], set()
        batch.append(record)
        keys.add(record.partition_key)
    if batch:
        yield batch
