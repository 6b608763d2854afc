"""What an operator does with the dead-letter queue: look at entries, send them back, delete them.

Guarantees: an entry is deleted only when its destination has taken it, or when it is dropped; a failed send leaves it.
What a run hides is visible again afterwards (see `queue_scan`). It remembers no bodies but those of parts of long
entries whose other parts it has not met yet.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Literal

from router.core.errors import SourceUnavailableError
from router.core.messages.batches import BATCH, chunks
from router.core.messages.dead_letter import Entry, Filter, destination, entries, incomplete, redrive_draft
from router.core.messages.parts import Parts
from router.core.messages.proofs import AttributeKeys
from router.core.models import MAX_MESSAGE_BYTES, DeadLetterReason, Reason
from router.ports import Clock, EventSource
from router.services.queue_scan import Scan, to_end

MAX_LIMIT: Final = sys.maxsize
MAX_STRIKES: Final = 5  # after so many failed calls in a row a destination is given up
CHUNKS_PER_S: Final = 10  # a redrive with a rate sends so often a second, or else one entry at a time


@dataclass(frozen=True, slots=True)
class EntryReport:
    """What a run did with one entry, or would do in a dry run."""

    kind: Literal["would", "done", "failed"]
    entry: Entry
    detail: str  # to where, or why not


@dataclass(slots=True)
class Tally:
    """The counts of a run, which go up while it goes on."""

    done: int = 0  # entries redriven, dropped or shown; in a dry run those that would be
    failed: int = 0
    other: int = 0  # entries that don't match the filter
    newer: int = 0  # messages that came after the start and were not looked at
    left: int = 0  # messages that were seen and are still in the queue
    unreleased: int = 0  # those of them that stay hidden until their visibility timeout ends
    full: bool = False  # no more could be hidden at once, so there may be more entries


Report = Callable[[EntryReport], None]
_Act = Callable[[list[Entry], "Scan"], Coroutine[Any, Any, None]]


async def _nobodys(_: str) -> Reason | None:
    return None


class DeadLetters:
    """The dead-letter queue of one environment, for an operator.

    `home` is the name of the source queue. `is_ours` tells whether a queue, named in the envelope of an entry of that
    cell, belongs to the environment. `open_queue` opens a queue by its name. `why_foreign` says why another queue gets
    nothing: who can write envelopes must not reach another environment by them.
    """

    def __init__(
        self,
        queue: EventSource,
        home: str,
        is_ours: Callable[[str, str], bool],
        open_queue: Callable[[str], EventSource],
        keys: AttributeKeys,
        clock: Clock,
        why_foreign: Callable[[str], Awaitable[Reason | None]] = _nobodys,
    ) -> None:
        self.name = queue.name
        self._queue = queue
        self._home = home
        self._is_ours = is_ours
        self._open_queue = open_queue
        self._keys = keys
        self._clock = clock
        self._why_foreign = why_foreign

    async def look(self, where: Filter, tally: Tally, show: Callable[[Entry], None]) -> None:
        """Show each entry that matches the filter, as it is found."""

        async def act(entries: list[Entry], _: Scan) -> None:
            for entry in entries:
                show(entry)
            tally.done += len(entries)

        await self._each(where, tally, act, until_ms=None)

    async def redrive(
        self, where: Filter, tally: Tally, report: Report, *, rate: float | None = None, dry_run: bool = False
    ) -> None:
        """Send each entry that matches the filter back to where it came from, and then delete it.

        `rate` is how many are sent a second at most, None for any number. A dry run sends and deletes nothing.
        """
        redrive = _Redrive(self._open_queue, self._keys, self._clock, tally, report, rate)

        async def act(entries: list[Entry], scan: Scan) -> None:
            for queue, group in groupby(sorted(entries, key=self._destination), key=self._destination):
                if queue == self.name:
                    redrive.failed(list(group), "its envelope names the dead-letter queue itself as its source")
                elif not queue:
                    redrive.failed(list(group), "the other parts of its envelope were not found")
                elif queue != self._home and (why := await self._why_foreign(queue)) is not None:
                    redrive.failed(list(group), f"queue {queue}: {why}")
                elif dry_run:
                    _would(list(group), tally, report, f"to {queue}")
                else:
                    await redrive.send(list(group), queue, scan)

        await self._each(where, tally, act, until_ms=self._clock.time_ms())

    async def drop(self, where: Filter, tally: Tally, report: Report, *, dry_run: bool = False) -> None:
        """Delete each entry that matches the filter; a dry run deletes nothing."""

        async def act(entries: list[Entry], scan: Scan) -> None:
            if dry_run:
                _would(entries, tally, report, "")
            else:
                await to_end(_delete(entries, scan, tally, report))

        await self._each(where, tally, act, until_ms=self._clock.time_ms())

    def _destination(self, entry: Entry) -> str:
        """Where an entry goes back to; nowhere (empty) when only a part of it was found."""
        if entry.letter.reason == DeadLetterReason.INCOMPLETE:
            return ""
        return destination(entry.letter, self._home, self._is_ours)

    async def _each(self, where: Filter, tally: Tally, act: _Act, until_ms: int | None) -> None:
        now_ms = self._clock.time_ms()
        room = MAX_LIMIT if where.limit is None else where.limit
        scan, parts, ended = Scan(self._queue, self._clock, until_ms), Parts(), False
        try:
            async with scan:
                while room > 0 and not ended:
                    messages = await scan.next()
                    ended = not messages
                    found = incomplete(parts) if ended else entries(messages, parts)
                    matching = [entry for entry in found if where.matches(entry, now_ms)]
                    tally.other += len(found) - len(matching)
                    await act(matching[:room], scan)
                    room -= len(matching)
        finally:
            tally.left, tally.newer, tally.full = scan.left, scan.newer, scan.full
            tally.unreleased = scan.unreleased


class _Redrive:
    """Sends entries to other queues, and deletes those that were taken."""

    def __init__(
        self,
        open_queue: Callable[[str], EventSource],
        keys: AttributeKeys,
        clock: Clock,
        tally: Tally,
        report: Report,
        rate: float | None,
    ) -> None:
        self._open_queue = open_queue
        self._keys = keys
        self._clock = clock
        self._tally = tally
        self._report = report
        self._pause_s = 1 / rate if rate else 0.0
        self._chunk = max(1, min(BATCH, int(rate / CHUNKS_PER_S))) if rate else BATCH
        self._next_at = clock.monotonic()
        self._queues: dict[str, EventSource] = {}
        self._limits: dict[str, int] = {}  # by queue: how many bytes a message may have
        self._strikes: dict[str, int] = {}  # by queue: calls that failed in a row

    async def send(self, entries: list[Entry], queue: str, scan: Scan) -> None:
        """Send all entries to one queue, at the rate, and delete those that it takes."""
        for chunk in chunks(entries, self._chunk):
            if self._strikes.get(queue, 0) < MAX_STRIKES:
                await self._wait_for_turn(len(chunk))
            await to_end(self._send_chunk(chunk, queue, scan))

    def failed(self, entries: Sequence[Entry], why: Reason) -> None:
        """Count and report entries that stay in the dead-letter queue."""
        self._tally.failed += len(entries)
        for entry in entries:
            self._report(EntryReport("failed", entry, why))

    async def _wait_for_turn(self, count: int) -> None:
        now = self._clock.monotonic()
        if now < self._next_at:
            await self._clock.sleep(self._next_at - now)
        self._next_at = max(now, self._next_at) + count * self._pause_s

    async def _send_chunk(self, entries: Sequence[Entry], queue: str, scan: Scan) -> None:
        taken = await self._taken(entries, queue)
        if taken:
            await _delete(taken, scan, self._tally, self._report, f"to {queue}")

    async def _taken(self, entries: Sequence[Entry], queue: str) -> list[Entry]:
        """Send entries in one call, and return those that were taken.

        When the call fails as a whole, each entry is tried alone: one bad entry must not keep nine others back.
        """
        if self._strikes.get(queue, 0) >= MAX_STRIKES:
            self.failed(entries, f"not tried: {queue} took nothing {MAX_STRIKES} times in a row")
            return []
        try:
            source, now_ms, max_bytes = self._open(queue), self._clock.time_ms(), await self._max_bytes(queue)
            refused = set(
                await source.send([redrive_draft(entry, queue, self._keys, now_ms, max_bytes) for entry in entries])
            )
        except (SourceUnavailableError, UnicodeError) as error:
            if len(entries) > 1:
                return [entry for each in entries for entry in await self._taken([each], queue)]
            self._strikes[queue] = self._strikes.get(queue, 0) + 1
            self.failed(entries, str(error))
            return []
        self._strikes[queue] = 0
        self.failed([entries[position] for position in sorted(refused)], f"{queue} did not take it")
        return [entry for position, entry in enumerate(entries) if position not in refused]

    async def _max_bytes(self, queue: str) -> int:
        """How long a message may be for the queue; SQS' own limit where the queue doesn't say, or may not be asked."""
        if queue not in self._limits:
            self._limits[queue] = MAX_MESSAGE_BYTES
            with suppress(SourceUnavailableError):
                self._limits[queue] = await self._open(queue).max_bytes()
        return self._limits[queue]

    def _open(self, queue: str) -> EventSource:
        if queue not in self._queues:
            self._queues[queue] = self._open_queue(queue)
        return self._queues[queue]


async def _delete(entries: Sequence[Entry], scan: Scan, tally: Tally, report: Report, detail: str = "") -> None:
    messages = [message for entry in entries for message in entry.messages]
    left = {message.message_id for chunk in chunks(messages, BATCH) for message in await scan.delete(chunk)}
    for entry in entries:
        if not left.isdisjoint(message.message_id for message in entry.messages):
            tally.failed += 1
            why = f"was sent {detail} but could not be deleted: it is there twice" if detail else "could not be deleted"
            report(EntryReport("failed", entry, why))
        else:
            tally.done += 1
            report(EntryReport("done", entry, detail))


def _would(entries: Sequence[Entry], tally: Tally, report: Report, detail: str) -> None:
    tally.done += len(entries)
    for entry in entries:
        report(EntryReport("would", entry, detail))
