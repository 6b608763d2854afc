"""Sees when the worker's event loop stands still, and names the handler's code that keeps it from going on.

While the loop stands still, no other event goes on and the lease is not renewed. So a thread watches it from beside.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, replace
from types import FrameType
from typing import Final

import structlog

from cell_worker import clock
from cell_worker.contract.protocol import Reason
from cell_worker.metrics import WorkerMetrics

BEAT_S: Final = 0.25
"""How often the loop shows that it goes on, and how often the thread looks."""
BLOCKED_S: Final = 1.0
"""A loop that is so late is blocked. Shorter than half a lease, so that it is said before the lease ends."""
SAY_EVERY_S: Final = 10.0
"""The log tells of a blocking at most so often. The metrics count all of them."""
_OWN: Final = "cell_worker.handlers"


@dataclass(frozen=True, slots=True)
class Blocking:
    """One time that the loop stood still."""

    since: float  # by the monotonic clock
    seconds: float
    place: str  # the function that it stood in
    by_handler: bool  # the function is the handler's own code
    all_stood: bool  # the watching thread stood still too
    said: bool = False  # the log has told of it

    def text(self) -> Reason:
        """Say for people what stood still, how long and where."""
        where = f"{self.seconds:.0f} s in `{self.place}`"
        if self.all_stood:
            return f"the whole process stood still: {where} (stopped, short of CPU, or native code kept Python's lock)"
        return f"{'handler blocks' if self.by_handler else 'something blocks'} the loop: {where}"


class LoopWatch:
    """Measures how late the loop of the worker runs, and watches it from a thread."""

    def __init__(self, handler: str, metrics: WorkerMetrics) -> None:
        self._package = package_of(handler)
        self._metrics = metrics
        self._log = structlog.get_logger("worker")
        self._beat = clock.monotonic()
        self._thread = 0
        self._over = threading.Event()
        self._seen: Blocking | None = None  # written by the thread while the loop stands still, taken by the loop
        self._last: Blocking | None = None
        self._said_at = -SAY_EVERY_S

    async def run(self) -> None:
        """Measure the loop's lag four times a second, and have a thread watch it, until cancelled."""
        self._beat, self._thread = clock.monotonic(), threading.get_ident()
        threading.Thread(target=self._watch, name="loop-watch", daemon=True).start()
        try:
            while True:
                await clock.sleep(BEAT_S)
                self._note(clock.monotonic())
        finally:
            self._over.set()

    def why_blocked(self) -> Reason | None:
        """Return what blocked the loop the last time, and how long ago. None when nothing ever has."""
        if self._last is None:
            return None
        return f"{self._last.text()}, {clock.monotonic() - self._last.since - self._last.seconds:.0f} s ago"

    def _note(self, now: float) -> None:
        """Note how late the loop is, which runs now."""
        since, self._beat = self._beat, now
        late_s = max(0.0, now - since - BEAT_S)
        self._metrics.late(late_s)
        seen, self._seen = self._seen, None
        if late_s < BLOCKED_S:
            return
        self._metrics.loop_blocked.inc()
        # Unseen: the thread could not run either, and the loop was first to run again.
        seen = seen or Blocking(since, late_s, "unknown", by_handler=False, all_stood=True)
        self._last = replace(seen, since=since, seconds=late_s)
        if seen.said:
            self._log.warning(f"it goes on: {self._last.text()}")

    def _watch(self) -> None:
        looked = clock.monotonic()
        while not self._over.wait(BEAT_S):
            since, now = self._beat, clock.monotonic()
            late_s, own_late_s, looked = now - since - BEAT_S, now - looked - BEAT_S, now
            if late_s >= BLOCKED_S and self._seen is None:
                self._see(since, late_s, all_stood=own_late_s >= BLOCKED_S / 2)

    def _see(self, since: float, seconds: float, *, all_stood: bool) -> None:
        """Find out what the loop is doing, and tell the log, but not too often."""
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - documented, and for debuggers such as this
        place, by_handler = place_of(frame, self._package)
        said = since - self._said_at >= SAY_EVERY_S
        self._seen = Blocking(since, seconds, place, by_handler, all_stood, said)
        if said:
            self._said_at = since
            self._log.warning(f"{self._seen.text()} so far; no other event goes on, and the lease may end")


def package_of(handler: str) -> str:
    """The package that the code of the handler `package.module:name` is in. That of cellrouter's own is one folder."""
    module = handler.partition(":")[0]
    return _OWN if module.startswith(f"{_OWN}.") else module.partition(".")[0]


def place_of(frame: FrameType | None, package: str) -> tuple[str, bool]:
    """Name the innermost function of a package on a stack, and True. Without one, the innermost at all, and False."""
    places = []
    while frame is not None:
        module = str(frame.f_globals.get("__name__", "?"))
        place = f"{module}.{frame.f_code.co_qualname}"
        if f"{module}.".startswith(f"{package}."):
            return place, True
        places.append(place)
        frame = frame.f_back
    return (places or ["unknown"])[0], False
