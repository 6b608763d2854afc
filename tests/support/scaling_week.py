"""A week of load in virtual time: the cells that were needed, beside those that ran, and how often that turned round.

The decision is the leader's own; the load and the cells are a model. Load goes up and down with the day, less on
weekends, grows over the week, and has long and short spikes. A cell takes its time to come and to go, nothing is
decided meanwhile, and a new leader begins anew once a day. A bare rule, which follows each minute without a band and
without a pause, is measured beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, starmap
from random import Random  # noqa: TID251 - seeded: the same week in every run
from statistics import fmean
from typing import Final

from router.core.scaling.decision import decided
from router.core.scaling.seen import CellShares, LoadReading, LoadWindow
from router.core.scaling.wanted import Scaling
from router.core.slot_map.placement import MOVE_SLOTS
from router.core.slot_map.slots import SLOTS

DAY_S: Final = 86_400
WEEK_S: Final = 7 * DAY_S
STEP_S: Final = 10  # of the model
MINUTE_S: Final = 60
TURN_S: Final = 3600  # a change that is turned round within it, without a reason, is a flap
REASON: Final = 1.2  # times: so much the load, as a mean over ten minutes, must have changed in between
CELL_RATE: Final = 100.0  # events a second that fill a cell
PEAK_RATE: Final = 480.0  # of the first day
GROWTH: Final = 1.3  # from the first day to the last
LAUNCH_S: Final = 40.0  # until a new cell is verified
MOVE_S: Final = 3.5  # for each move of slots, with the rest after it
LATE_S: Final = 60.0
WANTED: Final = Scaling(min_cells=2, max_cells=24)


@dataclass(frozen=True, slots=True)
class Spike:
    """Times the usual load, from when to when, in seconds from the start of the week."""

    begins: float
    lasts: float
    height: float

    def at(self, now: float) -> float:
        """Return how many times the usual load it is: it rises and falls within a tenth of its length."""
        inside = min(now - self.begins, self.begins + self.lasts - now) / (self.lasts / 10)
        return 1 + (self.height - 1) * max(0.0, min(1.0, inside))


@dataclass(slots=True)
class Week:
    """What happened to one rule, minute by minute."""

    loads: list[float] = field(default_factory=list)  # events a second
    ran: list[int] = field(default_factory=list)  # cells
    changes: list[tuple[float, int]] = field(default_factory=list)  # when, and 1 or -1
    over_s: float = 0.0  # more came than the cells could do
    waited_s: float = 0.0  # the longest that an event had to wait

    @property
    def needed(self) -> list[int]:
        """The fewest cells that hold each minute's load at the target."""
        least = (math.ceil(load / (WANTED.target * CELL_RATE)) for load in self.loads)
        return [max(WANTED.min_cells, min(WANTED.max_cells, cells)) for cells in least]

    @property
    def turns(self) -> list[tuple[float, float]]:
        """From when to when each change lasted that was turned round within an hour."""
        return [
            (at, then) for (at, one), (then, other) in pairwise(self.changes) if one != other and then - at < TURN_S
        ]

    @property
    def flaps(self) -> int:
        """How many of them had no reason: the load was about the same all the time."""
        return sum(max(loads) < REASON * min(loads) for loads in starmap(self._smooth, self.turns))

    def _smooth(self, since: float, until: float) -> list[float]:
        minutes = range(int(since // MINUTE_S), int(until // MINUTE_S) + 1)
        return [fmean(self.loads[max(0, at - 5) : at + 5]) for at in minutes]


Rule = Callable[[float, int, LoadReading], int]
"""Decides from the time, the number of cells and a reading: 1, -1 or 0."""


class Leader:
    """The rule that ships: the window and the decision of the leader."""

    def __init__(self) -> None:
        self.window = LoadWindow()

    def __call__(self, now: float, cells: int, reading: LoadReading) -> int:
        """Take in a reading, and decide."""
        if now % DAY_S == DAY_S / 2:
            self.window.forget()  # another controller leads from noon on
        self.window.note(reading, now, WANTED.in_after_s)
        seen = self.window.seen(WANTED.out_after_s, WANTED.in_after_s)
        return decided(WANTED, cells, cells, seen, None).change if seen is not None else 0


def bare(now: float, cells: int, reading: LoadReading) -> int:
    """Follow each minute: above the target one more, one fewer where the rest would be at the target."""
    if now % MINUTE_S:
        return 0
    used = reading.by_cell["each"].places
    if used > WANTED.target and cells < WANTED.max_cells:
        return 1
    fits = cells > WANTED.min_cells and used * cells / (cells - 1) <= WANTED.target
    return -1 if fits else 0


def week_of(rule: Rule, seed: int) -> Week:
    """Let a rule follow the week."""
    found, random = Week(), Random(seed)
    spikes = _spikes(random)
    cells, target, ready_at, backlog = 5, 5, 0.0, 0.0
    for now in range(0, WEEK_S, STEP_S):
        load = _load(now, spikes) * math.exp(random.gauss(0, 0.08))
        if target != cells and now >= ready_at:
            cells = target
        most = cells * CELL_RATE
        served = min(most, load + backlog / STEP_S)
        backlog += (load - served) * STEP_S
        found.over_s += STEP_S * (load > most)
        found.waited_s = max(found.waited_s, backlog / most)
        used = served / most
        reading = LoadReading({"each": CellShares(used, 0.6 * used, 0.0)}, behind=backlog > LATE_S * served)
        if target == cells and (change := rule(float(now), cells, reading)):
            target = cells + change
            ready_at = now + LAUNCH_S * (change > 0) + MOVE_S * math.ceil(SLOTS / max(cells, target) / MOVE_SLOTS)
            found.changes.append((float(now), change))
            if isinstance(rule, Leader):
                rule.window.forget()
        if now % MINUTE_S == 0:
            found.loads.append(_load(now, spikes))
            found.ran.append(cells)
    return found


def _spikes(random: Random) -> Sequence[Spike]:
    long = [Spike(random.uniform(0, WEEK_S), random.uniform(1200, 2400), 1.8) for _ in range(6)]
    short = [Spike(random.uniform(0, WEEK_S), random.uniform(40, 80), 2.0) for _ in range(30)]
    return [*long, *short]


def _load(now: float, spikes: Sequence[Spike]) -> float:
    """Events a second: by the hour, the day of the week, the growth and the spikes."""
    daily = 0.35 + 0.65 * (1 - math.cos(2 * math.pi * (now / DAY_S - 1 / 8))) / 2
    weekend = 0.6 if now >= 5 * DAY_S else 1.0
    growth = 1 + (GROWTH - 1) * now / WEEK_S
    height = max(spike.at(now) for spike in spikes)
    return PEAK_RATE * daily * weekend * growth * height
