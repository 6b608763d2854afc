"""Whose trouble it is that AWS denies what an event needs: the event's own, or everybody's.

A policy slips, a key of KMS is disabled, credentials run out: then AWS denies all events that need the same, and none
of them is to blame. An event may also name what nobody may ever read, and that is its own trouble. AWS answers both in
the same words, and a missing object too where we may not list its bucket. Only what becomes of other events tells them
apart. The trouble is shared while several keys are denied and they are more than a few of those that were served, at
one place or at all together; and while nothing at all is served. It is the event's own where others are served
meanwhile. In between nothing is known, and nothing is counted against anybody.

At a standstill, several keys were denied in a row and nothing was served in between: then nobody loses by it that less
is taken in. One tenant can't bring that about, however many events it sends, nor several while anybody is served.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Final

from router.core.models import Reason

PERIOD_S: Final = 60.0
"""What was seen counts for one to two such periods: so long a shared trouble is told of after it has ended."""
MIN_KEYS: Final = 3
"""Fewer denied keys, or events where all are of one key, may each have a trouble of its own."""
MAX_SHARE: Final = 0.1
"""Of the keys that were served. So many denied ones may have troubles of their own, each for itself."""
STANDSTILL_S: Final = 5.0
"""How long nothing was served before less is taken in: longer than a busy cell's answers stay away."""
MAX_KEYS: Final = 1000
"""Keys remembered of one place and period. Beyond, the denied ones weigh more, so fewer denials are the event's own."""


@dataclass(slots=True)
class _Seen:
    """What was seen at one place within a period: hashes of keys."""

    denied: set[int] = field(default_factory=set)
    served: set[int] = field(default_factory=set)


class Denials:
    """What one router has seen denied and served of late, by place: each cell is one, with rights of its own.

    It is empty, and costs next to nothing, as long as nothing is denied.
    """

    def __init__(self) -> None:
        self._now: dict[str, _Seen] = {}
        self._before: dict[str, _Seen] = {}
        self._ends_at = -inf  # of the present period, in monotonic seconds
        self._own: frozenset[str] = frozenset()  # places where a denial is the event's own
        self._row_keys: set[int] = set()  # denied since anything was served, MIN_KEYS at most
        self._row_events: set[int] = set()  # the same of events
        self._row_began_at = 0.0
        self._last_why: Reason = ""

    def served(self, place: str, key: str) -> None:
        """Note that an event of the key got what it needs."""
        if self._row_keys:
            self._row_keys.clear()
            self._row_events.clear()
        if (seen := self._now.get(place)) is not None and len(seen.served) < MAX_KEYS:
            seen.served.add(hash(key))

    def denied(self, place: str, key: str, event_id: str, why: Reason, now: float) -> None:
        """Note that an event of the key was denied what it needs."""
        self._turn(now)
        seen = self._now.setdefault(place, _Seen())
        if len(seen.denied) < MAX_KEYS:
            seen.denied.add(hash(key))
        if not self._row_keys:
            self._row_began_at = now
        if len(self._row_keys) < MIN_KEYS:
            self._row_keys.add(hash(key))
        if len(self._row_events) < MIN_KEYS:
            self._row_events.add(hash((key, event_id)))
        self._last_why = why

    def own(self, place: str) -> bool:
        """Whether a denial at the place is the event's own, as of the last judgement."""
        return place in self._own

    def why_shared(self, now: float) -> Reason | None:
        """Judge anew; the reason why what is denied is everybody's trouble, None when it is not or nothing is."""
        self._turn(now)
        counts = {place: self._counts(place) for place in self._now.keys() | self._before.keys()}
        denied, served = (sum(column) for column in zip(*counts.values(), strict=True)) if counts else (0, 0)
        several = {place for place, found in counts.items() if _several(*found)}
        shared = _several(denied, served) or self._nothing_served(now)
        self._own = frozenset(
            place for place, found in counts.items() if found[1] and not shared and place not in several
        )
        if not shared and not several:
            return None
        at = f" at {', '.join(sorted(several)[:MIN_KEYS])}" if several and not shared else ""
        return f"{denied} keys were denied{at} within the last minute or two, {served} were served: {self._last_why}"

    def at_standstill(self, now: float) -> bool:
        """Whether several keys were denied in a row for a while, and nothing was served in between."""
        return len(self._row_keys) >= MIN_KEYS and now - self._row_began_at >= STANDSTILL_S

    def _nothing_served(self, now: float) -> bool:
        return len(self._row_events) >= MIN_KEYS and now - self._row_began_at >= PERIOD_S

    def _counts(self, place: str) -> tuple[int, int]:
        now, before = self._now.get(place, _NOTHING), self._before.get(place, _NOTHING)
        return len(now.denied | before.denied), len(now.served | before.served)

    def _turn(self, now: float) -> None:
        if now < self._ends_at:
            return
        lately = now < self._ends_at + PERIOD_S
        self._before = {place: seen for place, seen in self._now.items() if seen.denied} if lately else {}
        self._now = {place: _Seen() for place in self._before}
        self._ends_at = now + PERIOD_S
        if not self._before:
            self._row_keys.clear()
            self._row_events.clear()


_NOTHING: Final = _Seen()


def _several(denied: int, served: int) -> bool:
    return denied >= MIN_KEYS and denied > MAX_SHARE * served
