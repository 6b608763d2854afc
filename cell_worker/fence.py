"""The epoch below which an instance takes no batch: what older maps say is its own may belong to another cell.

Guarantees: once `reached` has said an epoch, no event of an older batch is being worked on, and none will be.
"""

from __future__ import annotations

from collections import Counter


class Fence:
    """Raised by the registry's word, passed by batches, reached when what is older has ended."""

    def __init__(self) -> None:
        self._epoch = 0
        self._working: Counter[int] = Counter()  # events by the epoch of their batch

    @property
    def epoch(self) -> int:
        """Batches below it are refused."""
        return self._epoch

    def raise_to(self, epoch: int) -> None:
        """It never gets lower."""
        self._epoch = max(self._epoch, epoch)

    def begin(self, epoch: int) -> None:
        """An event of such a batch is taken."""
        self._working[epoch] += 1

    def end(self, epoch: int) -> None:
        """It has an outcome."""
        self._working[epoch] -= 1
        if not self._working[epoch]:
            del self._working[epoch]

    def reached(self) -> int:
        """The epoch below which nothing is being worked on and nothing will be."""
        return min(self._epoch, min(self._working, default=self._epoch))
