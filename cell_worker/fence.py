"""The epoch below which an instance takes no batch: by now, what an older slot map gave it may be another cell's.

Guarantee: once `reached` has returned an epoch, no event of an older batch is being worked on, and none ever will be.
"""

from __future__ import annotations

from collections import Counter


class Fence:
    """The registry raises it, older batches are refused, and it is reached when the last older event has ended."""

    def __init__(self) -> None:
        self._epoch = 0
        self._working: Counter[int] = Counter()  # events by the epoch of their batch

    @property
    def epoch(self) -> int:
        """Batches whose slot map has a lower epoch are refused."""
        return self._epoch

    def raise_to(self, epoch: int) -> None:
        """Raise the fence to this epoch. A lower one than now changes nothing."""
        self._epoch = max(self._epoch, epoch)

    def begin(self, epoch: int) -> None:
        """Count an event of a batch of this epoch as being worked on."""
        self._working[epoch] += 1

    def end(self, epoch: int) -> None:
        """End the count of one event of this epoch: it has an outcome."""
        self._working[epoch] -= 1
        if not self._working[epoch]:
            del self._working[epoch]

    def reached(self) -> int:
        """The epoch below which no event is being worked on and none will be."""
        return min(self._epoch, min(self._working, default=self._epoch))
