"""A lane's decisions: what it takes in, what may leave for the cell now, and when the path to the cell is shut.

A lane is pure and generic in the items that it carries. The lane runner asks `take` for the next batch and sends it.
The path is a circuit breaker (Nygard, "Release It!", 2007):

    OPEN --failure--> SHUT --its time is up--> PROBING --answer--> OPEN
    PROBING --failure--> SHUT, for longer          any --another instance--> OPEN

OPEN means that events may pass, PROBING that one at a time may. A suspect, which is an event that an instance may have
died of, is sent in a batch of its own and never beside another suspect: when the instance dies again, it is known
which event was to blame. The cell sees to that between routers.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Final, Generic, TypeVar

from router.core.fairness.turns import Fairness
from router.core.lanes.backoff import backoff
from router.core.lanes.concurrency import SLOW_START, ConcurrencyWindow
from router.core.lanes.fair_queue import FairQueue
from router.core.lanes.pace import CellPace
from router.core.models import Target

T = TypeVar("T")

FIRST_RETRY_S: Final = 0.2  # how long the first failure shuts the path: a restarted instance is back this soon
MIN_INTERVALS: Final = 10  # that tell what is usual: a router that has just started cushions no cell
USUAL_INTERVALS: Final = 60  # over which the usual number of items in flight forgets; one is a second
LAST_RETRY_S: Final = 5.0  # how long a failure shuts the path at most


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """How much of the router a lane may occupy while other cells need the room, and how much one batch carries."""

    share_events: int = 250  # waiting and in flight together
    share_bytes: int = 16 * 1024 * 1024
    batch_events: int = 50
    batch_bytes: int = 4 * 1024 * 1024


class Lane(Generic[T]):
    """The bounded path to one cell. Keys take turns; within a key, what comes back from the hold queue goes first."""

    def __init__(self, limits: LaneLimits) -> None:
        self.limits = limits
        self.target: Target | None = None
        self.ejected = False  # nothing is sent, whatever the circuit says
        self._cushioned = self.tried = False  # no more than usual is sent at once; little is
        self._routers = 1  # that share the cell's places
        self._pace: CellPace | None = None  # where the policy says what the cell bears
        self._rests_until = 0.0  # on trial nothing is sent before, in monotonic seconds
        self._usual = 0.0  # mean number of items in flight, while the instance did not look slow
        self._intervals = 0  # that this is the mean of, USUAL_INTERVALS at most
        self.in_flight = 0  # at all instances; the window looks only at the present instance
        self.bytes = 0  # of what waits and what is in flight
        self._in_flight_at: Counter[int] = Counter()  # by generation: an instance that was away may come back
        self._window = ConcurrencyWindow(1)
        self._queue: FairQueue[T] = FairQueue()
        self._suspects: deque[tuple[str, T, int]] = deque()
        self._suspect_at: set[int] = set()  # generations of the instances at which a suspect is in flight
        self._last: Target | None = None  # the newest instance that there was, also while there is none
        self._failures = 0  # in a row
        self._retry_at = 0.0  # the path is shut until then, in monotonic seconds

    @property
    def waiting(self) -> int:
        """How many items were taken in and not yet sent."""
        return self._queue.waiting + len(self._suspects)

    @property
    def window(self) -> int:
        """How many items may be in flight at the present instance; 0 without one."""
        if self.target is None:
            return 0
        size, least = 1 if self.probing else self._window.size, max(1, int(self._trial_share(self.target)))
        if self.tried:
            return min(size, least)
        if not self._cushioned or self._intervals < MIN_INTERVALS:
            return size
        spare = sqrt(self._usual / self._routers)  # its part of the square root of what all routers have in flight
        return min(size, max(least, ceil(self._usual + spare)))

    @property
    def probing(self) -> bool:
        """Whether the last batch failed, so that one item at a time goes until a batch is answered."""
        return self._failures > 0

    def room(self) -> int:
        """How many more items the lane's share has room for."""
        if self.bytes >= self.limits.share_bytes:
            return 0
        return max(0, self.limits.share_events - self.waiting - self.in_flight)

    def room_for_held(self) -> int:
        """How many more items may come from the hold queue: half a share is theirs, which new items can't use."""
        if self.bytes >= 2 * self.limits.share_bytes:
            return 0
        from_hold = self._queue.from_hold + len(self._suspects)
        return max(self.room(), self.limits.share_events // 2 - from_hold)

    def passable(self, now: float) -> bool:
        """Whether items can be sent: there is an instance, it is not ejected, and no recent failure shuts the path."""
        return self.target is not None and not self.ejected and now >= self._retry_at

    def waiting_of(self, key: str) -> int:
        """Count the items of a key that wait, without suspects."""
        return self._queue.waiting_of(key)

    def weigh(self, fairness: Mapping[str, Fairness]) -> None:
        """Let the keys take turns by this from now on; those not named as all others."""
        self._queue.weigh(fairness)

    def pace(self, rate: float) -> None:
        """Send at most so many events a second from now on, in the long run; 0: any number."""
        if not rate:
            self._pace = None
        elif self._pace is None:
            self._pace = CellPace(rate)
        else:
            self._pace.rate = rate

    def paced(self, now: float) -> bool:
        """Whether something waits only because the cell gets as many events a second as it bears."""
        return self._pace is not None and self.waiting > 0 and self._pace.binds(now)

    def retarget(self, target: Target | None) -> None:
        """Send to this instance from now on; None: to none. The path to another instance opens at once.

        An instance that takes over from another one starts slowly.
        """
        if target is None:
            self._failures, self._retry_at = 0, 0.0
        elif not target.same_instance(self.target):
            another = self._last is not None and not target.same_instance(self._last)
            self._begin(target, slow_start=another)
            self._last = target
        self.target = target

    def eject(self, *, ejected: bool) -> None:
        """Send nothing from now on (`ejected`), or send again, slowly at first."""
        if self.ejected and not ejected and self.target is not None:
            self._begin(self.target, slow_start=True)
        self.ejected = ejected

    def cushion(self, *, cushioned: bool, tried: bool, routers: int = 1) -> None:
        """Send less at once from now on, or as much as the window allows.

        `cushioned`: the instance looks slow, and gets what it needs for its usual load if it is well. That is the mean
        number in flight and its square root (square-root staffing: S. Halfin, W. Whitt, Operations Research 29, 1981).
        `tried`: it is measured with little to do: an eighth of its places. So many `routers` share both.
        """
        self._cushioned, self.tried, self._routers = cushioned, tried, routers

    def rest(self, latency_s: float, generation: int, now: float, jitter: float) -> None:
        """Rest after an answer that took so long, where less than one place of an instance on trial is the lane's.

        With a place for a sixth of the time, it rests five times as long as the answer took. `jitter`, 0 to 1, keeps
        routers from sending at the same moments.
        """
        target = self.target
        if not self.tried or target is None or target.generation != generation:
            return
        if (share := self._trial_share(target)) < 1:
            self._rests_until = max(self._rests_until, now + latency_s * (1 / share - 1) * (0.5 + jitter))

    def rests_s(self, now: float) -> float:
        """Return for how many more seconds nothing is sent: the cell is on trial, or bears no more.

        0.0 where neither hinders it.
        """
        rest_s = max(0.0, self._rests_until - now) if self.tried else 0.0
        return rest_s if self._pace is None or not self.waiting else max(rest_s, self._pace.wait_s(now))

    def had(self, in_flight: float) -> None:
        """Note how many items were in flight during one more interval, on average."""
        if not (self._cushioned or self.tried):
            self._intervals = min(self._intervals + 1, USUAL_INTERVALS)
            self._usual += (in_flight - self._usual) / self._intervals

    def offer(
        self, key: str, item: T, size: int, *, from_hold: bool, now: float, cap: int = 0, suspect: bool = False
    ) -> bool:
        """Take an item of `size` bytes in; False when the path is shut, so that it must wait in the hold queue."""
        if not self.passable(now):
            return False
        if suspect:
            self._suspects.append((key, item, size))
        else:
            self._queue.push(key, item, size, from_hold=from_hold, cap=cap)
        self.bytes += size
        return True

    def take(self, now: float) -> list[tuple[T, int]]:
        """Take the next batch, as items and their sizes; empty when circuit, window or limits allow nothing now."""
        if self.target is None or not self.passable(now) or self.rests_s(now):
            return []
        generation = self.target.generation
        room = self.window - self._in_flight_at[generation]
        if self._pace is not None:
            room = min(room, self._pace.room(now))
        if room <= 0:
            return []
        if self._suspects and generation not in self._suspect_at:
            self._suspect_at.add(generation)
            _, item, size = self._suspects.popleft()
            return self._sent([(item, size)], generation, now)
        return self._sent(list(self._next(min(room, self.limits.batch_events))), generation, now)

    def settled(self, key: str, size: int, generation: int, *, suspect: bool = False) -> None:
        """Count an item as in flight no more: the instance of that generation answered it, or will not."""
        self.in_flight -= 1
        self._in_flight_at[generation] -= 1
        if not self._in_flight_at[generation]:
            del self._in_flight_at[generation]
        self.bytes -= size
        if suspect:
            self._suspect_at.discard(generation)
        else:
            self._queue.done(key)

    def timed(self, latency_s: float, generation: int) -> None:
        """Note the latency of an answer of the present instance, before `settled` is called for its item."""
        if self.target is not None and self.target.generation == generation:
            self._window.answered(latency_s, self._in_flight_at[generation])

    def answered(self) -> None:
        """Open the path in full: the cell has answered a batch to its end."""
        self._failures = 0

    def failed(self, now: float) -> list[T]:
        """Shut the path for a while, since the cell could not be reached; give back what waits, for the hold queue."""
        if now >= self._retry_at:  # several batches that fail together count as one failure
            self._failures += 1
            self._retry_at = now + backoff(FIRST_RETRY_S, LAST_RETRY_S, self._failures)
            self._window.failed()
        self._failures = self._failures or 1  # another batch may have been answered in between
        return self.clear()

    def lacks_events(self, now: float) -> bool:
        """Whether the lane could send more than it is given: less than a quarter of its share is in use."""
        return self.passable(now) and self.room() > self.limits.share_events * 3 // 4

    def shed(self, most: int) -> list[T]:
        """Give back at most so many items that are over the lane's share, for the hold queue.

        Suspects leave one at a time. Those that fill more than half of the share are given back first; then the newest
        items of the keys that have most.
        """
        excess: list[T] = []
        while len(excess) < most and self.room() == 0 and len(self._suspects) > self.limits.share_events // 2:
            _, item, size = self._suspects.pop()
            self.bytes -= size
            excess.append(item)
        candidates = self._queue.shed()
        while len(excess) < most and self.room() == 0:
            before = self._queue.bytes
            candidate = next(candidates, None)
            if candidate is None:
                break
            self.bytes -= before - self._queue.bytes
            excess.append(candidate)
        return excess

    def clear(self) -> list[T]:
        """Give back all that waits: suspects, then what came from the hold queue, then the rest, each oldest first."""
        return self.take_out(lambda _: True)

    def take_out(self, wanted: Callable[[str], bool]) -> list[T]:
        """Give back what waits of the wanted keys, in the same order as `clear`."""
        before = self._queue.bytes
        suspects = [item for key, item, _ in self._suspects if wanted(key)]
        self.bytes -= sum(size for key, _, size in self._suspects if wanted(key))
        self._suspects = deque(suspect for suspect in self._suspects if not wanted(suspect[0]))
        items = self._queue.take_out(wanted)
        self.bytes -= before - self._queue.bytes
        return suspects + items

    def _begin(self, target: Target, *, slow_start: bool) -> None:
        self._window = ConcurrencyWindow(target.concurrency, slow_start=slow_start)
        self._failures = 0
        self._retry_at = self._rests_until = 0.0

    def _trial_share(self, target: Target) -> float:
        """Return how many of the instance's places are this lane's while it is on trial: it may be a part of one."""
        return target.concurrency / (SLOW_START * self._routers)

    def _next(self, count: int) -> Iterator[tuple[T, int]]:
        size = 0
        for position in range(count):
            next_size = self._queue.next_size()
            if next_size is None:
                return
            size += next_size
            if position and size > self.limits.batch_bytes:
                return
            yield self._queue.pop()

    def _sent(self, batch: list[tuple[T, int]], generation: int, now: float) -> list[tuple[T, int]]:
        if batch:
            if self._pace is not None:
                self._pace.sent(len(batch), now)
            self.in_flight += len(batch)
            self._in_flight_at[generation] += len(batch)
        return batch
