"""Draws a week of scaling as SVG: the cells that were needed, and those that ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

WIDTH: Final = 960
HEIGHT: Final = 340
LEFT: Final = 50
RIGHT: Final = 20
TOP: Final = 60
BOTTOM: Final = 40
DRAWN_MINUTES: Final = 15  # that are one step of the picture; the highest of them is drawn
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
NEEDED: Final = "#ced4da"
RAN: Final = "#1971c2"


def picture(needed: Sequence[int], ran: Sequence[int], figures: Mapping[str, float]) -> str:
    """Return the SVG of figures that are one a minute."""
    asked, there = _steps(needed), _steps(ran)
    most = max(*asked, *there) + 1
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    floor = _y(0, most)
    flaps, over = figures["flaps: turned round without a reason"], figures["over capacity, minutes"]
    title = (
        f"{figures['cells that ran, mean']:.1f} cells ran on average, {figures['cells needed, mean']:.1f} were needed; "
        f"{flaps:.0f} flaps; {over:.0f} min over capacity"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<text x="{LEFT}" y="22" font-size="15">{title}</text>',
            f'<text x="{LEFT}" y="42" fill="#868e96">grey: cells needed for the target</text>',
            f'<text x="{LEFT + 220}" y="42" fill="{RAN}">blue: cells that ran</text>',
            f'<path d="M{LEFT},{floor}{_line(asked, most)}V{floor}Z" fill="{NEEDED}"/>',
            *_axes(most),
            f'<path d="M{LEFT},{_y(there[0], most)}{_line(there, most)}" fill="none" stroke="{RAN}" stroke-width="2"/>',
            "</svg>\n",
        ]
    )


def _steps(minutes: Sequence[int]) -> list[int]:
    return [max(minutes[at : at + DRAWN_MINUTES]) for at in range(0, len(minutes), DRAWN_MINUTES)]


def _line(steps: Sequence[int], most: int) -> str:
    """Stairs, with a corner only where the figure changes."""
    wide, parts, before = (WIDTH - LEFT - RIGHT) / len(steps), [], None
    for place, figure in enumerate(steps):
        if figure != before:
            parts.append(f"H{LEFT + place * wide:.1f}V{_y(figure, most)}")
            before = figure
    return "".join(parts) + f"H{WIDTH - RIGHT}"


def _y(cells: float, most: int) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * cells / most, 1)


def _axes(most: int) -> Iterator[str]:
    for cells in range(0, most + 1, 2):
        y = _y(cells, most)
        yield f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#868e96" stroke-opacity="0.25"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{cells}</text>'
    for number, day in enumerate(DAYS):
        x = LEFT + (WIDTH - LEFT - RIGHT) * (number + 0.5) / len(DAYS)
        yield f'<text x="{x:.0f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{day}</text>'
