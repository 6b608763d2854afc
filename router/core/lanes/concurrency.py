"""How many events may be in flight at a cell at once: never more than it declares, fewer when it queues them.

The algorithm is Gradient2 of Netflix' concurrency-limits (Eran Landau, William Thurston, Tim Bozarth, "Performance
Under Load", 2018): the window follows `window · gradient + √window`, where the gradient compares the long-run latency
with the present one and falls below 1 when latency grows by more than TOLERANCE. A failed batch halves the window.
Several routers that flood a cell so give way together, without knowing of each other. A latency that lasts becomes the
normal one: a cell that is slower for good keeps its window, and in the long run its own limit is what holds.

An instance that takes a cell over, or gets traffic again after an ejection, starts slowly: its window begins at an
eighth and doubles with each step, until it is open or latency or a failure says that it is wide enough.
"""

from __future__ import annotations

from math import sqrt
from typing import Final

TOLERANCE: Final = 2.0  # latency may double before the window shrinks: handlers' times differ by tenant
SMOOTHING: Final = 0.2  # how far one step goes
SAMPLES: Final = 10  # latencies that make one step: a single slow event says nothing
LONG_RUN: Final = 60  # steps over which the long-run latency forgets
SLOW_START: Final = 8  # the part of the window that a slow start begins with


class ConcurrencyWindow:
    """One instance's window, in events. Starts wide open, for the cell itself has said what it can do; or slowly."""

    def __init__(self, ceiling: int, *, slow_start: bool = False) -> None:
        self._ceiling = ceiling
        self._starting = slow_start
        self._size = max(1.0, ceiling / SLOW_START) if slow_start else float(ceiling)
        self._long_s = 0.0
        self._sum_s = 0.0
        self._samples = 0

    @property
    def size(self) -> int:
        """1 to the ceiling."""
        return int(self._size)

    def answered(self, latency_s: float, in_flight: int) -> None:
        """One event was answered, while so many (itself included) were in flight."""
        self._sum_s += latency_s
        self._samples += 1
        if self._samples == SAMPLES:
            short_s = self._sum_s / SAMPLES
            self._sum_s, self._samples = 0.0, 0
            self._step(short_s, in_flight)

    def failed(self) -> None:
        """The cell could not take what was sent."""
        self._size = max(1.0, self._size / 2)
        self._starting = False

    def _step(self, short_s: float, in_flight: int) -> None:
        self._long_s += (short_s - self._long_s) / LONG_RUN if self._long_s else short_s
        if self._long_s > 2 * short_s:
            self._long_s *= 0.95  # after a long bad time, learn the good one faster
        gradient = min(1.0, max(0.5, TOLERANCE * self._long_s / short_s)) if short_s > 0 else 1.0
        self._starting = self._starting and gradient == 1 and self._size < self._ceiling
        if self._starting:
            self._size = min(float(self._ceiling), 2 * self._size)
            return
        if in_flight < self._size / 2:
            return  # little is asked of it: latency says nothing about the window
        wanted = self._size * gradient + sqrt(self._size)
        self._size = min(float(self._ceiling), max(1.0, self._size + SMOOTHING * (wanted - self._size)))
