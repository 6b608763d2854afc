"""Which keys seem to harm their cell: those in flight when its instance died, those that always fail.

One key in flight at a death may be a coincidence, and so it becomes a suspect; in flight at the next death too, with no
answer in between, it is the cause. A key whose events all fail, while others of its cell succeed, is broken itself.
Fed by one router with what it sees; an event also carries what other routers saw of it (`Event.unanswered`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

DEATHS: Final = 2  # successive instance deaths with a key in flight
MAX_KEYS: Final = 10_000  # suspects remembered; the oldest is forgotten first


class Poison:
    """The keys under suspicion. Empty, and costing nothing, as long as nothing fails."""

    def __init__(self) -> None:
        self._unanswered: dict[str, set[int]] = {}  # key → generations
        self._cleared: dict[str, int] = {}  # key → last generation that answered it, since there are suspects
        self._failures: dict[str, _Failures] = {}

    def suspects(self, unanswered: Collection[int]) -> bool:
        """Whether there may be anything to `deaths` at all."""
        return bool(self._unanswered or unanswered)

    def unanswered(self, key: str, generation: int) -> None:
        """An event of the key was in flight at that instance and got no answer."""
        if key not in self._unanswered:
            _bounded(self._unanswered)
        self._unanswered.setdefault(key, set()).add(generation)

    def heard(self, key: str, unanswered: Collection[int]) -> None:
        """An event of the key carries what another router saw; what was answered since doesn't count."""
        for generation in unanswered:
            if generation > self._cleared.get(key, 0):
                self.unanswered(key, generation)

    def answered(self, key: str, generation: int) -> None:
        """The instance survived an event of the key."""
        cleared = self._cleared.get(key)
        if cleared is not None:
            self._cleared[key] = max(cleared, generation)  # an old instance may answer late
        elif self._unanswered:
            _bounded(self._cleared)
            self._cleared[key] = generation
        self._unanswered.pop(key, None)

    def succeeded(self, key: str) -> None:
        """An event of the key was processed."""
        if self._failures:
            self._failures.pop(key, None)

    def failed(self, key: str, event_id: str, successes: int) -> int:
        """How often in a row the key has failed now.

        0 while that blames something else: the cell, when nobody of it has succeeded meanwhile, or the one event,
        when no other of the key has failed. `successes`: how many events of the cell have succeeded so far.
        """
        failures = self._failures.get(key)
        if failures is None:
            _bounded(self._failures)
            failures = self._failures[key] = _Failures(event_id, successes)
        failures.count += 1
        failures.several = failures.several or event_id != failures.first_event
        return failures.count if failures.several and successes > failures.successes_before else 0

    def forget(self, key: str) -> None:
        """It got its sentence."""
        self._unanswered.pop(key, None)
        self._failures.pop(key, None)

    def deaths(self, key: str, unanswered: Collection[int], generation: int) -> tuple[int, bool]:
        """How many instances before `generation` died with it in flight; whether it is a suspect at all.

        The event's own history and its key's count each for itself: an answer to another event of the key clears
        the key, but not this event.
        """
        seen = self._unanswered.get(key, ())
        deaths = max(sum(g < generation for g in unanswered), sum(g < generation for g in seen))
        return deaths, bool(unanswered or seen)


@dataclass(slots=True)
class _Failures:
    """Of one key, in a row."""

    first_event: str
    successes_before: int  # of its cell
    count: int = 0
    several: bool = False  # events


def _bounded(entries: dict[str, Any]) -> None:
    if len(entries) >= MAX_KEYS:
        del entries[next(iter(entries))]
