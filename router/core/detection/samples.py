"""What a router sees of its cells, second by second: the numbers that the detector is fed with.

Pure. Under consistent hashing, tenant and cell are confounded: a cell with heavy tenants has a high latency and nothing
is wrong with it. So each tenant is compared with itself: the router knows every tenant's usual latency, in logarithms,
and reports by how much it is off today. Only that, and what the tenant takes of its cell's time, leaves the router.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from math import exp, log
from typing import Final

INTERVAL_S: Final = 1.0  # between a router's samples
MEMORY_S: Final = 600.0  # over which a usual latency forgets: a creep of a minute can't hide in it
MAX_TENANTS: Final = 10_000  # whose usual latency is known; the one not seen for longest is forgotten
REPORTED_TENANTS: Final = 32  # of a cell, a second: enough for a median, however many there are
MATURE_EVENTS: Final = 5  # fewer say nothing about what is usual
MATURE_S: Final = 10.0
YOUNG_EVENTS: Final = 50  # up to there every event counts alike; from there on, time does
LONGEST_STEP_S: Final = 10.0  # a tenant that comes back after a day isn't judged by its first event
PATIENCE_S: Final = 1800.0  # what has been unusual for so long is usual now: nothing stays frozen for ever
LEAST_S: Final = 0.0005  # what is faster is as good as this: its logarithm would be noise


@dataclass(frozen=True, slots=True)
class TenantSample:
    """One tenant's events of one interval."""

    events: int
    busy_s: float  # of all of them together
    usual_share: float  # of its cell's time
    off: float | None = None  # mean of log latency less the usual one; None while that isn't known


@dataclass(frozen=True, slots=True)
class CellSample:
    """What one router has seen of one cell within one interval. Latencies are without the wait for a place there."""

    generation: int
    events: int = 0  # answered, well or not
    ok: int = 0
    log_s: float = 0.0  # sum of the logarithms of the latencies of those answered well
    work_s: float = 0.0  # what those events usually take, of tenants of which that is known
    new_s: float = 0.0  # what those of all others took
    tenants: Mapping[str, TenantSample] = field(default_factory=dict)  # REPORTED_TENANTS and the busiest
    failing: int = 0  # failures in a row, up to now
    failing_tenants: int = 0  # different keys in that row
    failing_s: float = 0.0  # since it began
    oldest_s: float = 0.0  # age of the oldest event in flight
    waiting_tenants: int = 0  # different keys in flight
    silent_s: float = 0.0  # since the last answer, while something is in flight
    slowest_s: float = 0.0  # the longest that an event took lately


@dataclass(frozen=True, slots=True)
class RouterSample:
    """All that one router has seen in one interval."""

    number: int  # counts up, so that no interval counts twice
    lag_s: float  # the longest that its own event loop was late
    cells: Mapping[str, CellSample]


class Busy:
    """Seconds of latency a second, usually. All begin at nothing: new is unusual, and shares are right at once."""

    __slots__ = ("_at", "value")

    def __init__(self, now: float) -> None:
        self.value = 0.0
        self._at = now - INTERVAL_S

    def learn(self, busy_s: float, now: float) -> None:
        """So much since the last time."""
        if (step_s := now - self._at) > 0:
            self.value += (1 - exp(-step_s / MEMORY_S)) * (busy_s / step_s - self.value)
            self._at = now


class _TenantBaseline:
    """What is usual for one tenant."""

    __slots__ = ("busy", "events", "log_s", "mean_s", "seen_at", "since")

    def __init__(self, now: float) -> None:
        self.events = 0
        self.log_s = 0.0
        self.mean_s = 0.0
        self.busy = Busy(now)
        self.since = now
        self.seen_at = now

    def known(self, now: float) -> bool:
        return self.events >= MATURE_EVENTS and now - self.since >= MATURE_S

    def learn(self, events: int, log_s: float, busy_s: float, now: float) -> None:
        step_s = min(now - self.seen_at, LONGEST_STEP_S)
        weight = 1 - exp(-step_s / MEMORY_S)
        if self.events < YOUNG_EVENTS:
            weight = max(weight, events / (self.events + events))
        self.log_s += weight * (log_s - self.log_s)
        self.mean_s += weight * (busy_s / events - self.mean_s)
        self.busy.learn(busy_s, now)
        self.events += events
        self.seen_at = now


class CellWatch:
    """One router's eye on one cell. `answered` is on the hot path: everything else is done once an interval."""

    def __init__(self) -> None:
        self._usual: dict[str, _TenantBaseline] = {}  # the one seen last comes last
        self._busy: Busy | None = None
        self._frozen_at: float | None = None  # what is usual
        self._now: dict[str, list[float]] = {}  # tenant → events, sum of logarithms, sum of seconds
        self._refused = 0
        self._failing = 0
        self._failing_since: float | None = None
        self._failing_tenants: set[str] = set()
        self._slowest_s = 0.0
        self._answered_at = 0.0

    def answered(self, key: str, latency_s: float, now: float) -> None:
        """The cell answered one event well. `latency_s`: without the wait for a place in the cell."""
        self._failing = 0
        self._answered_at = now
        if latency_s < LEAST_S:
            latency_s = LEAST_S
        elif latency_s > self._slowest_s:
            self._slowest_s = latency_s
        sums = self._now.get(key)
        if sums is None:
            self._now[key] = [1, log(latency_s), latency_s]
        else:
            sums[0] += 1
            sums[1] += log(latency_s)
            sums[2] += latency_s

    def failed(self, key: str, now: float) -> None:
        """It answered, and not well: `retry` or `failed`."""
        self._refused += 1
        self._answered_at = now
        self._count_failure(key)

    def broke(self, keys: Collection[str]) -> None:
        """A batch got no answer, or not to its end: one failure, of these keys."""
        self._count_failure(*keys)

    def sample(
        self,
        generation: int,
        now: float,
        *,
        oldest_s: float = 0.0,
        waiting_tenants: int = 0,
        learning: bool = True,
        tenants: int = MAX_TENANTS,
    ) -> CellSample:
        """What was seen since the last call. `learning`: what is seen now is usual, for all that is known."""
        seen, self._now = self._now, {}
        refused, self._refused = self._refused, 0
        ok, log_s, busy_s = (sum(sums) for sums in zip(*seen.values(), strict=True)) if seen else (0, 0.0, 0.0)
        known = {key: usual for key in seen if (usual := self._usual.get(key)) is not None and usual.known(now)}
        if not self._failing or self._failing_since is None:
            self._failing_since = now if self._failing else None
        sample = CellSample(
            generation=generation,
            events=int(ok) + refused,
            ok=int(ok),
            log_s=log_s,
            work_s=sum(seen[key][0] * usual.mean_s for key, usual in known.items()),
            new_s=busy_s - sum(seen[key][2] for key in known),
            tenants={key: self._tenant(key, seen[key], now) for key in _reported(seen)},
            failing=self._failing,
            failing_tenants=len(self._failing_tenants) if self._failing else 0,
            failing_s=now - self._failing_since if self._failing_since is not None else 0.0,
            oldest_s=oldest_s,
            waiting_tenants=waiting_tenants,
            silent_s=min(oldest_s, max(0.0, now - self._answered_at)),
            slowest_s=self._slowest_s,
        )
        if self._learns(now, learning=learning):
            self._learn(seen, busy_s, now, tenants)
            self._slowest_s *= 1 - 1 / MEMORY_S
        return sample

    def replaced(self) -> None:
        """Another instance has the cell: the row of failures isn't its own. What is usual stays."""
        self._failing = 0
        self._failing_since = None
        self._failing_tenants.clear()

    def _count_failure(self, *keys: str) -> None:
        if not self._failing:
            self._failing_tenants.clear()
        self._failing += 1
        if len(self._failing_tenants) < REPORTED_TENANTS:
            self._failing_tenants.update(keys)

    def _tenant(self, key: str, sums: Sequence[float], now: float) -> TenantSample:
        events, log_s, busy_s = sums
        usual = self._usual.get(key)
        if usual is None:
            return TenantSample(round(events), busy_s, 0.0)
        off = log_s / events - usual.log_s if usual.known(now) else None
        whole = self._busy.value if self._busy is not None else 0.0
        share = usual.busy.value / whole if whole else 0.0
        return TenantSample(round(events), busy_s, min(1.0, share), off)

    def _learns(self, now: float, *, learning: bool) -> bool:
        if learning:
            self._frozen_at = None
            return True
        self._frozen_at = now if self._frozen_at is None else self._frozen_at
        return now - self._frozen_at > PATIENCE_S

    def _learn(self, seen: Mapping[str, list[float]], busy_s: float, now: float, most: int) -> None:
        self._busy = self._busy or Busy(now)
        self._busy.learn(busy_s, now)
        for key, (events, log_s, own_s) in seen.items():
            usual = self._usual.pop(key, None) or _TenantBaseline(now)
            usual.learn(round(events), log_s / events, own_s, now)
            self._usual[key] = usual
        while len(self._usual) > most:
            del self._usual[next(iter(self._usual))]


def _reported(seen: Mapping[str, list[float]]) -> set[str]:
    """By their number of events, not by how slow they are: that would make every cell look slow."""
    if len(seen) <= REPORTED_TENANTS:
        return set(seen)
    chosen = nlargest(REPORTED_TENANTS, seen, key=lambda key: seen[key][0])
    return {*chosen, max(seen, key=lambda key: seen[key][2])}
