"""Compares detectors on simulated cells: which evicts a healthy cell, which finds the slow one, and when.

All see the same events. A run is seeded by its number and its scenario, so that it is the same on every machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from os import cpu_count
from statistics import median
from typing import Any, Final

from benchmarks.world import Options
from tests.support.detector_scenarios import SCENARIOS
from tests.support.detector_simulation import Evictions, simulate

CHUNK: Final = 5  # runs that a process does at a time
COLUMNS: Final = ("runs", "wrong_evictions", "found", "seconds_p50", "seconds_max")
NOTES: Final = """
wrong_evictions: runs in which a healthy cell would have been evicted. found: of the slow cells. seconds: from when the
trouble began. All detectors see the same events; only cellrouter has canaries and guards.
goals for cellrouter: nothing evicted wrongly, all found within 20 s, and a creep within 70 s of its beginning"""


@dataclass(slots=True)
class Score:
    """What one detector did in all runs of one scenario."""

    runs: int = 0
    wrong: int = 0  # runs with a healthy cell evicted
    slow: int = 0  # cells that were slow, in all runs
    seconds: list[float] = field(default_factory=list)  # that it took to find each slow cell

    def row(self) -> dict[str, float | None]:
        """Return the figures of COLUMNS, by name."""
        return {
            "runs": self.runs,
            "wrong_evictions": self.wrong,
            "found": len(self.seconds) / self.slow if self.slow else None,
            "seconds_p50": median(self.seconds) if self.seconds else None,
            "seconds_max": max(self.seconds) if self.seconds else None,
        }

    def add(self, slow: set[str], evicted: Evictions) -> None:
        """Add one run: the cells that were slow, and what the detector evicted."""
        self.runs += 1
        self.slow += len(slow)
        self.wrong += any(at < 0 or cell_id not in slow for cell_id, at in evicted)
        found = [min((at for who, at in evicted if who == cell_id and at >= 0), default=None) for cell_id in slow]
        self.seconds += [at for at in found if at is not None]


async def run(options: Options) -> dict[str, Any]:
    """Simulate all scenarios; print each when it is done, and return all figures."""
    rows = []
    print(_line("", "", COLUMNS))
    with ProcessPoolExecutor(cpu_count()) as pool:
        for name in SCENARIOS:
            chunks = [range(begin, min(begin + CHUNK, options.runs)) for begin in range(0, options.runs, CHUNK)]
            waiting = [asyncio.wrap_future(pool.submit(_runs, name, chunk, options.seed)) for chunk in chunks]
            scores: dict[str, Score] = {}
            for outcomes in await asyncio.gather(*waiting):
                for slow, evicted in outcomes:
                    for title, evictions in evicted.items():
                        scores.setdefault(title, Score()).add(slow, evictions)
            for title, score in scores.items():
                row = score.row()
                print(_line(name, title, [_figure(row[column]) for column in COLUMNS]), flush=True)
                rows.append({"scenario": name, "detector": title, **row})
    print(NOTES)
    return {"seed": options.seed, "rows": rows}


def _runs(name: str, numbers: Sequence[int], seed: int) -> list[tuple[set[str], dict[str, Evictions]]]:
    return [simulate(SCENARIOS[name], number, f"{seed} {number} {name}") for number in numbers]


def _line(scenario: str, detector: str, figures: Sequence[str]) -> str:
    return f"{scenario:22}{detector:25}" + "".join(f"{figure:>16}" for figure in figures)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) and value < 1 else f"{value:g}"
