"""Draws a flame graph as SVG of collapsed stacks: wide is what takes much CPU, and a frame stands on its caller."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Final

WIDTH: Final = 1200
LINE: Final = 15
TOP: Final = 50
NARROWEST: Final = 0.0025  # of the whole; what takes less is left out
CHARACTER: Final = 6.2  # pixels
COLOURS: Final = ("#f4a259", "#8cb369", "#bfc9d1")  # ours, libraries', Python's own
_FRAME: Final = re.compile(r"^(?P<what>.*?) \((?P<where>[^()]*?)(:\d+)?\)$")
_PLACE: Final = re.compile(r".*(site-packages|lib/python3\.\d+)/")
_OURS: Final = ("router", "cell_worker", "benchmarks")


@dataclass(slots=True)
class Frame:
    """A function and those that it called, with the samples in it and above it."""

    name: str
    samples: int = 0
    called: dict[str, Frame] = field(default_factory=dict)


def stacks_of(text: str) -> dict[tuple[str, ...], int]:
    """Read py-spy's raw format: frames from the outermost on, with a semicolon between, then the samples."""
    found: dict[tuple[str, ...], int] = {}
    for line in text.splitlines():
        frames, _, samples = line.rpartition(" ")
        stack = tuple(map(_named, frames.split(";")))
        found[stack] = found.get(stack, 0) + int(samples)
    return found


def _named(frame: str) -> str:
    """Return a frame without its line, and its module without the place where this machine has it."""
    parts = _FRAME.match(frame)
    return frame if parts is None else f"{parts['what']} ({_PLACE.sub('', parts['where'])})"


def picture(stacks: Mapping[tuple[str, ...], int], title: str) -> str:
    """Return the SVG of stacks with their samples."""
    root = _tree(stacks)
    while len(root.called) == 1 and next(iter(root.called.values())).samples == root.samples:
        root = next(iter(root.called.values()))  # what everything stands on says nothing
    drawn = list(_boxes(root, 0, 0.0, root.samples))
    height = TOP + LINE * (2 + max(depth for depth, *_ in drawn))
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    legend = "orange: cellrouter; green: libraries; grey: Python's own; wide: much CPU; a frame stands on its caller"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="monospace" font-size="10">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            f'<text x="4" y="18" font-size="15">{escape(title)}, {root.samples} samples</text>',
            f'<text x="4" y="36" fill="#495057">{legend}</text>',
            *(_box(height, root.samples, *each) for each in drawn),
            "</svg>\n",
        ]
    )


def _tree(stacks: Mapping[tuple[str, ...], int]) -> Frame:
    root = Frame("all")
    for stack, samples in stacks.items():
        root.samples += samples
        frame = root
        for name in stack:
            frame = frame.called.setdefault(name, Frame(name))
            frame.samples += samples
    return root


def _boxes(frame: Frame, depth: int, left: float, whole: int) -> Iterator[tuple[int, float, Frame]]:
    """Yield each frame that is wide enough, with its depth and where it begins, in samples."""
    yield depth, left, frame
    for name in sorted(frame.called):
        called = frame.called[name]
        if called.samples >= NARROWEST * whole:
            yield from _boxes(called, depth + 1, left, whole)
        left += called.samples


def _box(height: int, whole: int, depth: int, left: float, frame: Frame) -> str:
    x, wide = WIDTH * left / whole, WIDTH * frame.samples / whole
    y = height - LINE * (depth + 1)
    shown = frame.name[: int(wide / CHARACTER)] if wide > 4 * CHARACTER else ""
    text = f'<text x="{x + 2:.1f}" y="{y + 11}">{escape(shown)}</text>' if shown else ""
    told = f"<title>{escape(frame.name)}: {100 * frame.samples / whole:.1f} %</title>"
    box = f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{LINE - 1}" rx="1" fill="{_colour(frame.name)}"/>'
    return f"<g>{told}{box}{text}</g>"


def _colour(name: str) -> str:
    ours, libraries, own = COLOURS
    package = name.rpartition("(")[2].rstrip(")").removesuffix(".py").partition("/")[0]
    if package in _OURS:
        return ours
    return own if package in sys.stdlib_module_names or package.startswith("<") else libraries
