"""Compares detectors on simulated cells: which calls a healthy cell sick, which finds the sick one, and when.

All see the same events. A run is seeded by its number and its scenario, so that it is the same on every machine.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from os import cpu_count
from typing import Any, Final

from benchmarks.processes import BenchError
from benchmarks.world import Options
from tests.support.detector_limits import with_other_limits
from tests.support.detector_scenarios import RATIOS, SCENARIOS
from tests.support.detector_simulation import Evictions, Outcome, all_detectors, simulate

CHUNK: Final = 5  # runs that a process does at a time
IN_TIME_S: Final = 20.0
MANY: Final = 0.95  # share of the cells of one slowness that must be found, for that slowness to count as found
COLUMNS: Final = ("runs", "wrong", "wronged", "found", "in_time", "cured", "p50_s", "p95_s", "max_s", "observed")
NOTES: Final = """
wrong: runs in which a healthy cell was called sick. wronged: runs in which one was ejected, or slower than its twin in
the trial. found: of the sick cells. in_time: of them, within 20 s. cured: of them, ejected or slower than the twin.
seconds: from when the trouble began until the cell was called sick. observed: sick cells of which a pattern of minutes
was named; where none is sick, runs in which one was. All detectors see the same events; only cellrouter has canaries
and guards. goals for cellrouter: nothing wronged, and 0.99 in time where a cell is three times as slow"""
Scores = dict[str, "Score"]  # by detector


@dataclass(slots=True)
class Score:
    """What one detector did in all runs of one scenario."""

    runs: int = 0
    wrong: int = 0  # runs with a healthy cell called sick
    wronged: int = 0  # runs with a healthy cell treated
    slow: int = 0  # cells that were sick, in all runs
    cured: int = 0  # of these, treated
    seconds: list[float] = field(default_factory=list)  # that it took to find each sick cell
    observed: int = 0  # of the sick cells, those of which a pattern was named; without any, runs in which one was
    patterns: Counter[str] = field(default_factory=Counter)  # by name, of how many of these cells or runs

    @property
    def in_time(self) -> int:
        """How many of the sick cells were found within IN_TIME_S."""
        return sum(1 for each in self.seconds if each <= IN_TIME_S)

    def row(self) -> dict[str, float | None]:
        """Return the figures of COLUMNS, by name."""
        return {
            "runs": self.runs,
            "wrong": self.wrong,
            "wronged": self.wronged,
            "found": len(self.seconds) / self.slow if self.slow else None,
            "in_time": self.in_time / self.slow if self.slow else None,
            "cured": self.cured / self.slow if self.slow else None,
            "p50_s": _quantile(self.seconds, 0.5),
            "p95_s": _quantile(self.seconds, 0.95),
            "max_s": _quantile(self.seconds, 1.0),
            "observed": self.observed / (self.slow or self.runs),
        }

    def add(self, slow: set[str], outcome: Outcome) -> None:
        """Add one run: the cells that were sick, and what came of the detector."""
        self.runs += 1
        self.slow += len(slow)
        self.wrong += _is_wrong(slow, outcome.called)
        self.wronged += _is_wrong(slow, outcome.treated)
        self.seconds += _found(slow, outcome.called)
        self.cured += len(_found(slow, outcome.treated))
        seen = {(name if slow else "", pattern) for name, pattern in outcome.observed if name in slow or not slow}
        self.observed += len({name for name, _ in seen})
        self.patterns += Counter(pattern.value for _, pattern in seen)


async def run(options: Options) -> dict[str, Any]:
    """Simulate the scenarios; print each when it is done, and return all figures."""
    rows, scored = [], {}
    print(_line("", "limit of the main rule" if options.roc else "", COLUMNS))
    async for name, scores in _scored(options):
        scored[name] = scores
        for title, score in scores.items():
            row = score.row()
            print(_line(name, title, [_figure(row[column]) for column in COLUMNS]), flush=True)
            rows.append({"scenario": name, "detector": title, **row, "patterns": dict(score.patterns)})
    smallest, totals = _smallest(scored), _totals(scored)
    print(_line("\nall, as shares", "", ("wrong", "wronged", "found", "in_time", "cured")))
    for title, total in totals.items():
        print(_line("", title, [_figure(value) for value in total.values()]))
    for title, ratio in smallest.items():
        print(_line("smallest ratio found", title, [_figure(ratio)]))
    print(NOTES)
    return {"seed": options.seed, "rows": rows, "totals": totals, "smallest_ratio": smallest}


def _totals(scored: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
    """Return what each detector did in all scenarios: the share of healthy worlds wronged, and of sick cells found."""
    healthy: dict[str, list[Score]] = {}
    sick: dict[str, list[Score]] = {}
    for name, scores in scored.items():
        for title, score in scores.items():
            (sick if SCENARIOS[name].slow else healthy).setdefault(title, []).append(score)
    return {title: _total(healthy.get(title, []), sick.get(title, [])) for title in healthy | sick}


def _total(healthy: Sequence[Score], sick: Sequence[Score]) -> dict[str, float]:
    runs, cells = max(1, sum(score.runs for score in healthy)), max(1, sum(score.slow for score in sick))
    return {
        "wrong": sum(score.wrong for score in healthy) / runs,
        "wronged": sum(score.wronged for score in healthy) / runs,
        "found": sum(len(score.seconds) for score in sick) / cells,
        "in_time": sum(score.in_time for score in sick) / cells,
        "cured": sum(score.cured for score in sick) / cells,
    }


async def _scored(options: Options) -> AsyncIterator[tuple[str, Scores]]:
    """Run the scenarios that the options name, in chunks on all CPUs; yield each with what the detectors did."""
    names = [name for name in SCENARIOS if options.wants(name)]
    if not names:
        raise BenchError(f"no scenario has {' or '.join(options.only)} in its name: {', '.join(SCENARIOS)}")
    with ProcessPoolExecutor(cpu_count()) as pool:
        waiting = {
            name: [
                asyncio.wrap_future(pool.submit(_runs, name, numbers, options.seed, roc=options.roc))
                for numbers in _chunks(options.runs)
            ]
            for name in names
        }
        for name, chunks in waiting.items():
            scores: Scores = {}
            for runs in await asyncio.gather(*chunks):
                for slow, outcomes in runs:
                    for title, outcome in outcomes.items():
                        scores.setdefault(title, Score()).add(slow, outcome)
            yield name, scores


def _chunks(runs: int) -> list[range]:
    return [range(begin, min(begin + CHUNK, runs)) for begin in range(0, runs, CHUNK)]


def _runs(name: str, numbers: Sequence[int], seed: int, *, roc: bool) -> list[tuple[set[str], dict[str, Outcome]]]:
    contestants = with_other_limits if roc else all_detectors
    return [simulate(SCENARIOS[name], number, f"{seed} {number} {name}", contestants) for number in numbers]


def _smallest(scored: Mapping[str, Scores]) -> dict[str, float | None]:
    """Return for each detector the smallest ratio from which on at least MANY of the slow cells are found."""
    ratios = {**{name: ratio for name, (ratio, _) in RATIOS.items()}, "slow x3": 3.0}
    measured = {ratios[name]: scores for name, scores in scored.items() if name in ratios}
    smallest: dict[str, float | None] = {}
    for title in next(iter(measured.values()), {}):
        smallest[title] = None
        for ratio in sorted(measured, reverse=True):
            if (measured[ratio][title].row()["found"] or 0.0) < MANY:
                break
            smallest[title] = ratio
    return smallest


def _is_wrong(slow: set[str], evictions: Evictions) -> bool:
    return any(at < 0 or cell_id not in slow for cell_id, at in evictions)


def _found(slow: set[str], evictions: Evictions) -> list[float]:
    """Return when each of the sick cells was found that were."""
    found = [min((at for who, at in evictions if who == cell_id and at >= 0), default=None) for cell_id in slow]
    return [at for at in found if at is not None]


def _quantile(values: Sequence[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _line(scenario: str, detector: str, figures: Sequence[str]) -> str:
    return f"{scenario:27}{detector:25}" + "".join(f"{figure:>9}" for figure in figures)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) and value < 1 else f"{value:g}"
