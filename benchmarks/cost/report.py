"""What a run of the suite has found: rows of figures, the ratios between them, and which goals are reached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from statistics import median
from typing import Any, Final

from benchmarks.figures import medians
from benchmarks.processes import BenchError
from router.core.errors import CellRouterError

CPU: Final = "cpu_us_per_event"


class SkippedError(Exception):
    """A part can't be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What the product should reach: a figure, or one as a ratio to that of another row."""

    title: str
    row: str
    limit: float
    figure: str = CPU
    to: str = ""  # the row that it is a ratio to; empty: the figure itself
    times: float = 1.0
    at_least: bool = False

    def value(self, found: Found) -> float | None:
        """Return what was measured; None where a part of it was not."""
        if self.row not in found.runs or (self.to and self.to not in found.runs):
            return None
        if self.to:
            return self.times * found.ratio(self.row, self.to, self.figure)
        return self.times * found.rows()[self.row][self.figure]

    def reached(self, value: float) -> bool:
        """Tell whether a figure is as good as it should be."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(slots=True)
class Found:
    """The figures of each row, by run, and what was skipped."""

    runs: dict[str, list[Mapping[str, float]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    async def take(self, row: str, measuring: Callable[[], Awaitable[Mapping[str, float]]]) -> None:
        """Measure a row once more and print what it says, or why it can't be measured."""
        if row in self.skipped:
            return
        try:
            figures = await measuring()
        except (
            SkippedError,
            BenchError,
            CellRouterError,
        ) as why:  # it takes no other row with it
            self.skip(row, str(why))
            return
        self.runs.setdefault(row, []).append(figures)
        name, value = next(iter(figures.items()))
        print(f"run {len(self.runs[row])}, {row}: {name} {value:,.1f}", flush=True)

    def skip(self, row: str, why: str) -> None:
        """Note and print that a row is not measured."""
        self.skipped[row] = why
        print(f"{row}: skipped: {why}", flush=True)

    def rows(self) -> dict[str, dict[str, float]]:
        """Return the median of each figure of each row."""
        return {row: medians(runs) for row, runs in self.runs.items()}

    def ratio(self, row: str, to: str, figure: str = CPU) -> float:
        """Return the median ratio of a row to another, in pairs of runs: other work on the machine comes and goes."""
        pairs = zip(self.runs[row], self.runs[to], strict=False)
        return median(mine[figure] / theirs[figure] for mine, theirs in pairs)

    def ratios(self) -> dict[str, dict[str, float]]:
        """Return every ratio of CPU an event between two rows, by the row and the one that it is a ratio to."""
        found: dict[str, dict[str, float]] = {}
        for row, to in permutations([row for row, runs in self.runs.items() if CPU in runs[0]], 2):
            found.setdefault(row, {})[to] = self.ratio(row, to)
        return found

    def as_json(self, goals: Sequence[Goal]) -> dict[str, Any]:
        """Return all that was found, for a file."""
        judged = [
            {"goal": goal.title, "limit": goal.limit, "value": value, "reached": goal.reached(value)}
            for goal in goals
            if (value := goal.value(self)) is not None
        ]
        return {
            "rows": self.rows(),
            "ratios": self.ratios(),
            "goals": judged,
            "skipped": self.skipped,
            "runs": self.runs,
        }


def costs(found: Found, base: str) -> str:
    """Lay out what an event costs in each row, beside the base, as a table in Markdown."""
    lines = [
        f"| | µs of CPU an event | events/s a core | to {base} | events a POST | messages a receive | stubs, µs |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row, figures in found.rows().items():
        if CPU not in figures:
            continue
        ratio = f"{found.ratio(row, base):.2f}" if base in found.runs else ""
        stubs = sum(figures.get(f"{stub}_us_per_event", 0.0) for stub in ("queue_stub", "cell_stubs"))
        beside = [figures.get("events_per_post", 0.0), figures.get("messages_per_receive", 0.0), stubs]
        told = " | ".join(f"{figure:.1f}" if figure else "" for figure in beside)
        lines.append(f"| {row} | {figures[CPU]:.1f} | {figures['events_per_s_per_core']:,.0f} | {ratio} | {told} |")
    return "\n".join(lines)


def others(found: Found) -> str:
    """Lay out the rows that are not about CPU an event, a line for each figure."""
    rows = [(row, figures) for row, figures in found.rows().items() if CPU not in figures]
    lines = [f"| {row} | {name} | {value:,.2f} |" for row, figures in rows for name, value in figures.items()]
    return "\n".join(["| | figure | |", "|---|---|--:|", *lines])


def verdicts(found: Found, goals: Sequence[Goal]) -> str:
    """Say of each goal what was measured, and whether it is reached."""
    lines = ["| goal | wanted | measured | |", "|---|--:|--:|---|"]
    for goal in goals:
        value = goal.value(found)
        told = "not measured | " if value is None else f"{value:.2f} | {'' if goal.reached(value) else '**missed**'}"
        lines.append(f"| {goal.title} | {'≥' if goal.at_least else '≤'} {goal.limit:g} | {told} |")
    return "\n".join(lines)
