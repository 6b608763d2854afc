"""Waiting items of many keys, taken in turns: no key waits behind another's backlog.

Round robin by key (Nagle, "On Packet Switches with Infinite Storage", RFC 970, 1985). Within a key, what comes back
from the hold queue goes first, each oldest first. A key at its cap of items in flight is passed over.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_Entry = tuple[int, T, int]  # number in the order of arrival, item, size


class _Turn(Generic[T]):
    """One key's items."""

    __slots__ = ("cap", "flying", "from_hold", "new", "queued")

    def __init__(self) -> None:
        self.from_hold: deque[_Entry[T]] = deque()
        self.new: deque[_Entry[T]] = deque()
        self.flying = 0
        self.cap = 0  # 0: none
        self.queued = False  # has a place in the ring

    def may_pass(self) -> bool:
        return bool(self.from_hold or self.new) and not (self.cap and self.flying >= self.cap)


class FairQueue(Generic[T]):
    """Items by key. Whoever takes one must say when it is `done`."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn[T]] = {}
        self._ring: deque[str] = deque()
        self._arrivals = 0
        self.from_hold = 0  # waiting items that came from the hold queue
        self.waiting = 0  # all waiting items
        self.bytes = 0  # of waiting items

    def push(self, key: str, item: T, size: int, *, from_hold: bool, cap: int = 0) -> None:
        """Add an item. `cap`: how many of the key may be in flight at once from now on; 0 for any number."""
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = _Turn()
        self._arrivals += 1
        (turn.from_hold if from_hold else turn.new).append((self._arrivals, item, size))
        turn.cap = cap
        self.from_hold += from_hold
        self.waiting += 1
        self.bytes += size
        self._queue_up(key, turn)

    def waiting_of(self, key: str) -> int:
        """How many items of the key wait."""
        turn = self._turns.get(key)
        return len(turn.from_hold) + len(turn.new) if turn else 0

    def next_size(self) -> int | None:
        """The size of what `pop` would give; None for nothing."""
        while self._ring:
            turn = self._turns[self._ring[0]]
            if turn.may_pass():
                return (turn.from_hold or turn.new)[0][2]
            key = self._ring.popleft()
            turn.queued = False
            self._forget(key, turn)
        return None

    def pop(self) -> tuple[T, int]:
        """The next item and its size, counted as in flight. There must be one: see `next_size`."""
        key = self._ring.popleft()
        turn = self._turns[key]
        self.from_hold -= bool(turn.from_hold)
        _, item, size = (turn.from_hold or turn.new).popleft()
        turn.flying += 1
        turn.queued = False
        self.waiting -= 1
        self.bytes -= size
        self._queue_up(key, turn)
        return item, size

    def done(self, key: str) -> None:
        """One item of the key is in flight no more."""
        turn = self._turns[key]
        turn.flying -= 1
        self._queue_up(key, turn)
        self._forget(key, turn)

    def shed(self) -> Iterator[T]:
        """Give back new items, always the newest of the key that has most, for as long as the caller asks."""
        self._tidy()
        heap = [(-len(turn.new), key) for key, turn in self._turns.items() if turn.new]
        heapq.heapify(heap)
        while heap:
            _, key = heap[0]
            turn = self._turns[key]
            _, item, size = turn.new.pop()
            if turn.new:
                heapq.heapreplace(heap, (-len(turn.new), key))
            else:
                heapq.heappop(heap)
            self.waiting -= 1
            self.bytes -= size
            yield item

    def take_out(self, wanted: Callable[[str], bool]) -> list[T]:
        """Give back all that waits of the wanted keys: what came from the hold queue first, each oldest first."""
        out = {key: turn for key, turn in self._turns.items() if (turn.from_hold or turn.new) and wanted(key)}
        entries = sorted((e for t in out.values() for e in t.from_hold), key=_arrival)
        self.from_hold -= len(entries)
        entries += sorted((e for t in out.values() for e in t.new), key=_arrival)
        self.waiting -= len(entries)
        self.bytes -= sum(size for _, _, size in entries)
        for turn in out.values():
            turn.from_hold.clear()
            turn.new.clear()
        self._tidy()
        return [item for _, item, _ in entries]

    def _queue_up(self, key: str, turn: _Turn[T]) -> None:
        if not turn.queued and turn.may_pass():
            turn.queued = True
            self._ring.append(key)

    def _tidy(self) -> None:
        """Forget the keys that something left with nothing: while nothing is sent, `next_size` doesn't."""
        if idle := {key for key, turn in self._turns.items() if turn.queued and not (turn.from_hold or turn.new)}:
            self._ring = deque(key for key in self._ring if key not in idle)
            for key in idle:
                self._turns[key].queued = False
                self._forget(key, self._turns[key])

    def _forget(self, key: str, turn: _Turn[T]) -> None:
        if not (turn.queued or turn.flying or turn.from_hold or turn.new):
            del self._turns[key]


def _arrival(entry: _Entry[T]) -> int:
    return entry[0]
