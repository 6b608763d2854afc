"""How many events may be in flight at an instance at once: never more than it declares, fewer when it queues them.

The algorithm is Gradient2 of Netflix's concurrency-limits library (Landau, Thurston and Bozarth, "Performance Under
Load", Netflix Technology Blog, 2018). The window moves towards `window * gradient + sqrt(window)`. The gradient
compares the long-run latency with the present one and falls below 1 when latency has grown by more than TOLERANCE.
A failed batch halves the window. Several routers that overload a cell therefore all slow down without knowing of each
other. A latency that lasts becomes the long-run latency: a cell that is slower for good gets its window back, and then
the limit that it declares is what holds.

An instance that takes a cell over, or that gets traffic again after an ejection, starts slowly: its window begins at
an eighth and doubles with each step, until it is open or until latency or a failure says that it is wide enough.
"""

from __future__ import annotations

from math import sqrt
from typing import Final

TOLERANCE: Final = 2.0  # latency may double before the window shrinks, because tenants' events differ in cost
SMOOTHING: Final = 0.2  # the part of the way to the wanted window that one step goes
SAMPLES: Final = 10  # latencies that make one step: a single slow event says nothing
LONG_RUN: Final = 60  # steps over which the long-run latency forgets
SLOW_START: Final = 8  # a slow start begins with the window divided by this


class ConcurrencyWindow:
    """One instance's window, in events: wide open at first, as the cell itself declared it, or slowly opening."""

    def __init__(self, ceiling: int, *, slow_start: bool = False) -> None:
        self._ceiling = ceiling
        self._starting = slow_start
        self._size = max(1.0, ceiling / SLOW_START) if slow_start else float(ceiling)
        self._long_s = 0.0
        self._sum_s = 0.0
        self._samples = 0

    @property
    def size(self) -> int:
        """How many events may be in flight now: at least 1, at most the ceiling."""
        return int(self._size)

    def answered(self, latency_s: float, in_flight: int) -> None:
        """Note the latency of one answered event, and how many events, itself included, were in flight."""
        self._sum_s += latency_s
        self._samples += 1
        if self._samples == SAMPLES:
            short_s = self._sum_s / SAMPLES
            self._sum_s, self._samples = 0.0, 0
            self._step(short_s, in_flight)

    def failed(self) -> None:
        """Halve the window, because the instance could not take what was sent, and end a slow start."""
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
            return  # the window is hardly used, so latency says nothing about its size
        wanted = self._size * gradient + sqrt(self._size)
        self._size = min(float(self._ceiling), max(1.0, self._size + SMOOTHING * (wanted - self._size)))
