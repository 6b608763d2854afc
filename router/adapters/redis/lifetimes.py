"""When leases and reports end: by this process' own clock, since that of Redis may be set.

Redis writes the time of an end by its own clock, which may jump: by an hour back, for one, as a replica takes over.
What is left is reckoned when an entry is first read, and counts down by a clock that never jumps.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final

LONGEST_MS: Final = 60_000  # the longest `cells.lease_ttl_s`: nothing honest ends later without a sign of life


@dataclass(frozen=True, slots=True)
class _Life:
    """What was found out about one entry when it last showed a sign of life."""

    version: Hashable  # changes with each sign of life
    ends_ms: int  # by this process' own clock


class Lifetimes:
    """Reckons how long entries live on; it is given all of them at each look, and remembers those alone."""

    def __init__(self) -> None:
        self._lives: dict[str, _Life] = {}

    def left(self, now_ms: int, own_ms: int, found: Mapping[str, tuple[Hashable, int]]) -> dict[str, int]:
        """Return how many ms each entry has left, by name; less than 1 when it has ended.

        `found` gives each entry's version and its end by Redis' clock, `now_ms` that clock's time, and `own_ms` the
        time of a clock that never jumps.
        """
        self._lives = {
            name: _life(self._lives.get(name), version, own_ms + min(ends_ms - now_ms, LONGEST_MS))
            for name, (version, ends_ms) in found.items()
        }
        return {name: life.ends_ms - own_ms for name, life in self._lives.items()}


def _life(before: _Life | None, version: Hashable, ends_ms: int) -> _Life:
    if before is None:
        return _Life(version, ends_ms)
    if before.version == version:
        return before
    return _Life(version, max(ends_ms, before.ends_ms))  # a sign of life makes no life shorter: the clock was set
