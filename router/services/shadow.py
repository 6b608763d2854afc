"""Mirrors a share of an environment's events into another one while they happen, a minute or two after they ended.

Guarantees: the environment that is mirrored does nothing for it but what its archive does anyway, which drops first
under load. Where the other one does not keep up, whole minutes are left out and counted: nothing ever piles up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from router.core.archive.comparison import Comparison, Endings, compare
from router.core.archive.objects import MINUTE_MS
from router.core.archive.replay import Checkpoint, Selection
from router.core.messages.proofs import AttributeKeys
from router.ports import ArchiveReader, Clock, EventSource
from router.services.replay import Pace, Progress, Replay

SETTLED_MS: Final = 20_000  # after a minute's end: by then routers have written what ended in it
BEHIND: Final = 3  # minutes; with more left to send, the older ones are left out
MAX_WAITING: Final = 10_000  # messages in the other environment's source; with more, nothing is sent to it
MAX_EVENTS: Final = 500_000  # that are compared


@dataclass(slots=True)
class Shadowed:
    """What was mirrored, and what was not."""

    live: Endings = field(default_factory=Endings)
    sent: int = 0
    left_out: int = 0  # minutes


@dataclass(frozen=True, slots=True)
class Shadow:
    """One run of it: which share of whose events goes where, and how fast at most."""

    share: float
    archive: ArchiveReader
    of: str  # the environment whose events they are
    environment: str  # that gets them
    progress: Progress
    clock: Clock
    tell: Callable[[str], None]

    async def send(self, found: Shadowed, queue: EventSource, keys: AttributeKeys, pace: Pace, until_ms: int) -> None:
        """Send each minute's events once it is over, until then, and note them. Raises SourceUnavailableError."""
        minute = self.clock.time_ms() // MINUTE_MS
        while (minute + 1) * MINUTE_MS <= until_ms and len(found.live.of) < MAX_EVENTS:
            due_ms = (minute + 1) * MINUTE_MS + SETTLED_MS
            if (left_ms := due_ms - self.clock.time_ms()) > 0:
                await self.clock.sleep(left_ms / 1000)
            behind = (self.clock.time_ms() - due_ms) // MINUTE_MS
            if behind >= BEHIND or (await queue.depth()).messages > MAX_WAITING:
                skipped = max(1, behind - BEHIND + 1)
                found.left_out += skipped
                self.tell(f"minutes left out: {skipped}; {self.environment} does not keep up")
                minute += skipped
                continue
            await self._minute(minute, queue, keys, pace, found)
            minute += 1

    async def compared(self, found: Shadowed, archive: ArchiveReader, since_ms: int, within_s: float) -> Comparison:
        """Wait until all that was sent has ended, so many seconds at most, and compare how."""
        work = Replay(Selection(since_ms, self.clock.time_ms()), self.archive, self.of, self.progress, self.clock)
        ended = await work.results(archive, self.environment, since_ms, frozenset(found.live.of), within_s)
        return compare(self.environment, found.live.of, ended.of)

    async def _minute(self, minute: int, queue: EventSource, keys: AttributeKeys, pace: Pace, found: Shadowed) -> None:
        selection = Selection(minute * MINUTE_MS, (minute + 1) * MINUTE_MS, share=self.share)
        work = Replay(selection, self.archive, self.of, self.progress, self.clock)
        ended = (await work.live()).of
        at = Checkpoint(selection.name, self.environment, self.clock.time_ms(), minute)
        found.sent += (await work.send(queue, keys, pace, at)).sent
        found.live.of.update(ended)  # not before: what was cut short is not compared
