"""Which keys seem to harm their cell: those in flight when its instance died, and those that always fail.

A key that is in flight at one death may be there by coincidence, and becomes a suspect. A key that is in flight at the
next death too, with no answer in between, is taken for the cause. After its quarantine one more death is enough, and
the next quarantine lasts twice as long (`quarantine_s`). A key whose events all fail, while others of its cell
succeed, is broken itself. A router notes here what it sees; an event also carries what other routers saw of it
(`Event.unanswered`, `Event.killed`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

DEATHS: Final = 2  # so many successive deaths with a key in flight make it the cause
LONGEST_S: Final = 6 * 3600
"""How long a quarantine may get: so a cell dies of a key four times a day at most, and a mended key is soon tried."""
MAX_KEYS: Final = 10_000  # remembered in each list; the oldest is forgotten first


class Poison:
    """What this router knows against keys. It is empty, and costs next to nothing, as long as nothing fails."""

    def __init__(self) -> None:
        self._unanswered: dict[str, set[int]] = {}  # key → generations
        self._cleared: dict[str, int] = {}  # key → last generation that answered it, since there are suspects
        self._failures: dict[str, _Failures] = {}

    def has_history(self, unanswered: Collection[int]) -> bool:
        """Whether `deaths` could find anything for an event with that history: a cheap look before it."""
        return bool(self._unanswered or unanswered)

    def unanswered(self, key: str, generation: int) -> None:
        """Note that an event of the key was in flight at an instance that died, and got no answer."""
        if key not in self._unanswered:
            _bounded(self._unanswered)
        self._unanswered.setdefault(key, set()).add(generation)

    def heard(self, key: str, unanswered: Collection[int]) -> None:
        """Note what an event of the key carries from other routers; what was answered since doesn't count."""
        for generation in unanswered:
            if generation > self._cleared.get(key, 0):
                self.unanswered(key, generation)

    def answered(self, key: str, generation: int, *, killed: bool = False) -> None:
        """Note that the instance of that generation survived an event of the key, which clears the key.

        `killed` says that the event, or its key, is said to have killed instances before.
        """
        cleared = self._cleared.get(key)
        if cleared is not None:
            self._cleared[key] = max(cleared, generation)  # an old instance may answer late
        elif self._unanswered or killed:
            _bounded(self._cleared)
            self._cleared[key] = generation
        self._unanswered.pop(key, None)

    def cleared(self, key: str, killed: Collection[int]) -> bool:
        """Whether an instance later than those that the key killed has survived an event of it."""
        return self._cleared.get(key, 0) > max(killed)

    def succeeded(self, key: str) -> None:
        """Note that an event of the key was processed, which ends its row of failures."""
        if self._failures:
            self._failures.pop(key, None)

    def failed(self, key: str, event_id: str, successes: int) -> int:
        """Note a failure of the key, and return how often in a row it has failed.

        The answer is 0 while something else may be to blame: the cell, when no event of it has succeeded meanwhile, or
        the one event, when no other event of the key has failed. `successes` is the number of the cell's events that
        have succeeded so far.
        """
        failures = self._failures.get(key)
        if failures is None:
            _bounded(self._failures)
            failures = self._failures[key] = _Failures(hash(event_id), successes)
        failures.count += 1
        failures.several = failures.several or hash(event_id) != failures.first_event
        return failures.count if failures.several and successes > failures.successes_before else 0

    def forget(self, key: str) -> None:
        """Drop what is known against the key, because it is in quarantine now."""
        self._unanswered.pop(key, None)
        self._failures.pop(key, None)

    def deaths(
        self, key: str, unanswered: Collection[int], generation: int, known: Collection[int] = ()
    ) -> tuple[tuple[int, ...], bool]:
        """Return which instances before `generation` died with the event in flight, and whether it is a suspect.

        The instances are ordered, without those that are `known` already.
        The event's own history and that of its key count separately: an answer to another event of the key clears
        the key, but not this event.
        """
        seen = self._unanswered.get(key, ())
        deaths = max(({g for g in each if g < generation}.difference(known) for each in (unanswered, seen)), key=len)
        return tuple(sorted(deaths)), bool(unanswered or seen)


@dataclass(slots=True)
class _Failures:
    """The failures of one key in a row."""

    first_event: int  # the hash of its id
    successes_before: int  # of the key's cell, at the first failure
    count: int = 0
    several: bool = False  # more than one event has failed


def quarantine_s(first_s: float, killed: Collection[int]) -> float:
    """How long a key that killed those instances is in quarantine: `first_s` at first, doubled by each further kill."""
    return min(first_s * float(2 ** max(0, len(killed) - DEATHS)), max(first_s, LONGEST_S))


def _bounded(entries: dict[str, Any]) -> None:
    """Make room for one more entry, at the expense of the oldest."""
    if len(entries) >= MAX_KEYS:
        del entries[next(iter(entries))]
