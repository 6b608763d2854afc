"""The canaries of one instance, by vantage point: a router or the leader, each over a path of its own.

What one of them alone finds is a path. What most of them find, and at least two, is the cell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from statistics import median, median_low
from typing import Final, NamedTuple

from router.core.detection.samples import CanarySample
from router.core.detection.statistics import agreed
from router.core.detection.thresholds import CANARY_FRESH_S, HANG_S, MIN_CANARIES, MIN_POINTS, SAMPLE_FRESH_S, WINDOW_S

LEADER: Final = "leader"
"""The vantage point of the controller that leads; routers have their ids."""


@dataclass(slots=True)
class CanaryWindow:
    """The canaries that one vantage point sent of late: those that were answered, and the one that is under way."""

    recent: deque[tuple[float, float]] = field(default_factory=deque)  # when it was answered; its latency in seconds
    failures: int = 0  # in a row
    ended_at: float = -inf  # when the last one was answered or failed
    waiting_since: float | None = None  # when the one under way was sent; None: none is
    told_at: float = inf  # when that one was told of last; infinite where whoever sent it is here

    def answered(self, latency_s: float, now: float) -> None:
        """Note one that was answered well."""
        self.recent.append((now, latency_s))
        self.failures, self.ended_at, self.waiting_since = 0, now, None

    def failed(self, now: float) -> None:
        """Note one that was refused, cut off, or answered with a failure or garbage."""
        self.failures, self.ended_at, self.waiting_since = self.failures + 1, now, None

    def told(self, sample: CanarySample, now: float) -> None:
        """Take in what a router says of one that it sent."""
        if sample.latency_s is not None:
            self.answered(sample.latency_s, now)
        elif sample.waiting_s:
            self.waiting_since, self.told_at = now - sample.waiting_s, now
        else:
            self.failed(now)

    def waiting_s(self, now: float) -> float:
        """Return for how many seconds the canary under way has waited for its answer; 0 when none is under way."""
        if self.waiting_since is None or now - self.told_at > SAMPLE_FRESH_S:
            return 0.0
        return now - self.waiting_since

    def of_late(self, now: float) -> bool:
        """Tell whether anything is known of the last HANG_S."""
        return now - self.ended_at < HANG_S or self.waiting_s(now) > 0

    def well(self, now: float) -> bool:
        """Tell whether the last one was answered well, of late, and the next one does not wait for long."""
        return not self.failures and now - self.ended_at < HANG_S and self.waiting_s(now) < HANG_S

    def median_s(self, now: float, since: float = -inf) -> float | None:
        """Return the median latency, in seconds, of the canaries answered after `since`; None when there are none.

        The one under way counts too, with the time that it has waited, once that is longer than any other took.
        """
        latencies = [latency for at, latency in self.recent if at > since]
        if (waiting_s := self.waiting_s(now)) > max(latencies, default=0.0):
            latencies.append(waiting_s)
        return median(latencies) if latencies else None

    def last_s(self, now: float, since: float) -> float | None:
        """Return what the last canary took, in seconds, if it was answered after `since`; None when none was.

        The one under way counts instead, with the time that it has waited, once that is longer.
        """
        at, latency_s = self.recent[-1] if self.recent else (-inf, 0.0)
        last_s = max(latency_s if at > since else 0.0, self.waiting_s(now))
        return last_s or None

    def forget_before(self, then: float) -> None:
        """Drop what came at `then` or earlier.

        The last MIN_CANARIES stay longer, until the next one is under way: a router of many cells sends few through
        each.
        """
        kept, oldest = (MIN_CANARIES if self.waiting_since is None else 0), then + WINDOW_S - CANARY_FRESH_S
        while self.recent and self.recent[0][0] <= then and (len(self.recent) > kept or self.recent[0][0] <= oldest):
            self.recent.popleft()
        if self.ended_at <= then:
            self.failures = 0


class Answers(NamedTuple):
    """How an instance answers its canaries, as most vantage points find."""

    waiting_s: float  # for how long the one under way has had no answer, at least
    failures: float  # in a row, at least
    well: bool  # the last one was answered well


class InstanceCanaries:
    """What all vantage points know of one instance by their canaries."""

    def __init__(self) -> None:
        self.points: dict[str, CanaryWindow] = {}

    def of(self, vantage: str) -> CanaryWindow:
        """Return the window of one vantage point."""
        return self.points.setdefault(vantage, CanaryWindow())

    def waited_s(self, vantage: str, now: float) -> float:
        """Return for how many seconds one vantage point's canary has waited for its answer; 0 without one under way."""
        window = self.points.get(vantage)
        return window.waiting_s(now) if window is not None else 0.0

    def forget_before(self, then: float) -> None:
        """Drop what came at `then` or earlier, and the vantage points that nothing is left of."""
        for window in self.points.values():
            window.forget_before(then)
        for vantage, window in list(self.points.items()):
            waits = window.waiting_since is not None and window.told_at > then
            if not (window.recent or window.failures or waits):
                del self.points[vantage]

    def medians_s(self, now: float) -> Mapping[str, float]:
        """Return the median latency of each vantage point's canaries, in seconds."""
        found = {vantage: window.median_s(now) for vantage, window in self.points.items()}
        return {vantage: median_s for vantage, median_s in found.items() if median_s is not None}

    def recent_s(self, now: float, since: float) -> float | None:
        """Return the median latency of those answered after `since`, as the vantage point in the middle finds it."""
        medians = (window.median_s(now, since) for window in self.points.values())
        found = [median_s for median_s in medians if median_s is not None]
        return median_low(found) if found else None

    def answers(self, now: float) -> Answers:
        """Return what most vantage points tell that know anything of the last HANG_S."""
        late = [window for window in self.points.values() if window.of_late(now)]
        if not late:
            return Answers(0.0, 0, well=False)
        well = 2 * sum(window.well(now) for window in late) > len(late)
        waiting_s = agreed([window.waiting_s(now) for window in late], MIN_POINTS)
        return Answers(waiting_s, agreed([window.failures for window in late], MIN_POINTS), well)
