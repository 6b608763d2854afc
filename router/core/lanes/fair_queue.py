"""Waiting items of many keys, taken in turns: no key waits behind another key's backlog.

This is round robin by key, as fair queueing began (Nagle, "On Packet Switches with Infinite Storage", RFC 970, 1985).
Within a key, what comes back from the hold queue goes first, and each kind goes oldest first. A key that has as many
items in flight as its cap allows is passed over.

A key with a weight gives so many items in a turn. That is deficit round robin (Shreedhar, Varghese, SIGCOMM 1995) where
each item costs 1: what it takes is a place in the cell, however long it is. A turn that ends early leaves nothing for
the next one. Keys of each priority have a ring of their own, and ORDER says whose place it is: a fixed table, as in
weighted round robin (Katevenis, Sidiropoulos, Courcoubetis, IEEE JSAC 9, 1991), so that no priority starves another.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Generic, TypeVar

from router.core.fairness.turns import AS_ALL, MAX_TURN, ORDER, Fairness, Priority

T = TypeVar("T")

_Entry = tuple[int, T, int]  # number in the order of arrival, item, size in bytes
_Ring = deque[str]  # the keys whose turn will come, in order
_NORMAL: Final = Priority.NORMAL  # Python 3.11 takes its time to find an enum's member by name
_PLACES: Final = tuple((place, *(each for each in Priority if each is not place)) for place in ORDER)
"""At each place of ORDER: which priorities may have it, the first that waits gets it."""


class _KeyQueue(Generic[T]):
    """One key's waiting items, and how many of its items are in flight."""

    __slots__ = ("cap", "from_hold", "in_flight", "in_ring", "left", "new", "ring", "weight")

    def __init__(self, ring: _Ring) -> None:
        self.from_hold: deque[_Entry[T]] = deque()
        self.new: deque[_Entry[T]] = deque()
        self.in_flight = 0
        self.cap = 0  # of items in flight; 0 for no cap
        self.ring = ring  # of its priority
        self.in_ring = False
        self.weight = 1  # items in a turn
        self.left = 1  # items of this turn, while it is in the ring

    def may_pass(self) -> bool:
        return bool(self.from_hold or self.new) and not (self.cap and self.in_flight >= self.cap)


class FairQueue(Generic[T]):
    """A queue that gives each key its turn. Whoever takes an item must call `done` when it is in flight no more."""

    def __init__(self) -> None:
        self._keys: dict[str, _KeyQueue[T]] = {}
        self._rings: Mapping[Priority, _Ring] = {priority: deque() for priority in Priority}
        self._normal = self._ring = self._rings[_NORMAL]  # `_ring` is the one that the next item comes from
        self._fairness: Mapping[str, Fairness] = {}  # of the keys that don't take turns as all others
        self._ranked = False  # whether a key may be there that has another priority than normal
        self._place = 0  # in ORDER
        self._arrivals = 0
        self.from_hold = 0  # waiting items that came from the hold queue
        self.waiting = 0  # all waiting items
        self.bytes = 0  # of all waiting items

    def push(self, key: str, item: T, size: int, *, from_hold: bool, cap: int = 0) -> None:
        """Add an item of `size` bytes. At most `cap` items of the key are in flight from now on; 0 for no cap."""
        queue = self._keys.get(key)
        if queue is None:
            queue = self._keys[key] = _KeyQueue(self._normal)
            if self._fairness:
                self._weigh(key, queue)
        self._arrivals += 1
        (queue.from_hold if from_hold else queue.new).append((self._arrivals, item, size))
        queue.cap = cap
        self.from_hold += from_hold
        self.waiting += 1
        self.bytes += size
        self._join_ring(key, queue)

    def weigh(self, fairness: Mapping[str, Fairness]) -> None:
        """Let the keys take turns by this from now on; those not named as all others."""
        if not fairness and not self._fairness:
            return
        self._fairness = fairness
        self._ranked, self._ring = False, self._normal
        for key, queue in self._keys.items():
            self._weigh(key, queue)

    def waiting_of(self, key: str) -> int:
        """Count the items of the key that wait."""
        queue = self._keys.get(key)
        return len(queue.from_hold) + len(queue.new) if queue else 0

    def next_size(self) -> int | None:
        """Return the size in bytes of the item that `pop` would give, or None when no item may leave."""
        if self._ranked:
            self._ring = self._next_ring()
        while self._ring:
            queue = self._keys[self._ring[0]]
            if queue.may_pass():
                return (queue.from_hold or queue.new)[0][2]
            self._drop_first(self._ring)
        return None

    def pop(self) -> tuple[T, int]:
        """Take the next item and its size, and count it as in flight. Call it only when `next_size` gave a size."""
        key = self._ring[0]
        queue = self._keys[key]
        self.from_hold -= bool(queue.from_hold)
        _, item, size = (queue.from_hold or queue.new).popleft()
        queue.in_flight += 1
        self.waiting -= 1
        self.bytes -= size
        if self._ranked:
            self._place = (self._place + 1) % len(ORDER)
        if queue.left > 1 and queue.may_pass():
            queue.left -= 1
        else:
            self._ring.popleft()
            queue.in_ring = False
            self._join_ring(key, queue)
        return item, size

    def done(self, key: str) -> None:
        """Count one item of the key as in flight no more."""
        queue = self._keys[key]
        queue.in_flight -= 1
        if not queue.in_ring:
            self._join_ring(key, queue)
            self._forget_idle(key, queue)

    def shed(self) -> Iterator[T]:
        """Give back new items for as long as the caller asks: always the newest one of the key that has most.

        What a key has is divided by its weight.
        """
        self._tidy()
        heap = [(-len(queue.new) / queue.weight, key) for key, queue in self._keys.items() if queue.new]
        heapq.heapify(heap)
        while heap:
            _, key = heap[0]
            queue = self._keys[key]
            _, item, size = queue.new.pop()
            if queue.new:
                heapq.heapreplace(heap, (-len(queue.new) / queue.weight, key))
            else:
                heapq.heappop(heap)
            self.waiting -= 1
            self.bytes -= size
            yield item

    def take_out(self, wanted: Callable[[str], bool]) -> list[T]:
        """Give back all waiting items of the wanted keys: first those from the hold queue, each kind oldest first."""
        out = {key: queue for key, queue in self._keys.items() if (queue.from_hold or queue.new) and wanted(key)}
        entries = sorted((entry for queue in out.values() for entry in queue.from_hold), key=_arrival)
        self.from_hold -= len(entries)
        entries += sorted((entry for queue in out.values() for entry in queue.new), key=_arrival)
        self.waiting -= len(entries)
        self.bytes -= sum(size for _, _, size in entries)
        for queue in out.values():
            queue.from_hold.clear()
            queue.new.clear()
        self._tidy()
        return [item for _, item, _ in entries]

    def _drop_first(self, ring: _Ring) -> None:
        """Take the first key, which may not pass, out of the ring."""
        key = ring.popleft()
        queue = self._keys[key]
        queue.in_ring = False
        self._forget_idle(key, queue)

    def _next_ring(self) -> _Ring:
        """Return the ring of the priority whose place it is, or of the highest one that may have it."""
        for priority in _PLACES[self._place]:
            ring = self._rings[priority]
            while ring and not self._keys[ring[0]].may_pass():
                self._drop_first(ring)
            if ring:
                return ring
        return self._normal

    def _join_ring(self, key: str, queue: _KeyQueue[T]) -> None:
        if not queue.in_ring and queue.may_pass():
            queue.in_ring = True
            queue.left = queue.weight
            queue.ring.append(key)

    def _weigh(self, key: str, queue: _KeyQueue[T]) -> None:
        """Have the key take turns as it shall; one that changes its ring begins at the end of the new one."""
        found = self._fairness.get(key, AS_ALL)
        # A policy is judged before it is in force. One that comes from elsewhere must not stop other keys either.
        queue.weight = min(MAX_TURN, max(1, found.weight))
        queue.left = min(queue.left, queue.weight)
        ring, self._ranked = self._rings[found.priority], self._ranked or found.priority is not _NORMAL
        if ring is not queue.ring:
            if queue.in_ring:
                queue.ring.remove(key)
                ring.append(key)
                queue.left = queue.weight
            queue.ring = ring

    def _tidy(self) -> None:
        """Forget the keys that have nothing left. `next_size` does so too, but not while nothing is sent."""
        if idle := {key for key, queue in self._keys.items() if queue.in_ring and not (queue.from_hold or queue.new)}:
            for ring in self._rings.values():
                staying = [key for key in ring if key not in idle]
                ring.clear()
                ring.extend(staying)
            for key in idle:
                self._keys[key].in_ring = False
                self._forget_idle(key, self._keys[key])

    def _forget_idle(self, key: str, queue: _KeyQueue[T]) -> None:
        if not (queue.in_ring or queue.in_flight or queue.from_hold or queue.new):
            del self._keys[key]


def _arrival(entry: _Entry[T]) -> int:
    return entry[0]
