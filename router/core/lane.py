"""A lane's decisions: what it takes in, what may leave for the cell now, and when the path to the cell is shut.

Pure and generic in what it carries. The lane's shell asks `take` for the next batch and does what it returns.

    OPEN --failure--> SHUT --its time is up--> PROBING --answer--> OPEN
    PROBING --failure--> SHUT, for longer          any --another instance--> OPEN

OPEN means that events may pass, PROBING that one may.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from router.core.models import Target

T = TypeVar("T")

FIRST_RETRY_S: Final = 0.2  # a restarted instance is tried again this soon
LAST_RETRY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """How much a cell may occupy of the router when others need the room, and how much one batch carries."""

    share_events: int = 250  # waiting and in flight together
    share_bytes: int = 16 * 1024 * 1024
    batch_events: int = 50
    batch_bytes: int = 4 * 1024 * 1024


class Lane(Generic[T]):
    """The bounded path to one cell. Events that come back from the hold queue go first."""

    def __init__(self, limits: LaneLimits) -> None:
        self.limits = limits
        self.target: Target | None = None
        self.in_flight = 0  # at every instance; the window looks only at the present one's
        self.bytes = 0
        self._at_target = 0
        self._held: deque[tuple[T, int]] = deque()
        self._new: deque[tuple[T, int]] = deque()
        self._failures = 0
        self._retry_at = 0.0

    @property
    def waiting(self) -> int:
        """Events taken in and not yet sent."""
        return len(self._held) + len(self._new)

    @property
    def probing(self) -> bool:
        """Whether the last batch failed: then one event at a time goes, until one is answered."""
        return self._failures > 0

    def room(self) -> int:
        """How many more events its share has room for."""
        if self.bytes >= self.limits.share_bytes:
            return 0
        return max(0, self.limits.share_events - self.waiting - self.in_flight)

    def passable(self, now: float) -> bool:
        """Whether there is an instance to send to, and no recent failure says that it is of no use."""
        return self.target is not None and now >= self._retry_at

    def retarget(self, target: Target | None) -> None:
        """Another instance, or none. A changed instance gets its chance at once."""
        changed = target is None or not target.same_instance(self.target)
        self.target = target
        if changed:
            self._at_target = 0
            self._failures = 0
            self._retry_at = 0.0

    def offer(self, item: T, size: int, *, held: bool, now: float) -> bool:
        """Take an event in; False when the path is shut and it must wait in the hold queue."""
        if not self.passable(now):
            return False
        (self._held if held else self._new).append((item, size))
        self.bytes += size
        return True

    def take(self, now: float) -> list[tuple[T, int]]:
        """The next batch: as much as the window, the limits of a batch and the circuit allow; empty for nothing now."""
        if self.target is None or not self.passable(now):
            return []
        window = 1 if self.probing else self.target.concurrency
        count = min(window - self._at_target, self.limits.batch_events)
        batch: list[tuple[T, int]] = []
        size = 0
        while len(batch) < count and (queue := self._held or self._new):
            size += queue[0][1]
            if batch and size > self.limits.batch_bytes:
                break
            batch.append(queue.popleft())
        self.in_flight += len(batch)
        self._at_target += len(batch)
        return batch

    def settled(self, size: int, generation: int) -> None:
        """One event in flight at that generation has an outcome."""
        self.in_flight -= 1
        if self.target is not None and self.target.generation == generation:
            self._at_target -= 1
        self.bytes -= size

    def answered(self) -> None:
        """The cell answered a batch to its end."""
        self._failures = 0

    def failed(self, now: float) -> list[T]:
        """The cell could not be reached: shut for a while and give back what waits, for the hold queue."""
        if now >= self._retry_at:  # several batches that fail together are one failure
            self._retry_at = now + min(LAST_RETRY_S, FIRST_RETRY_S * 2**self._failures)
            self._failures = min(self._failures + 1, 16)
        return self.clear()

    def hungry(self, now: float) -> bool:
        """Whether it could send more than it is given: it has less than a quarter of its share."""
        return self.passable(now) and self.room() > self.limits.share_events * 3 // 4

    def shed(self) -> list[T]:
        """Give back what is over its share, newest first, for the hold queue; never what came from there."""
        excess = []
        while self._new and self.room() == 0:
            item, size = self._new.pop()
            self.bytes -= size
            excess.append(item)
        return excess

    def clear(self) -> list[T]:
        """Give back what waits, oldest first."""
        waiting = [*self._held, *self._new]
        self._held.clear()
        self._new.clear()
        self.bytes -= sum(size for _, size in waiting)
        return [item for item, _ in waiting]
