"""What was seen of the load on all cells, reading by reading, for as long as nothing was changed. Pure.

A window that has a gap says nothing about the time before it: it begins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import Final, NamedTuple

STEP_S: Final = 30.0  # readings of so long are one figure
MOSTLY: Final = 0.75  # of the time; a short spike is not most of it
MAX_GAP_S: Final = 10.0  # between two readings; after a longer one the window begins anew


class CellShares(NamedTuple):
    """How much of one cell is in use, as shares of 1."""

    places: float  # by Little's law: the mean number of events in work, of what the worker declares
    cpu: float
    rate: float  # events a second, of what a cell bears; 0 where that is not known


@dataclass(frozen=True, slots=True)
class LoadReading:
    """How much of the cells that have slots is in use at one moment."""

    by_cell: Mapping[str, CellShares]
    behind: bool = False  # whether events wait for longer than they should


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """Means over the cells, as shares of 1."""

    used: float  # of each cell what it has least of: places, CPU, or the rate that it bears
    sure: float  # the same without places: whatever makes events slow fills those as well
    places: float
    cpu: float


@dataclass(frozen=True, slots=True)
class LoadSeen:
    """What the window holds; shares are means over the time after which a cell is added."""

    whole_s: float  # for how long there has been a reading all the time
    floor: float  # in three quarters of the time as much or more was in use
    sure_floor: float  # the same without places
    used: float
    sure: float
    places: float
    cpu: float
    behind: bool  # in most of that time
    peak: float  # the highest step, in the time after which a cell is taken away
    was_behind: bool  # at any moment of that time
    failed_s: float | None = None  # how long ago a cell that was added came to nothing; None: none did


class ShareSums:
    """Adds up shares cell by cell. What a cell has least of shows in means only: moments go up and down."""

    __slots__ = ("_sums", "count")

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, tuple[float, float, float]] = {}

    def add(self, shares: Mapping[str, CellShares]) -> None:
        """Add the shares of one moment."""
        self.count += 1
        for cell_id, (places, cpu, rate) in shares.items():
            before = self._sums.get(cell_id, (0.0, 0.0, 0.0))
            self._sums[cell_id] = before[0] + places, before[1] + cpu, before[2] + rate

    def means(self) -> dict[str, CellShares]:
        """Return the mean shares of each cell."""
        return {cell_id: CellShares(*(each / self.count for each in sums)) for cell_id, sums in self._sums.items()}


class _LoadStep:
    """The readings of STEP_S seconds."""

    __slots__ = ("_figures", "_sums", "began", "behind")

    def __init__(self, began: float) -> None:
        self.began = began
        self.behind = 0
        self._sums = ShareSums()
        self._figures: LoadFigures | None = None  # as of all readings by now; None: to be made

    @property
    def count(self) -> int:
        return self._sums.count

    def add(self, reading: LoadReading) -> None:
        self.behind += reading.behind
        self._sums.add(reading.by_cell)
        self._figures = None

    def figures(self) -> LoadFigures:
        if self._figures is None:
            means = self._sums.means().values()
            self._figures = LoadFigures(
                used=fmean(map(max, means)),
                sure=fmean(max(cpu, rate) for _, cpu, rate in means),
                places=fmean(shares.places for shares in means),
                cpu=fmean(shares.cpu for shares in means),
            )
        return self._figures


class LoadWindow:
    """The readings since the last change, or since the last gap; bounded by the time that is asked for."""

    def __init__(self) -> None:
        self._steps: deque[_LoadStep] = deque()
        self._since = self._at = 0.0

    def forget(self) -> None:
        """Begin anew: what was seen says nothing about how it is now."""
        self._steps.clear()

    def note(self, reading: LoadReading, now: float, keep_s: float) -> bool:
        """Take in a reading, and keep `keep_s` seconds of them; returns whether the window begins with it."""
        if self._steps and not 0 <= now - self._at <= MAX_GAP_S:
            self.forget()
        if begins := not self._steps:
            self._since = now
        if not self._steps or now - self._steps[-1].began >= STEP_S:
            self._steps.append(_LoadStep(now))
        self._steps[-1].add(reading)
        self._at = now
        while self._steps[0].began < now - keep_s:
            self._steps.popleft()
        return begins

    def seen(self, out_after_s: float, in_after_s: float, failed_s: float | None = None) -> LoadSeen | None:
        """Sum up what was seen; None where there is no reading."""
        if not self._steps:
            return None
        lately = [step for step in self._steps if step.began >= self._at - out_after_s]
        longer = [step for step in self._steps if step.began >= self._at - in_after_s]
        count = sum(step.count for step in lately)

        def mean(of: Callable[[LoadFigures], float]) -> float:
            return sum(of(step.figures()) * step.count for step in lately) / count

        return LoadSeen(
            whole_s=self._at - self._since,
            floor=_floor([step.figures().used for step in lately]),
            sure_floor=_floor([step.figures().sure for step in lately]),
            used=mean(lambda figures: figures.used),
            sure=mean(lambda figures: figures.sure),
            places=mean(lambda figures: figures.places),
            cpu=mean(lambda figures: figures.cpu),
            behind=2 * sum(step.behind for step in lately) > count,
            peak=max(step.figures().used for step in longer),
            was_behind=any(step.behind for step in longer),
            failed_s=failed_s,
        )


def _floor(figures: Sequence[float]) -> float:
    """The figure that MOSTLY of them reach."""
    return sorted(figures, reverse=True)[ceil(MOSTLY * len(figures)) - 1]
