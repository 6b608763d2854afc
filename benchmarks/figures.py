"""Figures of a bench: medians over runs, printed as a table and written as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each figure over the runs, which must all have the same figures."""
    return {name: median(run[name] for run in runs) for name in runs[0]}


def p99(values: Sequence[float]) -> float:
    """Return the 99th percentile of the values, by nearest rank; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] if ordered else 0.0


def table(columns: Mapping[str, Mapping[str, float]]) -> str:
    """Lay figures out as text: a row for each figure, a column for each thing that was measured."""
    rows = list(dict.fromkeys(name for column in columns.values() for name in column))
    width = max(len(row) for row in rows)
    lines = [" " * width + "".join(f"{title:>16}" for title in columns)]
    for row in rows:
        cells = (f"{column[row]:>16,.2f}" if row in column else " " * 16 for column in columns.values())
        lines.append(f"{row:{width}}" + "".join(cells))
    return "\n".join(lines)


def write(path: Path, suite: str, figures: Mapping[str, Any]) -> None:
    """Write the suite's name and its figures to a file as one JSON object."""
    path.write_text(json.dumps({"suite": suite, **figures}, indent=2) + "\n", "utf-8")
