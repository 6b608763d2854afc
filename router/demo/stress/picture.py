"""Draws a stress run as SVG: latency against load, and each cell of the last phase beside the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from router.core.load.findings import LoadReport, PhaseFound

WIDTH: Final = 880
HEIGHT: Final = 380
LEFT: Final = 70
RIGHT: Final = 150
TOP: Final = 50
BOTTOM: Final = 60
LINES: Final = {"p50": "#2b8a3e", "p90": "#1971c2", "p99": "#e67700", "p999": "#c92a2a"}
_WORDS: Final = {"p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9"}
_BAR: Final = 18


def picture(report: LoadReport, before: LoadReport | None = None) -> str:
    """Return the SVG; an earlier run, if there is one, is dashed."""
    phases = _ordered(report)
    scale = _Scale([*phases, *(_ordered(before) if before else [])])
    cells = phases[-1].cells if phases else {}
    height = HEIGHT + (50 + _BAR * len(cells) if cells else 0)
    parts = [
        _opened(height),
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{escape(_title(report))}</text>',
        *_axes(scale, phases),
        *(_lines(scale, _ordered(before), dashed=True) if before else []),
        *_lines(scale, phases, dashed=False),
        *_knee(scale, report),
        *_bars(phases[-1] if phases else None),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _opened(height: int) -> str:
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'


class _Scale:
    """Where a load and a latency are in the picture: the one linear, the other by its logarithm."""

    def __init__(self, phases: Sequence[PhaseFound]) -> None:
        took = [getattr(phase.took, name) for phase in phases for name in LINES if phase.took.count]
        self.most_rate = max((phase.sent.rate for phase in phases), default=1.0)
        self.low = math.floor(math.log10(max(1.0, min(took, default=1.0))))
        self.high = max(self.low + 1, math.ceil(math.log10(max(1.0, *took, 10.0))))

    def x(self, rate: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * rate / self.most_rate, 1)

    def y(self, ms: float) -> float:
        share = (math.log10(max(ms, 1.0)) - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)


def _ordered(report: LoadReport) -> list[PhaseFound]:
    return sorted(report.phases, key=lambda phase: phase.sent.rate)


def _title(report: LoadReport) -> str:
    return (
        f"{report.profile} up to {report.rate:g} events/s for {report.seconds:g} s, {report.tenants} tenants, "
        f"environment {report.environment}"
    )


def _axes(scale: _Scale, phases: Sequence[PhaseFound]) -> Iterator[str]:
    for power in range(scale.low, scale.high + 1):
        y = scale.y(10**power)
        yield f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#dee2e6"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{10**power:g} ms</text>'
    for rate in sorted({phase.sent.rate for phase in phases}):
        x = scale.x(rate)
        yield f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{rate:g}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{HEIGHT - BOTTOM + 40}" text-anchor="middle">events a second</text>'


def _lines(scale: _Scale, phases: Sequence[PhaseFound], *, dashed: bool) -> Iterator[str]:
    shown = [phase for phase in phases if phase.took.count]
    style = ' stroke-dasharray="5 4" opacity="0.6"' if dashed else ""
    for number, (name, colour) in enumerate(LINES.items()):
        points = [(scale.x(phase.sent.rate), scale.y(getattr(phase.took, name))) for phase in shown]
        path = " ".join(f"{x},{y}" for x, y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{style}/>'
        yield from (f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"{style}/>' for x, y in points)
        words = f"{_WORDS[name]} before" if dashed else _WORDS[name]
        at = TOP + 18 * (number + (len(LINES) if dashed else 0))
        yield f'<text x="{WIDTH - RIGHT + 20}" y="{at + 4}" fill="{colour}">{words}</text>'


def _knee(scale: _Scale, report: LoadReport) -> Iterator[str]:
    if report.knee.rate:
        x = scale.x(report.knee.rate)
        yield f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{HEIGHT - BOTTOM}" stroke="#495057" stroke-dasharray="2 3"/>'
        yield f'<text x="{x}" y="{TOP - 6}" text-anchor="middle">knee {report.knee.rate:g}</text>'


def _bars(phase: PhaseFound | None) -> Iterator[str]:
    """Each cell's p99 in the phase of the highest load: one that stands out has another trouble than the load."""
    if phase is None or not phase.cells:
        return
    yield f'<text x="{LEFT}" y="{HEIGHT + 14}">p99 of each cell, {escape(phase.sent.name)}</text>'
    most = max(1.0, *(took.p99 for took in phase.cells.values()))
    for number, (cell_id, took) in enumerate(phase.cells.items()):
        y, width = HEIGHT + 26 + _BAR * number, round((WIDTH - LEFT - 2 * RIGHT) * took.p99 / most, 1)
        yield f'<text x="{LEFT}" y="{y + 12}">{escape(cell_id)}</text>'
        yield f'<rect x="{LEFT + 80}" y="{y + 2}" width="{width}" height="{_BAR - 5}" fill="{LINES["p99"]}"/>'
        yield f'<text x="{LEFT + 86 + width}" y="{y + 12}">{took.p99:.0f} ms, {took.count} events</text>'
