"""Whether a cell's `retry` is the infrastructure's fault or the event's own.

A handler answers `retry` when infrastructure fails, and that never counts against an event: an outage must not fill the
dead-letter queue. But an event may carry something that fails for ever and looks like an outage: a host that doesn't
exist, say. The other keys of the cell tell the two apart. When what they share is down, they are put off as well; when
they are processed all the time and next to none is put off, the retry is *lone*. `retry.py` counts those.
"""

from __future__ import annotations

from math import inf
from typing import Final

from router.core.models import Outcome

PERIOD_S: Final = 300.0
"""A verdict is about so many seconds, and holds in the next ones: as long as the longest usual wait for a retry."""
MIN_OTHERS: Final = 3
"""So many other keys at least were processed: with fewer nothing tells an outage from a bad event."""
MAX_SHARE: Final = 0.1
"""Of the keys, put off within a period. More than that is an outage, of something that not every event needs."""
MAX_KEYS: Final = 1000
"""Keys remembered of a period. Beyond, those put off weigh more than they should, so fewer retries count as lone."""


class Neighbours:
    """Which keys of one cell were processed of late, and which were put off with `retry`."""

    def __init__(self) -> None:
        self._done: set[int] = set()  # hashes of keys
        self._put_off: set[int] = set()
        self._ends_at = -inf  # of the present period, in monotonic seconds
        self._before: frozenset[int] = frozenset()  # keys processed in the period before; none unless it was a good one

    def note(self, key: str, outcome: Outcome, now: float) -> None:
        """Note how the cell itself answered an event of the key, unless it had processed that before."""
        if now >= self._ends_at:
            self._begin(now)
        if outcome is Outcome.OK:
            if len(self._done) < MAX_KEYS:
                self._done.add(hash(key))
        elif outcome is Outcome.RETRY and len(self._put_off) < MAX_KEYS:
            self._put_off.add(hash(key))

    def lone(self, key: str) -> bool:
        """Whether a retry of the key that was just noted is the event's own, going by the other keys."""
        others = len(self._before) - (hash(key) in self._before)
        return others >= MIN_OTHERS and len(self._put_off) <= max(1.0, MAX_SHARE * len(self._before))

    def _begin(self, now: float) -> None:
        good = len(self._put_off) <= max(1.0, MAX_SHARE * len(self._done))
        lately = now < self._ends_at + PERIOD_S
        self._before = frozenset(self._done) if good and lately else frozenset()
        self._done, self._put_off, self._ends_at = set(), set(), now + PERIOD_S
