"""What the leader announces to the detector, since it did it itself: cells that were changed, and when. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from router.core.models import Reason


class Occasion(StrEnum):
    """What was done to a cell that may make it slow for a while, or for good, in words to which its time is added."""

    RELEASED = "a release replaced its instance"
    ADMITTED = "another instance got its traffic"
    TREATED = "its sick instance was replaced"
    MOVED = "slots or keys moved to it"
    HELD = "its events were held until"  # they come back from then on, more than usual


RENEWED: Final = frozenset({Occasion.RELEASED, Occasion.ADMITTED})
"""The cell got another instance, and not because its last one was sick: what is new may be what makes it slow."""


@dataclass(frozen=True, slots=True)
class Announced:
    """One thing that was done to a cell lately, and how long ago that was."""

    occasion: Occasion
    ago_s: float

    def text(self) -> Reason:
        """Say for people what was done and when."""
        return f"{self.occasion} {self.ago_s:.0f} s ago"


class Announcements:
    """Remembers what was announced of each cell, as long as it was meant to count."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, Occasion], tuple[float, float]] = {}  # when it was done, and until when it counts

    def note(self, cell_ids: Collection[str], occasion: Occasion, at: float, until: float) -> None:
        """Note that something was done to these cells at `at`; the last time counts."""
        self._said |= {(cell_id, occasion): (at, until) for cell_id in cell_ids}

    def forget_before(self, now: float) -> None:
        """Forget what counts no longer."""
        self._said = {key: (at, until) for key, (at, until) in self._said.items() if until > now}

    def of(self, now: float) -> dict[str, tuple[Announced, ...]]:
        """Return by cell what counts, the latest first; cells of which nothing was announced are missing."""
        found: dict[str, list[Announced]] = {}
        for (cell_id, occasion), (at, _) in self._said.items():
            found.setdefault(cell_id, []).append(Announced(occasion, now - at))
        return {cell_id: tuple(sorted(each, key=lambda one: one.ago_s)) for cell_id, each in found.items()}


def was_renewed(announced: Collection[Announced]) -> bool:
    """Tell whether the cell got another instance lately, and not because its last one was sick."""
    return any(each.occasion in RENEWED for each in announced)


def texts(announced: Collection[Announced]) -> Iterator[Reason]:
    """Say for people what was done to the cell lately."""
    return (each.text() for each in announced)
